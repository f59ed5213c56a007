"""`rocket tune`, as it is typed. The applications run in processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rocket.bench.load import environment
from rocket.config import Config

ROOT = Path(__file__).parents[2]
APPLICATION = """
import time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        time.sleep(0.01)
    if path == "/broken":
        raise RuntimeError("on purpose")
    status = {"/nothing": "404 Not Found", "/moved": "302 Found"}.get(path, "200 OK")
    start_response(status, [("Content-Length", "2"), ("Location", "/")])
    return [b"ok"]
"""

DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="for a test",
    ALLOWED_HOSTS=["www.example.com"],
    # The host is asked for by this, and by whatever makes an absolute URL.
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    LOGGING={
        "version": 1,
        "handlers": {"all": {"class": "logging.StreamHandler"}},
        "loggers": {"django.security": {"handlers": ["all"]}},
    },
)
urlpatterns = [path("", lambda request: HttpResponse("ok"))]
application = get_wsgi_application()
"""


@pytest.fixture
def rocket(tmp_path):
    """What runs `rocket tune` in a folder with an application, and returns what it did."""
    (tmp_path / "tuned.py").write_text(APPLICATION)
    clean = {name: value for name, value in environment().items() if not name.startswith("ROCKET_")}

    def run(*arguments, **env):
        command = [sys.executable, "-m", "rocket", "tune", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**clean, **env}, capture_output=True, text=True, timeout=180, check=False
        )

    return run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument 'APP'"),
        (["tuned", "--url", "http://example.com/"], 2, "is another host: only the application that is started here"),
        (["tuned", "--url", "nothing"], 2, "is not a path: it must begin with /"),
        (["tuned", "--header", "nonsense"], 2, "is not NAME: VALUE"),
        (
            ["tuned", "--budget", "1"],
            2,
            "1 s is too short: at least 20 s are needed (8 steps up to 128 clients",
        ),
        (["tuned", "--budget", "19"], 2, "at least 20 s"),
        (["tuned", "--budget", "8", "--connections", "2"], 2, "at least 12 s are needed (2 steps up to 2 clients"),
        (["tuned", "--budget", "nan"], 2, "--budget: nan s is too short"),
        (["tuned", "--budget", "3601"], 2, "--budget: 3601 s is more than 3600 s"),
        (["tuned", "--connections", "1"], 2, "--connections"),
        (["tuned", "--scaling", "nosuch"], 2, "unknown policy 'nosuch'"),
        (["tuned", "--max-threads", "many"], 2, "max_threads must be a whole number"),
        ([""], 2, "'' is not MODULE, MODULE:NAME"),
        (["nosuch"], 4, "there is no module 'nosuch'"),
        (["tuned:nosuch"], 4, "has no attribute 'nosuch'"),
        (["tuned", "--url", "/", "--url", "/nothing"], 1, "GET /nothing answers 404: ok"),
        (["tuned", "--url", "/broken"], 1, "GET /broken answers 500"),
    ],
)
def test_mistakes_are_told(rocket, arguments, code, message):
    done = rocket(*arguments)
    assert message in done.stderr
    assert done.returncode == code


def test_django_that_refuses_the_host_is_told_of_and_takes_another(rocket, tmp_path):
    pytest.importorskip("django")
    (tmp_path / "site_of_one.py").write_text(DJANGO)
    arguments = ["site_of_one", "--connections", "2", "--budget", "14"]
    done = rocket(*arguments)
    assert done.returncode == 1
    assert "GET / answers 400" in done.stderr
    assert "the Host '127.0.0.1:" in done.stderr
    assert "Django: ALLOWED_HOSTS" in done.stderr
    assert "--header 'Host: www.example.com'" in done.stderr
    assert "You may need to add '127.0.0.1' to ALLOWED_HOSTS" in done.stderr  # what it has printed itself
    wrong = rocket(*arguments, "--header", "host: elsewhere.example")
    assert "the Host 'elsewhere.example'" in wrong.stderr


@pytest.mark.slow
def test_django_is_tuned_under_the_host_that_it_takes(rocket, tmp_path):
    pytest.importorskip("django")
    (tmp_path / "site_of_one.py").write_text(DJANGO)
    done = rocket(
        "site_of_one", "--connections", "2", "--budget", "14", "--header", "host: www.example.com", "--output", "found"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found" / "tune.json").read_text())
    assert all(sample["requests"] and not sample["errors"] for sample in found["sweep"])
    # How many is the machine's affair: what was due while it was late is sent afterwards.
    assert all(sample["sent"] and sample["requests"] and not sample["errors"] for sample in found["rates"])


def test_an_application_that_fails_to_import_shows_its_traceback(rocket, tmp_path):
    (tmp_path / "failing.py").write_text("import json\njson.loads('oops')\n")
    done = rocket("failing:app")
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert 'File "' + str(tmp_path / "failing.py") in done.stderr
    assert "JSONDecodeError" in done.stderr


@pytest.mark.slow
def test_a_whole_session_keeps_its_figures_and_prints_a_block_that_is_read(rocket, tmp_path):
    arguments = ["--url", "/wait", "--url", "/moved", "--connections", "4", "--budget", "15", "--output", "found"]
    done = rocket("tuned", *arguments, "--threads", "1:2", ROCKET_KEEP_ALIVE="9")
    assert done.returncode == 0, done.stderr
    assert "The limit is " in done.stdout  # which one depends on who else uses the machine
    assert "/moved answers 302, a redirection" in done.stdout
    assert "4 clients:" in done.stderr
    block = done.stdout[done.stdout.index("[tool.rocket]") :]
    (tmp_path / "pyproject.toml").write_text(block)
    assert Config.load({}, {}, tmp_path).max_threads >= 1
    found = json.loads((tmp_path / "found" / "tune.json").read_text())
    assert found["complete"]
    assert found["paths"] == ["/wait", "/moved"]
    assert [sample["connections"] for sample in found["sweep"]] == [1, 2, 4]
    assert (tmp_path / "found" / "application.log").exists()


@pytest.mark.slow
def test_an_interrupt_prints_what_is_known_and_leaves_no_process(tmp_path):
    (tmp_path / "tuned.py").write_text(APPLICATION)
    (tmp_path / "noted.py").write_text("import os\nopen('pid', 'w').write(str(os.getpid()))\nfrom tuned import app\n")
    command = [sys.executable, "-m", "rocket", "tune", "noted", "--budget", "60"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        for line in process.stderr:
            if "1 client:" in line:
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted: this is what was known by then" in out
    assert "[tool.rocket]" in out
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
