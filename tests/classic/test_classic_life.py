"""How the classic API starts, stops and starts again."""

import socket
import threading

import pytest
from classic_helpers import HERE, ask, hello
from core_helpers import PATIENCE, thread, until

from rocket import BindError


@pytest.mark.parametrize("handle_signals", [True, False])
def test_start_returns_when_another_thread_stops_it(make, handle_signals):
    server = make(handle_signals=handle_signals)
    with thread(server.start):
        until(lambda: server.servers[0].addresses)
        assert ask(server) == b"hello"
        server.stop()
    assert not server.servers[0].running


def test_a_stop_as_soon_as_start_has_begun_is_not_lost(make, hasty_threads):
    for _ in range(30):
        server = make(min_threads=1)
        with thread(server.start):
            until(lambda server=server: server._starter)
            server.stop()
        assert not server.servers[0].running


@pytest.mark.parametrize("handle_signals", [True, False])
def test_start_returns_when_a_handler_stops_it(make, handle_signals):
    def app(environ, start_response):
        server.stop()
        return hello(environ, start_response)

    server = make(app, handle_signals=handle_signals)
    with thread(server.start):
        until(lambda: server.servers[0].addresses)
        assert ask(server) == b"hello"


def test_restart_in_the_background(make):
    server = make()
    server.start(background=True)
    server.restart()
    assert ask(server) == b"hello"
    server.stop()
    with pytest.raises(RuntimeError):
        ask(server)


def test_restart_is_done_by_the_thread_that_is_in_start(make):
    serving = []

    def app(environ, start_response):
        serving.append(server.servers[0].stats["uptime"])
        return hello(environ, start_response)

    server = make(app, handle_signals=False)
    with thread(server.start):
        until(lambda: server.servers[0].addresses)
        first = server.servers[0]._running
        server.restart()
        until(lambda: server.servers[0].addresses and server.servers[0]._running is not first)
        assert ask(server) == b"hello"
        server.stop()


def test_stop_before_start_and_twice_does_nothing(make):
    server = make()
    server.stop()
    server.start(background=True)
    server.stop()
    server.stop()


def test_starting_twice_is_an_error(make):
    server = make()
    server.start(background=True)
    with pytest.raises(RuntimeError, match="running already"):
        server.start(background=True)
    assert ask(server) == b"hello"


def test_start_after_a_start_in_the_background_waits_for_its_end(make):
    server = make()
    server.start(background=True)
    with thread(server.start):
        assert ask(server) == b"hello"
        until(lambda: server._starter)
        server.stop()
    assert not server.servers[0].running


def test_stop_finishes_what_is_in_progress(make):
    begun, release = threading.Event(), threading.Event()

    def app(environ, start_response):
        begun.set()
        assert release.wait(PATIENCE)
        return hello(environ, start_response)

    server = make(app, graceful_timeout=PATIENCE)
    server.start(background=True)
    answers = []
    with thread(lambda: answers.append(ask(server))):
        assert begun.wait(PATIENCE)
        with thread(server.stop):
            until(lambda: server.servers[0]._running.draining)
            release.set()
    assert answers == [b"hello"]


def test_stop_may_stop_the_logging_no_more(make):
    with pytest.warns(DeprecationWarning, match="stoplogging"):
        make().stop(stoplogging=True)


@pytest.mark.parametrize("background", [True, False])
def test_an_address_that_is_taken_is_an_error(make, background):
    with socket.socket() as taken:
        taken.bind(HERE)
        taken.listen()
        port = taken.getsockname()[1]
        server = make(interfaces=[HERE, ("127.0.0.1", port)])
        with pytest.raises(BindError, match=str(port)):
            server.start(background)
    assert not server.servers[0].running


def test_signals_handlers_are_only_for_the_main_thread(make):
    server = make()
    with thread(server.start, True):
        pass
    assert ask(server) == b"hello"
