"""Servers are started, run, signalled, started again; what cannot be is refused. (Their end: test_server.py.)"""

import contextlib
import gc
import http.client
import signal
import socket
import subprocess
import sys
import threading
import weakref

import pytest
from core_helpers import PATIENCE, all_ended, count_descriptors, thread, until
from process_helpers import ROOT
from server_helpers import GET, App, answer, ask, connect, rest, rocket_threads, serving

from rocket import BindError, ConfigError, Server, Worker, WSGIWorker
from rocket.workers.base import CLOSE, READ_MORE


@pytest.fixture
def app():
    return App()


@pytest.fixture
def serve(app):
    with serving(app, bind="127.0.0.1:0") as serve:
        yield serve


def test_start_and_stop_20_times_leaks_nothing(app):
    server = Server(app, bind="127.0.0.1:0")
    before = None
    for _ in range(20):
        server.start()
        assert ask(server) == (200, b"hello")
        server.stop()
        assert not server.running
        if before is None:
            before = count_descriptors()  # what Python opened for the first request stays
    until(lambda: count_descriptors() <= before)
    all_ended("rocket-")


def test_worker_goes_with_its_thread(serve):
    """A pool that grows and shrinks for weeks must not keep what each of its threads had."""
    workers = []

    class Noted(WSGIWorker):
        def __init__(self, *args):
            super().__init__(*args)
            workers.append(weakref.ref(self))

    server = serve(worker=Noted, scaling="fixed:3", min_threads=1, max_threads=3, thread_idle_timeout=0.01)
    until(lambda: server.stats["threads"] == 3)
    made = len(workers)
    server.scaling = "fixed:1"
    until(lambda: server.stats["threads"] == 1)
    server.scaling = "fixed:2"  # what starts a thread looks for workers that are gone
    until(lambda: server.stats["threads"] == 2)
    until(lambda: gc.collect() >= 0 and sum(ref() is not None for ref in workers) == made - 1)
    assert ask(server) == (200, b"hello")


def test_two_servers_in_one_process(serve):
    one, other = serve(), serve(monitor="poll")
    assert one.addresses != other.addresses
    with connect(one, GET % b"") as sock:
        answer(sock)
        other.stop()
        sock.sendall(GET % b"")
        assert answer(sock)[1] == b"hello"


def test_server_off_the_main_thread(app):
    server = Server(app, bind="127.0.0.1:0")
    with thread(server.serve_forever):
        until(lambda: server.running)
        assert ask(server) == (200, b"hello")
        server.stop()
    assert not server.running


@pytest.mark.parametrize("method", ["drain", "stop"])
def test_a_signals_handler_of_the_program_may_stop_serve_forever(app, method):
    server = Server(app, bind="127.0.0.1:0")
    before = signal.signal(signal.SIGUSR2, lambda *_: getattr(server, method)())
    try:
        server.serve_forever(lambda: signal.raise_signal(signal.SIGUSR2), handle_signals=False)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert not server.running


def test_the_second_call_of_a_signals_handler_does_not_wait(app):
    server = Server(app, bind="127.0.0.1:0", graceful_timeout=1000)
    before = signal.signal(signal.SIGUSR2, lambda *_: server.drain())
    main = threading.get_ident()

    def ask_and_stop():
        with contextlib.suppress(OSError, http.client.HTTPException):  # cut off
            ask(server, "wait")

    def signal_twice():
        assert app.begun.acquire(timeout=PATIENCE)
        signal.pthread_kill(main, signal.SIGUSR2)
        until(lambda: server._running is None or server._running.draining)
        signal.pthread_kill(main, signal.SIGUSR2)

    try:
        with contextlib.ExitStack() as stack:

            def ready():
                stack.enter_context(thread(ask_and_stop))
                stack.enter_context(thread(signal_twice))

            server.serve_forever(ready, handle_signals=False)
            app.release.set()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert not server.running


