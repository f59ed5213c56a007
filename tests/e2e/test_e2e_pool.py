"""Handlers that take long do not stop the others, whatever the server was doing before."""

import signal
import sys

import pytest
from e2e_server import until

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@needs_proc
def test_a_new_client_is_served_beside_a_handler_that_blocks(serve, connect):
    server = serve("trouble", "--threads", "2")
    connect(server).ask("/hello")
    server.rest()
    holding = connect(server)
    holding.get("/hold")
    server.line("^holding$")
    assert connect(server).ask("/hello").body == b"hello\n"
    server.signal(signal.SIGUSR1)
    assert holding.answer().body == b"hello\n"


@needs_proc
def test_a_kept_client_is_served_beside_a_handler_that_blocks(serve, connect):
    server = serve("trouble", "--threads", "2")
    waiting, holding = connect(server), connect(server)
    assert waiting.ask("/hello").status == holding.ask("/hello").status == 200
    server.rest()
    holding.get("/hold")
    server.line("^holding$")
    assert waiting.ask("/hello").body == b"hello\n"
    server.signal(signal.SIGUSR1)
    assert holding.answer().body == b"hello\n"


@needs_proc
def test_two_new_clients_at_once_are_served_beside_each_other(serve, connect):
    server = serve("trouble", "--threads", "2")
    connect(server).ask("/hello")
    server.rest()
    clients = [connect(server), connect(server)]
    for client in clients:
        client.get("/hold")
    until(lambda: server.log.count("holding") == 2, "both hold")
    server.signal(signal.SIGUSR1)
    assert [client.answer().body for client in clients] == [b"hello\n"] * 2


def test_the_pool_grows_for_handlers_that_wait(serve, connect):
    server = serve("trouble", "--threads", "1:8")
    holding = [connect(server) for _ in range(7)]
    for client in holding:
        client.get("/hold")
    until(lambda: server.log.count("holding") == 7, "seven handlers hold")
    assert connect(server).ask("/hello").body == b"hello\n"
    server.signal(signal.SIGUSR1)
    assert [client.answer().body for client in holding] == [b"hello\n"] * 7
