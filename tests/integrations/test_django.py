"""`manage.py rocket`, in the project of examples/django_project with a real database."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error

import pytest
from core_helpers import PATIENCE, until
from process_helpers import ROOT

pytest.importorskip("django")
PROJECT = ROOT / "examples" / "django_project"

# A database engine that tells in which thread a connection is opened and closed.
SPY = """
import os, threading
from django.db.backends.sqlite3 import base

def tell(what):
    os.write(1, f"{what} by {threading.current_thread().name}\\n".encode())  # in one piece, beside other threads

class DatabaseWrapper(base.DatabaseWrapper):
    def connect(self):
        super().connect()
        tell("opened")

    def close(self):
        was_open = self.connection is not None
        super().close()
        if was_open:
            tell("closed")
"""
SETTINGS = """
from mysite.settings import *
DATABASES["default"]["ENGINE"] = "spy"
"""


def manage(*arguments, **variables):
    """Run a command of manage.py that ends by itself."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("django") / "notes.sqlite3"
    done = manage("migrate", "-v0", NOTES_DATABASE=str(path))
    assert done.returncode == 0, done.stderr
    return str(path)


@pytest.fixture
def rocket(start, database):
    """Start `manage.py rocket 0` with these arguments and variables."""

    def rocket(*arguments, **variables):
        variables = {"NOTES_DATABASE": database, **variables}
        return start("manage.py", "rocket", "0", *arguments, folder=PROJECT, **variables)

    return rocket


def together(process, path, count):
    """Ask for *path* *count* times at once, and return the answers."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(json.loads(process.ask(path)))) for _ in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    return answers


def status(process, path):
    try:
        process.ask(path)
    except urllib.error.HTTPError as answer:
        return answer.code
    return 200


def test_it_serves_the_project_until_sigterm(rocket):
    process = rocket()
    process.ask(data=b"text=hello")
    assert "hello" in json.loads(process.ask())["notes"]
    assert "settings 'mysite.settings', DEBUG is True" in process.log
    assert process.stop() == 0
    assert "Traceback" not in process.log


def test_ctrl_c_ends_it(rocket):
    process = rocket()
    process.url()
    process.line("DEBUG is")
    process.signal(signal.SIGINT)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("debug", "flags", "expected"),
    [("1", [], 200), ("1", ["--nostatic"], 404), ("0", [], 404), ("0", ["--insecure"], 200)],
)
def test_static_files_are_served_as_runserver_does(rocket, debug, flags, expected):
    process = rocket(*flags, DJANGO_DEBUG=debug)
    assert status(process, "static/notes/style.css") == expected


def test_options_come_from_flags_the_environment_and_a_file(rocket, tmp_path):
    file = tmp_path / "options.toml"
    file.write_text("monitor = 'poll'\nmax_threads = 3\n")
    process = rocket("--min-threads", "1", "--config", str(file), ROCKET_MAX_THREADS="5")
    process.line("1 to 5 threads")
    assert "monitor poll" in process.log


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rocket", "nowhere"], 2, "'nowhere'"),
        (["rocket", "0", "--bind", ":0"], 2, "both an address"),
        (["rocket", "0", "--max-threads", "many"], 2, "max_threads must be"),
        (["rocket", "0", "--monitor", "psychic"], 2, "psychic"),
        (["rocket", "0", "--max-threeds", "1"], 2, "max-threeds"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else None,
)
def test_wrong_options_are_told_in_a_line(arguments, code, message):
    done = manage(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_told_in_a_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = manage("rocket", str(port))
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_database_connections_are_closed_by_the_thread_that_ends(rocket, tmp_path):
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "__init__.py").touch()
    (tmp_path / "spy" / "base.py").write_text(SPY)
    (tmp_path / "spy_settings.py").write_text(SETTINGS)
    process = rocket(
        *("--min-threads", "1", "--max-threads", "4", "--scaling", "queue", "--thread-idle-timeout", "0.05"),
        PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path), str(PROJECT)]),
        DJANGO_SETTINGS_MODULE="spy_settings",
    )
    threads = set()

    def overlap():  # they do so at once, if the four of them are asked within 0.3 s
        threads.update(answer["thread"] for answer in together(process, "slow?s=0.3", 4))
        return len(threads) > 1

    until(overlap)
    for name in threads:
        process.line(f"opened by {name}$")  # and kept, because CONN_MAX_AGE is None
    first = process.line(r"closed by (rocket-worker-\d+)")[1]
    assert first in threads
    until(lambda: json.loads(process.ask("connections"))["threads"] < 4)  # it was retired, the server goes on
    assert process.stop() == 0
    for name in threads:
        assert process.log.count(f"closed by {name}") == process.log.count(f"opened by {name}") == 1


def test_the_program_of_the_example_closes_them_too(start, database):
    arguments = ("--bind", "127.0.0.1:0", "--max-threads", "4", "--scaling", "queue", "--thread-idle-timeout", "0.05")
    process = start("serve.py", *arguments, folder=PROJECT, NOTES_DATABASE=database)
    # More than the two that are kept, if the four are asked within 0.3 s.
    until(lambda: len({answer["thread"] for answer in together(process, "slow?s=0.3", 4)}) > 2)
    process.line("ends, database connections closed: 1")

    def figures():
        return json.loads(process.ask("connections"))

    until(lambda: figures()["threads"] < 4)
    found = figures()
    assert found["opened"] > found["closed"] > 0
    assert process.stop() == 0


def test_rocket_serve_takes_the_same_project(start, database):
    process = start(
        *("-m", "rocket", "serve", "mysite.wsgi", "--bind", "127.0.0.1:0"), folder=PROJECT, NOTES_DATABASE=database
    )
    assert "notes" in json.loads(process.ask())
    assert process.stop() == 0