def test_what_a_signals_handler_raises_ends_serve_forever(app):
    def interrupt(*_):
        raise KeyboardInterrupt

    server = Server(app, bind="127.0.0.1:0")
    before = signal.signal(signal.SIGUSR2, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever(lambda: signal.raise_signal(signal.SIGUSR2), handle_signals=False)
        assert server.running  # what becomes of it is the program's to say, now
    finally:
        signal.signal(signal.SIGUSR2, before)
        server.stop()
    assert not server.running


def test_serve_forever_after_a_stop(app):
    server = Server(app, bind="127.0.0.1:0")
    server.start()
    server.stop()
    with thread(server.serve_forever) as running:
        until(lambda: server.running)
        running.join(0.2)
        alive = running.is_alive()
        server.stop()
    assert alive


def test_context_manager_starts_and_drains(app):
    with Server(app, bind="127.0.0.1:0") as server:
        assert ask(server) == (200, b"hello")
        url = server.url
    assert url.startswith("http://127.0.0.1:")
    assert server.addresses == []
    assert server.stats == {"running": False}
    with pytest.raises(RuntimeError):
        assert server.url


def test_several_binds(app):
    with Server(app, bind=["127.0.0.1:0", "127.0.0.1:0", "localhost:0"]) as server:
        assert len(server.addresses) >= 3
        assert len(set(server.addresses)) == len(server.addresses)
        for address in server.addresses:
            with socket.create_connection(address, timeout=PATIENCE) as sock:
                sock.sendall(GET % b"")
                assert answer(sock)[1] == b"hello"


def test_taken_port_is_named_and_nothing_is_left(serve, app):
    port = serve().addresses[0][1]
    threads, before = set(rocket_threads()), count_descriptors()
    server = Server(app, bind=["127.0.0.1:0", f"127.0.0.1:{port}"])
    with pytest.raises(BindError, match=f"127.0.0.1:{port}"):
        server.start()
    assert not server.running
    until(lambda: set(rocket_threads()) <= threads)
    # Fewer may be open than before, what an earlier test left to the garbage collector; and for a moment one more, of
    # the other server's, which reads a file about the host.
    until(lambda: count_descriptors() <= before)


ONE_MORE_DESCRIPTOR_EACH_TIME = """
import resource, socket
from rocket import RocketError, Server

server = Server(print, bind="127.0.0.1:0")
with server:
    pass  # all that is imported late is there from here on
with socket.socket() as sock:
    lowest = sock.fileno()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for limit in range(lowest, lowest + 100):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with server:
            break
    except RocketError as exc:
        print(exc)
else:
    print("never started")
"""


def test_a_start_without_descriptors_says_what_failed():
    """Whatever it is that the last one was missing for."""
    found = subprocess.run(
        [sys.executable, "-c", ONE_MORE_DESCRIPTOR_EACH_TIME],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        check=False,
    )
    assert found.stderr == ""
    told = found.stdout.splitlines()
    assert len(told) > 1
    assert all(line.endswith(": Too many open files") for line in told), told


def test_unknown_option_is_named(app):
    with pytest.raises(ConfigError, match="max_threads"):
        Server(app, max_thread=3)


def test_starting_twice_is_refused(serve):
    server = serve()
    with pytest.raises(RuntimeError, match="running already"):
        server.start()


def test_stopping_twice_is_not(serve):
    server = serve()
    with thread(server.stop), thread(server.stop), thread(server.drain):
        pass
    server.stop()
    assert server.drain()


class Shout(Worker):
    """Another protocol: lines, in capitals."""

    def serve(self, connection):
        line = connection.readline()
        if line is None:
            connection.deadline = self._clock() + PATIENCE
            return READ_MORE
        connection.write(line.upper())
        return CLOSE


def test_worker_of_one_s_own():
    with Server(None, bind="127.0.0.1:0", worker=Shout, defer_accept=False) as server, connect(server, b"hel") as sock:
        sock.sendall(b"lo\n")
        assert rest(sock) == b"HELLO\n"
