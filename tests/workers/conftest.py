"""Fixtures of the workers' tests."""

import socket

import pytest
from workers_helpers import Stand


@pytest.fixture
def stand(make_connection):
    """What makes a `Stand`."""

    def make(app=None, *, output_limits=(1 << 20, 1 << 28), **options):
        connection, theirs = make_connection(output_limits=output_limits)
        return Stand(connection, theirs, app, **options)

    return make


@pytest.fixture
def slow_reader(stand):
    """What makes a `Stand` whose peer's socket takes a few KB at a time."""

    def make(app=None, **options):
        made = stand(app, **options)
        made.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made

    return make


@pytest.fixture
def tell_errors(caplog):
    """What returns the messages of level ERROR that were logged since it was asked last."""

    def tell():
        messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        caplog.clear()
        return messages

    return tell
