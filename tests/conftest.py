"""Options and fixtures of all tests."""

import socket
import sys

import pytest

from rocket.connection import Connection


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
