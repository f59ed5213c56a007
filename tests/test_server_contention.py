"""Requests beside handlers and threads that compute: the server notices, keeps the GIL, and serves as ever."""

import re
import socket
import sys
import threading

import pytest
from core_helpers import PATIENCE, thread, until
from server_helpers import BIG, GET, App, answer, ask, connect, rest, serving

from rocket import gil
from rocket.monitors.base import LazyMonitor
from rocket.monitors.poll import PollMonitor
from rocket.pools.readings import read_file
from rocket.pools.slot import HAS_CPU_CLOCKS

pytestmark = pytest.mark.skipif(
    not (gil.gil_enabled() and gil.prepare() and HAS_CPU_CLOCKS), reason="nothing to keep, or no way to"
)


class Computing(App):
    """/compute computes until `enough`."""

    def __init__(self):
        super().__init__()
        self.enough = threading.Event()

    def answer(self, path, environ):
        if path == "/compute":
            self.begun.release()
            compute(self.enough)
        return super().answer(path, environ)


def compute(enough):
    while not enough.is_set():
        sum(range(1000))


def notices(server, contention):
    """Wait until the server has noticed that there is, or is no, thread that computes. It looks when it is asked."""

    def noticed():
        assert ask(server) == (200, b"hello")
        # A client that asked on and on would itself be a thread of this process that computes.
        return server.stats["keeps_gil"] is contention or threading.Event().wait(0.05)

    until(noticed)


def keeps(server, keep):
    """Wait until all that can keep the GIL does, or lets it go; `notices` waits for the first of it."""

    def kept():
        parts = server._running
        found = {each.keeps_gil for each in (*parts.workers, *parts.listeners)}
        monitor = parts._reactor.monitor
        if isinstance(monitor, LazyMonitor):
            found |= {monitor._keeps_gil, monitor._waker.keeps_gil}
        found.add(parts.controller._sampler._read is not read_file)
        return found == {keep} or threading.Event().wait(0.05)

    until(kept)


@pytest.fixture(autouse=True)
def usual_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def app():
    app = Computing()
    yield app
    app.enough.set()


@pytest.fixture
def serve(app):
    with serving(app, bind="127.0.0.1:0") as serve:
        yield serve


@pytest.fixture
def beside(app, serve):
    """What starts a server beside which a thread that is not the pool's computes, and waits until it is noticed."""
    outside = threading.Thread(target=compute, args=(app.enough,))

    def start(**options):
        server = serve(**options)
        outside.start()
        notices(server, True)
        keeps(server, True)
        return server

    yield start
    app.enough.set()
    outside.join()


def test_handler_that_computes_is_noticed_and_so_is_its_end(app, serve):
    server = serve()
    with connect(server, GET % b"compute") as sock:
        assert app.begun.acquire(timeout=PATIENCE)
        notices(server, True)
        until(lambda: sys.getswitchinterval() == pytest.approx(0.001))
        app.enough.set()
        assert answer(sock)[1] == b"hello"
    notices(server, False)
    keeps(server, False)
    until(lambda: sys.getswitchinterval() == pytest.approx(0.005))


def test_end_is_noticed_also_by_an_idle_server(app, beside):
    server = beside()
    app.enough.set()
    # Who looked on and on would be such a thread, too.
    until(lambda: not server.stats["keeps_gil"] or threading.Event().wait(0.05))
    until(lambda: sys.getswitchinterval() == pytest.approx(0.005))
    until(lambda: not server._running.controller._contention.present)


def test_connection_keeps_the_gil_as_its_worker_does(app, beside):
    server = beside()
    with connect(server, GET % b"") as sock:
        answer(sock)
        (connection,) = server._running._connections

        def kept():
            sock.sendall(GET % b"")
            answer(sock)
            return connection.keeps_gil or threading.Event().wait(0.05)

        until(kept)
        assert server._running.listeners[0]._acceptor is not None or not gil.HAS_ACCEPT4
        app.enough.set()
        until(lambda: not connection.keeps_gil or threading.Event().wait(0.05))


def test_workers_know_that_they_may(serve):
    server = serve(min_threads=2, max_threads=2)
    assert ask(server) == (200, b"hello")
    assert {worker.may_keep_gil for worker in server._running.workers} == {True}


def test_workers_that_are_started_meanwhile_keep_it_too(app, beside):
    server = beside(min_threads=1, max_threads=4)
    server.resize(4, 4)
    until(lambda: len(server._running.workers) == 4)
    keeps(server, True)


