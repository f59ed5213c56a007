"""A server to attack. `python -m pytest tests/faults --slow` does it in full size."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))  # their server and their client

from faults_client import lateness
from faults_server import Server


@pytest.fixture(autouse=True, scope="session")
def late_machine():
    """Watch from the first test on how late the machine is, for `allowed`."""
    lateness.start()
    yield
    lateness.stop()


@pytest.fixture
def serve(tmp_path):
    """Start a server of the test's own: `serve("--threads", "2")`. It must end well, and without a traceback."""
    started = []

    def start(*arguments, **options):
        started.append(Server(*arguments, cwd=tmp_path, **options))
        return started[-1]

    yield start
    for server in started:
        server.check()
