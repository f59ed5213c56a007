"""The whole server over real sockets: life, limits, deadlines, fairness, and what is left afterwards."""

import contextlib
import gc
import logging
import os
import resource
import socket
import sys
import threading
import time

import pytest
from core_helpers import PATIENCE, all_ended, count_descriptors, kill, thread, until
from server_helpers import BIG, GET, POST, App, answer, ask, connect, rest, serving

from rocket import ConfigError, Server, Worker
from rocket.monitors import MONITORS
from rocket.parts import FRESH, _may_go

HERE = [name for name, monitor in MONITORS.items() if monitor.unavailable() is None]


class StubbornApp(App):
    """Also: /stream has no end; /stop stops the server; /fail ends the thread, if it can."""

    def __init__(self):
        super().__init__()
        self.closed = threading.Event()
        self.answers = {}  # path -> what makes a body

    def answer(self, path, environ):
        if path == "/stream":
            return self.stream()
        if path[1:] in self.answers:
            return self.answers[path[1:]]()
        if path == "/stop":
            self.server.stop()
        elif path == "/fail":
            raise SystemExit
        return super().answer(path, environ)

    def stream(self):
        try:
            while True:
                yield b"x" * 65536
        finally:
            self.closed.set()


@pytest.fixture
def app():
    return StubbornApp()


@pytest.fixture
def serve(app):
    with serving(app, bind="127.0.0.1:0") as serve:
        yield serve


def balanced(server):
    stats = server.stats
    return stats["busy"] == 0 and stats["accepted"] == stats["queued"] + stats["parked"] + stats["closed"]


# ---------------------------------------------------------------------- serving


@pytest.mark.parametrize("monitor", HERE)
def test_requests_are_answered_on_every_monitor(serve, monitor):
    server = serve(monitor=monitor)
    assert ask(server) == (200, b"hello")
    assert ask(server, "echo", "POST", b"abc") == (200, b"abc")
    with connect(server) as sock:
        for _ in range(3):
            sock.sendall(GET % b"")
            assert answer(sock)[1] == b"hello"
        sock.sendall(GET % b"" * 5)
        data = b""
        while data.count(b"hello") < 5:
            data += sock.recv(65536)
    until(lambda: balanced(server))


@pytest.mark.parametrize("monitor", HERE)
def test_accounts_balance_whenever_it_is_quiet(serve, monitor):
    server = serve(monitor=monitor, max_threads=6)
    with connect(server) as silent, connect(server, b"GET / HT") as half, connect(server, GET % b"") as kept:
        answer(kept)

        def client():
            for i in range(15):
                with connect(server, GET % b"") as sock:
                    if i % 3:
                        answer(sock)

        with thread(client), thread(client), thread(client):
            pass
        until(lambda: balanced(server) and server.stats["parked"] == 3)
        assert server.stats["accepted"] == 48
        assert all((silent, half))
    until(lambda: balanced(server) and server.stats["parked"] == 0)


@pytest.mark.parametrize("monitor", HERE)
def test_silent_and_slow_clients_hold_no_thread(serve, monitor):
    server = serve(monitor=monitor, min_threads=1, max_threads=2)
    crowd = [connect(server, data) for data in (b"", b"G", POST % b"/echo" + b"ab")]
    readers = [connect(server, GET % b"big") for _ in range(4)]
    try:
        for _ in range(5):
            assert ask(server) == (200, b"hello")
        for reader in readers:
            assert len(answer(reader)[1]) == BIG
    finally:
        for sock in crowd + readers:
            sock.close()


@pytest.mark.parametrize("monitor", HERE)
def test_stuck_handlers_do_not_stop_the_others(serve, app, monitor):
    server = serve(monitor=monitor, min_threads=1, max_threads=4, scaling="fixed")
    stuck = [connect(server, GET % b"wait") for _ in range(3)]
    for _ in stuck:
        assert app.begun.acquire(timeout=PATIENCE)
    for _ in range(20):
        assert ask(server) == (200, b"hello")
    app.release.set()
    for sock in stuck:
        assert answer(sock)[1] == b"hello"
        sock.close()


def test_pipelining_flood_starves_nobody(serve):
    server = serve(min_threads=1, max_threads=1, max_requests_per_connection=0)
    with connect(server) as flood:
        end = threading.Event()

        def read():
            while not end.is_set():
                flood.recv(1 << 20)

        def write():
            while not end.is_set():
                flood.sendall(GET % b"" * 100)

        with thread(read), thread(write):
            for _ in range(10):
                assert ask(server) == (200, b"hello")
            end.set()


def test_handler_that_exits_takes_no_thread_with_it(serve, caplog):
    server = serve(min_threads=2, max_threads=2)
    for _ in range(5):
        assert ask(server, "fail")[0] == 500
    assert ask(server) == (200, b"hello")
    assert server.stats["threads"] == 2


