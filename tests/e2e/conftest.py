"""The servers that these tests talk to."""

import pytest
from e2e_client import Client
from e2e_server import APPS, ROOT, ServerProcess

FRAMEWORKS = {
    "flask": "flask_app",
    "django": "django_app",
    "bottle": "bottle_app",
    "pyramid": "pyramid_app:create()",
}


@pytest.fixture
def serve(tmp_path):
    """Start a server of the test's own: `serve("trouble", "--threads", "2")`."""
    started = []

    def start(*arguments, app_dir=APPS, **options):
        started.append(ServerProcess(*arguments, cwd=tmp_path, app_dir=app_dir, **options))
        return started[-1]

    yield start
    for server in started:
        server.check()


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Return the server for some arguments, the same one for all tests that ask for it."""
    started = {}

    def get(*arguments, app_dir=APPS, files=None):
        key = (arguments, app_dir, files)
        if key not in started:
            folder = tmp_path_factory.mktemp("server")
            started[key] = ServerProcess(*arguments, cwd=folder, app_dir=app_dir, files=files)
        return started[key]

    yield get
    for server in started.values():
        server.check()


@pytest.fixture
def demo(shared):
    """The demo application on two threads."""
    return shared("--threads", "2")


@pytest.fixture(params=FRAMEWORKS)
def framework(request, shared):
    """An application of examples/, for each framework that is installed."""
    pytest.importorskip(request.param)
    server = shared(FRAMEWORKS[request.param], "--threads", "2", app_dir=ROOT / "examples")
    server.name = request.param
    server.expects_errors = True  # /error
    return server


@pytest.fixture
def connect():
    """Open a raw connection to a server; it is closed when the test ends."""
    opened = []

    def open_one(server, **options):
        opened.append(Client(server.address, **options))
        return opened[-1]

    yield open_one
    for client in opened:
        client.close()
