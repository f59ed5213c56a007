"""A server to attack."""

import pytest
from faults_server import Server


@pytest.fixture
def serve(tmp_path):
    """Start a server of the test's own: `serve("--threads", "2")`. It must end well."""
    started = []

    def start(*arguments, **options):
        started.append(Server(*arguments, cwd=tmp_path, **options))
        return started[-1]

    yield start
    for server in started:
        server.check()