@pytest.mark.parametrize("monitor", HERE)
def test_killed_threads_are_replaced(serve, monitor):
    server = serve(monitor=monitor, min_threads=3, max_threads=3)
    victims = list(server._running.pool.threads)
    for victim in victims:
        kill(victim)
    for _ in range(10):
        assert ask(server) == (200, b"hello")
    app_threads = server._running.pool.threads
    until(lambda: server.stats["threads"] == 3)
    assert len(app_threads) <= 3
    until(lambda: balanced(server))


def test_killed_handler_is_answered(serve, app):
    server = serve(min_threads=2, max_threads=2)
    with connect(server, GET % b"wait") as sock:
        assert app.begun.acquire(timeout=PATIENCE)
        until(lambda: server.stats["busy"] == 1)
        (slot,) = (slot for slot in server._running.pool.crew.slots if slot.connection is not None)
        kill(slot.thread)
        app.release.set()
        assert b" 500 " in answer(sock)[0].split(b"\r\n")[0]
    assert ask(server) == (200, b"hello")


def test_idle_server_does_nothing(serve):
    server = serve(min_threads=2, max_threads=8, scaling="queue")
    with connect(server, GET % b"") as sock:
        answer(sock)
        parts = server._running
        until(lambda: parts.controller._asleep and parts.pool.quiet and parts.pool.counts().awake == 1)
        poll, polls = parts._reactor.monitor.poll, []
        parts._reactor.monitor.poll = lambda timeout: polls.append(timeout) or poll(timeout)

        def rests():
            used = time.process_time()  # of all threads, also of those of a test before that are about to end
            assert not parts._drained.wait(0.3)
            return time.process_time() - used < 0.1

        until(rests)
        assert polls == []


# ---------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("monitor", HERE)
def test_kept_connection_is_closed_after_keep_alive(serve, monitor):
    server = serve(monitor=monitor, keep_alive=0.1)
    with connect(server, GET % b"") as sock:
        assert answer(sock)[1] == b"hello"
        assert rest(sock) == b""


def connect_in_time(server, data, seconds):
    """Return a socket on which *data* was there within *seconds* of the connection.

    Who comes later is closed without a word, as one that is silent, and it is the machine that was late.
    """
    while True:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            sock = connect(server, data)
            if time.monotonic() - began < seconds:
                return sock
            sock.close()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", POST % b"/echo" + b"ab"])
@pytest.mark.parametrize("monitor", HERE)
def test_half_a_request_is_answered_408(serve, monitor, data):
    server = serve(monitor=monitor, head_timeout=0.1, body_timeout=0.1, min_threads=1, max_threads=1)
    with connect_in_time(server, data, 0.1) as sock:
        assert rest(sock).startswith(b"HTTP/1.1 408 ")


def test_silent_connection_is_closed_without_a_word(serve):
    server = serve(head_timeout=0.1)
    with connect(server) as sock:
        assert rest(sock) == b""


def test_head_s_deadline_is_not_moved_by_a_byte_now_and_then(serve):
    server = serve(head_timeout=0.3)
    with connect_in_time(server, b"GET / HTTP/1.1\r\n", 0.3) as sock:
        sock.settimeout(0.05)
        begun = time.monotonic()
        while True:
            try:
                data = sock.recv(100)
                break
            except socket.timeout:  # no TimeoutError on 3.9
                sock.sendall(b"X")
            assert time.monotonic() - begun < PATIENCE
        assert data.startswith(b"HTTP/1.1 408 ")


def test_peer_that_takes_nothing_is_cut_off(serve):
    server = serve(write_timeout=0.2)
    with connect(server, GET % b"big") as sock:
        until(lambda: server.stats["closed"] == 1)
        assert len(rest(sock)) < BIG


def test_peer_that_takes_a_stream_no_longer_has_its_iterator_closed(serve, app):
    server = serve(write_timeout=0.2, response_buffer=65536, response_spool=0)
    with connect(server, GET % b"stream"):
        assert app.closed.wait(PATIENCE)
    until(lambda: server.stats["connections"] == 0)


# ---------------------------------------------------------------------- limits


@pytest.mark.parametrize("monitor", HERE)
def test_full_server_lets_idle_connections_go(serve, monitor):
    server = serve(monitor=monitor, max_connections=4)
    kept = []
    for _ in range(4):
        sock = connect(server, GET % b"")
        assert answer(sock)[1] == b"hello"
        kept.append(sock)
    until(lambda: balanced(server))
    assert ask(server) == (200, b"hello")
    assert rest(kept[0]) == b""  # the oldest
    for sock in kept:
        sock.close()


