"""Options and fixtures of all tests."""

import os
import signal
import socket
import sys

import pytest
from hypothesis import HealthCheck, settings

from rocket.connection import Connection

# How long an example takes is the machine's business, not the property's. In CI the examples are the same each time:
# a run fails for what was changed, and not for what was found by chance; fuzzing is what looks for more.
settings.register_profile(
    "rocket", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("rocket")


def pytest_configure(config):
    # A shell without job control starts what it puts into the background with SIGINT ignored, and all that is started
    # from there inherits it: the tests that send SIGINT would wait in vain.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take many seconds, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def hasty_threads():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def make_connection():
    """What makes a connection and its peer's socket, and closes both at the end."""
    made = []

    def make(**options):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(20)
        connection = Connection(ours, ("192.0.2.1", "4711"), **options)
        made.append((connection, theirs))
        return connection, theirs

    yield make
    for connection, theirs in made:
        connection.close()
        theirs.close()