def test_monitor_that_fails_is_told_of_and_the_rest_is_kept(app, caplog):
    class Fails(PollMonitor):
        name = "fails"

        def keep_gil(self, keep):
            raise ValueError("on purpose")

    with serving(app, bind="127.0.0.1:0", monitor=Fails) as serve, thread(compute, app.enough):
        server = serve()
        notices(server, True)
        until(lambda: {each.keeps_gil for each in server._running.workers} == {True})
        until(lambda: sys.getswitchinterval() == pytest.approx(0.001))
        server.stop()
        app.enough.set()
    assert sys.getswitchinterval() == pytest.approx(0.005)
    assert "the monitor fails failed in keep_gil(True)" in caplog.text


def test_inherited_sockets_are_accepted_in_the_usual_way(app, beside):
    """Another process may make them block: then the listener alone is to stand still."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        server = beside(bind=f"fd://{given.fileno()}")
        address = given.getsockname()
        given.detach()
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        sock.sendall(GET % b"")
        assert answer(sock)[1] == b"hello"
    assert server._running.listeners[0].keeps_gil
    assert server._running.listeners[0]._acceptor is None


def test_switch_interval_is_left_alone_if_that_is_wanted(app, beside):
    beside(switch_interval=0)
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_switch_interval_is_restored_when_the_server_stops(app, beside):
    server = beside()
    until(lambda: sys.getswitchinterval() == pytest.approx(0.001))
    server.stop()
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_everything_is_served_as_usual(app, beside):
    server = beside()
    with connect(server, 3 * (GET % b"")) as sock:  # pipelined
        data = b""
        while data.count(b"hello") < 3:
            data += sock.recv(65536)
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
        assert answer(sock)[1] == b"x" * 300_000
        sock.sendall(GET % b"big")
        assert len(answer(sock)[1]) == BIG
        sock.sendall(b"GET /environ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert b"hello" in rest(sock)
        assert (app.environ["REMOTE_ADDR"], app.environ["REMOTE_PORT"]) == ("127.0.0.1", str(sock.getsockname()[1]))
    with connect(server, b"nonsense\r\n\r\n") as sock:
        assert b" 400 " in rest(sock)
    connect(server, b"GET / HT").close()
    until(lambda: server.stats["connections"] == 0)


def test_connections_of_before_and_after_are_served(app, beside):
    """One may be accepted in usual times, be served while the GIL is kept, and be closed afterwards; or the reverse."""
    server = beside()
    with connect(server, GET % b"") as one:
        answer(one)
        app.enough.set()
        notices(server, False)
        with connect(server, GET % b"") as other:
            answer(other)
            app.enough.clear()
            with thread(compute, app.enough):
                notices(server, True)
                for sock in (one, other):
                    sock.sendall(GET % b"")
                    assert answer(sock)[1] == b"hello"
                app.enough.set()
    until(lambda: server.stats["connections"] == 0)


@pytest.mark.parametrize("monitor", ["select", "poll", "selectors"])
def test_monitors_that_cannot_keep_it_serve_all_the_same(app, beside, monitor):
    server = beside(monitor=monitor)
    with connect(server) as sock:
        for _ in range(5):
            sock.sendall(GET % b"")
            assert answer(sock)[1] == b"hello"


def test_unix_sockets_are_accepted(app, beside, tmp_path):
    beside(bind=["127.0.0.1:0", f"unix:{tmp_path / 'socket'}"])
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(tmp_path / "socket"))
            sock.sendall(GET % b"environ")
            assert answer(sock)[1] == b"hello"
        assert app.environ["REMOTE_ADDR"] == ""


def test_shortage_of_descriptors_is_met_as_usual(app, beside):
    """The listener pauses at max_connections, and the oldest idle connections go."""
    server = beside(max_connections=8)
    socks = [connect(server, GET % b"") for _ in range(8)]
    try:
        for sock in socks:
            answer(sock)
        assert ask(server) == (200, b"hello")
    finally:
        for sock in socks:
            sock.close()


def test_address_that_is_taken_is_told_as_usual(app, beside):
    server = beside()
    host, port = server.addresses[0]
    assert re.match(r"\d", host)
    with pytest.raises(OSError, match=re.escape(f"{host}:{port}")):
        type(server)(app, bind=f"{host}:{port}").start()