def test_out_of_descriptors_it_lets_idle_connections_go(serve, caplog):
    server = serve(scaling="fixed:2", memory_reserve=0)  # a controller that opens no file meanwhile
    kept = []
    for _ in range(5):
        sock = connect(server, GET % b"")
        assert answer(sock)[1] == b"hello"
        kept.append(sock)
    until(lambda: server.stats["parked"] == 5 and server._running.controller._asleep)
    client = socket.socket()
    client.settimeout(PATIENCE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what it would close later leaves no room then
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        client.connect(server.addresses[0])
        client.sendall(GET % b"")
        assert answer(client)[1] == b"hello"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert rest(kept[0]) == b""
    assert len([r for r in caplog.records if r.name == "rocket.listener"]) == 1
    for sock in [client, *kept]:
        sock.close()


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("monitor", HERE)
def test_drain_finishes_what_is_in_progress_and_closes_the_idle_at_once(serve, app, monitor):
    server = serve(monitor=monitor, graceful_timeout=PATIENCE)
    with connect(server, GET % b"") as idle, connect(server, GET % b"wait") as busy:
        answer(idle)
        assert app.begun.acquire(timeout=PATIENCE)
        finished = []
        with thread(lambda: finished.append(server.drain())):
            assert rest(idle) == b""
            assert finished == []
            app.release.set()
            assert answer(busy)[1] == b"hello"
            assert rest(busy) == b""
        assert finished == [True]
    all_ended("rocket-")


def test_last_answer_says_that_it_is(serve, app):
    server = serve(graceful_timeout=PATIENCE)
    with connect(server, GET % b"wait") as busy:
        assert app.begun.acquire(timeout=PATIENCE)
        with thread(server.drain):
            until(lambda: all(worker.draining for worker in server._running.workers))
            app.release.set()
            assert b"connection: close" in answer(busy)[0].lower()


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reset at once on Linux alone")


def read_until(sock, end):
    data = b""
    while not data.endswith(end):
        part = sock.recv(100)
        assert part, data
        data += part


@pytest.fixture
def half_answered(serve, app):
    """A server, and a client that has half of an answer which only the connection's end would end."""
    server = serve()

    def half():
        yield b"half"
        app.begun.release()
        assert app.release.wait(PATIENCE)

    app.answers["half"] = half
    with connect(server, b"GET /half HTTP/1.0\r\n\r\n") as sock:
        assert app.begun.acquire(timeout=PATIENCE)
        read_until(sock, b"half")
        yield server, sock


@on_linux
def test_answer_that_only_the_end_would_end_is_reset_when_it_is_cut_off(half_answered):
    """A close would say that this is all (RFC 9112, 8)."""
    server, sock = half_answered
    server.drain(0)
    server.stop()
    with pytest.raises(ConnectionResetError):
        sock.recv(100)


@on_linux
def test_who_waits_for_a_body_is_woken_when_it_is_cut_off():
    """By the stop, not by the body's timeout; and the client hears of it at once."""
    ended = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        try:
            environ["wsgi.input"].read()
        finally:
            ended.set()

    options = {"stream": True, "body_timeout": 600, "min_body_rate": 0, "graceful_timeout": 0}
    with Server(app, bind="127.0.0.1:0", **options) as server, connect(server) as client:
        client.sendall(b"POST / HTTP/1.0\r\nContent-Length: 10\r\n\r\n12345")
        read_until(client, b"begun")
        server.stop()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert ended.wait(PATIENCE)


def test_new_connections_are_given_time_for_their_first_request_when_it_stops(make_connection):
    connection, _ = make_connection()
    assert not _may_go(connection)  # else it would be closed without an answer, though it was accepted
    connection.created -= FRESH
    assert _may_go(connection)
    kept, _ = make_connection()
    kept.requests = 1
    assert _may_go(kept)


def test_who_is_accepted_when_the_last_connection_has_just_gone_is_served_before_the_end(serve, app):
    server = serve()
    parts, address = server._running, server.addresses[0]
    clients = []

    class Crossing:
        """Stands before the listener: what happens between the beginning of the end, and the end of accepting."""

        def stop(self):
            first.close()
            assert parts._drained.wait(PATIENCE)
            clients.append(socket.create_connection(address, PATIENCE))
            clients[0].sendall(GET % b"wait")
            assert app.begun.acquire(timeout=PATIENCE)

    with connect(server, GET % b"") as first:
        answer(first)
        parts.listeners.insert(0, Crossing())
        try:
            # The application goes on once it is waited for.
            assert parts.drain(PATIENCE, app.release.set)
        finally:
            del parts.listeners[0]
    assert parts.stats()["connections"] == 0
    with clients[0] as sock:
        assert answer(sock)[1] == b"hello"


def test_drain_cuts_half_a_body_at_once(serve, app):
    server = serve(graceful_timeout=10 * PATIENCE, body_timeout=10 * PATIENCE)
    with connect(server, POST % b"/echo" + b"ab") as half:
        until(lambda: server.stats["parked"] == 1)
        with thread(server.drain):
            try:
                end = rest(half)
            finally:
                half.close()
        assert end.startswith(b"HTTP/1.1 408 ")


def test_drain_delivers_what_a_slow_reader_has_yet_to_take(serve):
    server = serve(graceful_timeout=PATIENCE)
    with connect(server, GET % b"big") as sock:
        until(lambda: server.stats["parked"] == 1)
        with thread(server.drain):
            assert len(answer(sock)[1]) == BIG


def test_drain_that_takes_too_long_names_the_stuck_thread(serve, app, caplog):
    server = serve(graceful_timeout=0.1)
    with connect(server, GET % b"wait") as sock, caplog.at_level(logging.WARNING, "rocket.server"):
        assert app.begun.acquire(timeout=PATIENCE)
        assert not server.drain()
        assert rest(sock) == b""
    assert "rocket-worker-" in caplog.text
    assert "self.release.wait" in caplog.text
    app.release.set()
    all_ended("rocket-")


def test_stuck_handler_that_ends_after_the_server_does_no_harm(serve, app, caplog):
    server = serve()
    with connect(server, GET % b"wait"):
        assert app.begun.acquire(timeout=PATIENCE)
        server.stop()
        assert not server.running
        app.release.set()
        all_ended("rocket-")
    server.start()
    assert ask(server) == (200, b"hello")


def test_handler_may_stop_the_server(serve):
    server = serve()
    with connect(server, GET % b"stop") as sock:
        assert answer(sock)[1] == b"hello"
    until(lambda: not server.running)
    all_ended("rocket-")


def test_stop_under_a_flood_of_clients(serve):
    server = serve()
    address = server.addresses[0]
    served, end = threading.Semaphore(0), threading.Event()

    def flood():
        try:
            while not end.is_set():  # another server may have the port by then
                with socket.create_connection(address, timeout=PATIENCE) as sock:
                    sock.sendall(GET % b"")
                    if sock.recv(100):
                        served.release()
        except OSError:
            pass

    with thread(flood), thread(flood), thread(flood):
        for _ in range(20):
            assert served.acquire(timeout=PATIENCE)
        server.stop()
        end.set()
    all_ended("rocket-")


def test_clients_see_the_end_of_a_stopped_server(serve):
    server = serve()
    socks = [connect(server, data) for data in (b"", b"GET /", GET % b"", GET % b"big")]
    until(lambda: server.stats["parked"] == 4)
    server.stop()
    for sock in socks:
        rest(sock)
        sock.close()


class Moody(Worker):
    """A worker that cannot be made more than twice."""

    made = 0

    def __init__(self, *args):
        super().__init__(*args)
        type(self).made += 1
        if type(self).made > 2:
            raise ZeroDivisionError("no more of us")


def test_start_that_fails_leaves_nothing_behind():
    def start():
        Moody.made = 0
        with pytest.raises(ZeroDivisionError):
            Server(None, bind="127.0.0.1:0", worker=Moody).start()

    start()
    before = count_descriptors()
    for _ in range(3):
        start()
    until(lambda: count_descriptors() <= before)
    all_ended("rocket-")


def test_application_that_is_not_callable_is_refused():
    with pytest.raises(ConfigError, match="42"):
        Server(42)
    with pytest.raises(ConfigError, match="int is not a subclass"):
        Server(None, worker=int)


def test_answer_that_breaks_is_reset_if_only_its_end_tells_that_it_is_whole():
    def breaks(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"some of it"
        raise ValueError("on purpose")

    with Server(breaks, bind="127.0.0.1:0") as server, socket.create_connection(server.addresses[0]) as client:
        client.settimeout(PATIENCE)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: client.recv(65536), b""))


def test_answer_that_ends_with_its_request_s_body_is_reset_too():
    """The client goes in the middle of what it sends, but still reads."""

    def echo(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        yield environ["wsgi.input"].read()

    with Server(echo, bind="127.0.0.1:0", stream=True) as server, connect(server) as client:
        client.sendall(b"POST / HTTP/1.0\r\nContent-Length: 10\r\n\r\n12345")
        read_until(client, b"begun")
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_answer_whose_worker_dies_is_reset_too(half_answered):
    server, sock = half_answered
    (connection,) = server._running._connections
    server._running._lose(connection)
    with pytest.raises(ConnectionResetError):
        sock.recv(100)


def test_drain_waits_again_after_a_stop_by_two_signals(serve, app):
    server = Server(app, bind="127.0.0.1:0")
    server._signals = None  # as serve_forever leaves it
    server.serve_forever(server.stop)
    assert server._signals is None
    assert not server._in_a_hurry()
