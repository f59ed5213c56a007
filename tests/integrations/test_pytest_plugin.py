"""The fixture `rocket_server`: in runs of pytest of their own, as its users have them."""

import subprocess
import sys

import pytest
from core_helpers import PATIENCE
from process_helpers import ROOT

PLUGIN = "rocket.integrations.pytest_plugin"
TESTS = """
import threading
import urllib.error
import urllib.request

import pytest

def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError("the application's own")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]

def ask(url):
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.read()

kept = []

def test_serves(rocket_server):
    server = rocket_server(app)
    kept.append(server)
    assert ask(server.url + "hello") == b"/hello"

def test_was_stopped_at_the_end_of_the_test_before():
    assert kept and not kept[0].running
    for each in threading.enumerate():
        if each.name.startswith("rocket"):
            each.join(20)
            assert not each.is_alive()

def test_several_with_options(rocket_server):
    one, two = rocket_server(app, max_threads=1, monitor="poll"), rocket_server(app)
    assert one.url != two.url
    assert one.stats["max_threads"] == 1
    assert ask(one.url) == ask(two.url) == b"/"

def test_a_server_that_the_test_has_stopped(rocket_server):
    rocket_server(app).stop()

def test_with_a_config(rocket_server):
    from rocket import Config
    assert rocket_server(app, config=Config(bind="127.0.0.1:0", max_threads=3)).stats["max_threads"] == 3

def test_an_error_in_the_application_is_in_the_log(rocket_server, caplog):
    server = rocket_server(app)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        ask(server.url + "fail")
    assert "the application's own" in caplog.text

def test_wrong_options(rocket_server):
    with pytest.raises(ValueError, match="max_threads"):
        rocket_server(app, max_threds=1)
"""


@pytest.fixture
def run(tmp_path):
    """Run pytest on a file with this text, the plugin loaded by its name whether it is installed or not."""

    def run(text, *arguments):
        (tmp_path / "test_of_a_user.py").write_text(text)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_it_starts_servers_and_stops_them(run):
    code, output = run(TESTS, "-p", PLUGIN, "-W", "error")
    assert code == 0, output
    assert "7 passed" in output


def test_it_is_shown_among_the_fixtures(run):
    _, output = run("", "-p", PLUGIN, "--fixtures")
    assert "rocket_server" in output
    assert "Start servers for a test" in output


def test_it_imports_next_to_nothing_until_it_is_used(run):
    code, output = run(
        "import sys\n"
        "def test_light():\n"
        "    heavy = {'rocket.server', 'rocket.config', 'psutil', 'click', 'django', 'rocket.classic'}\n"
        "    assert not heavy & set(sys.modules)\n"
        f"    assert {PLUGIN!r} in sys.modules\n",
        "-p",
        PLUGIN,
    )
    assert code == 0, output


def test_it_is_loaded_by_its_entry_point(run, pytestconfig):
    """In this run too, if the installation is new enough to have it."""
    if not pytestconfig.pluginmanager.has_plugin("rocket"):
        pytest.skip("rocket is not installed, or by a version without the entry point")
    assert pytestconfig.pluginmanager.get_plugin("rocket").__name__ == PLUGIN
