"""The whole server on each kind of bind, and on several at once."""

import os
import socket
import sys
import threading
from urllib.parse import unquote, urlsplit
from wsgiref.validate import validator

import pytest
from core_helpers import PATIENCE, thread, until
from server_helpers import BIG, GET, App, answer, rest, serving

from rocket import BindError, ConfigError, Server
from rocket.monitors import MONITORS

HERE = [name for name, monitor in MONITORS.items() if monitor.unavailable() is None]
LINUX = sys.platform.startswith("linux")
KINDS = ["tcp", "reuseport", "unix", "abstract", "fd", "fd-unix"]


class CarefulApp(App):
    """Reads no more than there is, so that the validator has no objection. Also: /fork has a child that ends."""

    def __init__(self):
        super().__init__()
        self.seen = {}  # the statistics when /environ was asked for

    def answer(self, path, environ):
        if path == "/environ":
            self.seen = environ["rocket.stats"]()
        elif path == "/echo":
            return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]
        elif path == "/fork":
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        return super().answer(path, environ)


@pytest.fixture
def app():
    return CarefulApp()


@pytest.fixture
def binds(tmp_path, monkeypatch):
    """What makes a bind of a kind."""
    monkeypatch.chdir(tmp_path)
    made = []

    def make(kind):
        if kind == "abstract" and not LINUX:
            pytest.skip("only Linux has abstract sockets")
        if kind == "reuseport" and not hasattr(socket, "SO_REUSEPORT"):
            pytest.skip("no SO_REUSEPORT here")
        if kind.startswith("fd"):
            sock = socket.socket(socket.AF_UNIX if kind == "fd-unix" else socket.AF_INET)
            made.append(sock)
            sock.bind(f"inherited-{len(made)}" if kind == "fd-unix" else ("127.0.0.1", 0))
            sock.listen(100)
            return f"fd://{sock.detach()}"
        return {
            "tcp": "127.0.0.1:0",
            "reuseport": "tcp://127.0.0.1:0?reuseport=1",
            "unix": "unix:s.sock?mode=600",
            "abstract": f"unix:@rocket-{os.getpid()}-{threading.get_ident()}",
        }[kind]

    return make


@pytest.fixture
def serve(app):
    with serving(app) as serve:
        yield lambda bind, **options: serve(bind=bind, **options)


def connect(address, data=b""):
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(os.path.relpath(address) if str(address).startswith("/") else address)
        sock.sendall(data)
    except BaseException:
        sock.close()
        raise
    return sock


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_answered(serve, binds, kind):
    server = serve(binds(kind))
    with connect(server.addresses[0]) as sock:
        for _ in range(3):
            sock.sendall(GET % b"")
            head, body = answer(sock)
            assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"hello")
        sock.sendall(GET % b"" + GET % b"big" + b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc")
        assert answer_of(sock, 5) == b"hello"
        assert answer_of(sock, BIG) == b"x" * BIG
        assert answer_of(sock, 3) == b"abc"


def answer_of(sock, length):
    """Return the body of *length* bytes; what is behind it stays in the socket."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    body = b""
    while len(body) < length:
        part = sock.recv(min(1 << 20, length - len(body)))
        assert part
        body += part
    return body


@pytest.mark.parametrize("kind", ["unix", "abstract", "fd-unix"])
@pytest.mark.parametrize("monitor", HERE)
def test_bodies_and_slow_readers_work_on_unix_sockets_on_every_monitor(serve, binds, kind, monitor):
    server = serve(binds(kind), monitor=monitor)
    body = b"y" * (3 << 20)
    with connect(server.addresses[0]) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body))
        with thread(sock.sendall, body):
            assert answer(sock)[1] == body
        slow = connect(server.addresses[0], GET % b"big")
        until(lambda: server.stats["parked"] >= 1 and server.stats["busy"] == 0)
        sock.sendall(GET % b"")  # it holds up nobody
        assert answer(sock)[1] == b"hello"
        assert answer(slow)[1] == b"x" * BIG
        slow.close()


@pytest.mark.parametrize("kind", KINDS)
def test_drain_finishes_what_is_in_progress_and_lets_nobody_in(serve, binds, app, kind):
    server = serve(binds(kind))
    (address,) = server.addresses
    idle = connect(address, GET % b"")
    assert answer(idle)[1] == b"hello"
    busy = connect(address, GET % b"wait")
    assert app.begun.acquire(timeout=PATIENCE)
    with thread(server.drain, PATIENCE):
        assert rest(idle) == b""
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            connect(address).close()
        app.release.set()
        assert answer(busy)[1] == b"hello"
    assert not server.running
    assert server.addresses == server.urls == []
    for sock in (idle, busy):
        sock.close()


@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
def test_stopped_server_can_be_started_again(serve, binds, kind):
    server = serve(binds(kind))
    for _ in range(3):
        with connect(server.addresses[0], GET % b"") as sock:
            assert answer(sock)[1] == b"hello"
        server.stop()
        assert not os.path.exists("s.sock")
        server.start()


def test_inherited_descriptor_is_gone_after_a_stop(serve, binds):
    server = serve(binds("fd"))
    server.stop()
    with pytest.raises(BindError, match=r"cannot bind fd://\d+: it was closed when the server stopped"):
        server.start()


@pytest.mark.parametrize("kind", KINDS)
def test_full_server_lets_idle_connections_go(serve, binds, kind):
    server = serve(binds(kind), max_connections=3)
    kept = []
    for _ in range(3):
        kept.append(connect(server.addresses[0], GET % b""))
        assert answer(kept[-1])[1] == b"hello"
    until(lambda: server.stats["parked"] == 3)  # it is parked after it was answered
    with connect(server.addresses[0], GET % b"") as sock:
        assert answer(sock)[1] == b"hello"
    assert rest(kept[0]) == b""  # the oldest
    for sock in kept:
        sock.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # since Python 3.12
def test_child_of_a_handler_takes_nothing_along(serve, binds, kind):
    server = serve(binds(kind))
    (address,) = server.addresses
    for path in (b"fork", b""):
        with connect(address, GET % path) as sock:
            assert answer(sock)[1] == b"hello"
    assert os.path.exists("s.sock") == (kind == "unix")


def test_several_kinds_at_once(serve, binds, app):
    kinds = [kind for kind in KINDS if kind != "abstract" or LINUX]
    server = serve([binds(kind) for kind in kinds], max_threads=4)
    assert len(server.addresses) == len(server.urls) == len(kinds)
    clients = [connect(address) for address in server.addresses]
    for _ in range(3):
        for client in clients:
            client.sendall(GET % b"")
        assert [answer(client)[1] for client in clients] == [b"hello"] * len(kinds)
    assert server.stats["accepted"] == len(kinds)
    for client in clients:
        client.close()
    server.stop()
    assert [name for name in os.listdir() if not name.startswith("inherited")] == []


def test_urls_name_what_is_listened_on(serve, binds):
    server = serve([binds("tcp"), binds("unix")])
    (host, port), path = server.addresses
    assert server.url == f"http://{host}:{port}/"
    assert unquote(urlsplit(server.urls[1]).netloc) == path == os.path.abspath("s.sock")
    assert server.urls[1].startswith("http+unix://%2F")
    assert f"listening on {server.url}, unix:" in server.describe()[0]


def test_environ_of_a_unix_socket_is_complete(serve, binds, app):
    server = serve(binds("unix"))
    with connect(server.addresses[0], GET % b"environ") as sock:
        assert answer(sock)[1] == b"hello"
    named = {name: app.environ[name] for name in ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT")}
    assert named == {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "REMOTE_ADDR": "", "REMOTE_PORT": ""}
    assert app.environ["wsgi.url_scheme"] == "http"


def test_a_unix_socket_passes_wsgiref_s_validator(binds):
    seen = []

    @validator
    def application(environ, start_response):
        seen.append(environ["SERVER_NAME"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    with Server(application, bind=binds("unix")) as server, connect(server.addresses[0], GET % b"") as sock:
        head, body = answer(sock)
        assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"ok")
    assert seen == ["localhost"]


def test_client_that_has_bound_a_name_of_its_own_is_served(serve, binds):
    serve(binds("unix"))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.bind("client")
        client.connect("s.sock")
        client.sendall(GET % b"")
        assert answer(client)[1] == b"hello"


def test_two_servers_do_not_share_a_unix_socket(serve, binds):
    server = serve(binds("unix"))
    with pytest.raises(BindError, match=r"cannot bind unix:s.sock\?mode=600: a server listens there"):
        serve(binds("unix"))
    with connect(server.addresses[0], GET % b"") as sock:
        assert answer(sock)[1] == b"hello"


def test_two_servers_share_a_port_and_both_serve(serve, binds):
    one = serve(binds("reuseport"))
    port = one.addresses[0][1]
    other = serve(f"127.0.0.1:{port}?reuseport=1")
    until(lambda: ask_once(port) and one.stats["accepted"] and other.stats["accepted"])
    one.stop()
    assert ask_once(port)


def ask_once(port):
    with connect(("127.0.0.1", port), GET % b"") as sock:
        return answer(sock)[1] == b"hello"


def test_client_that_has_waited_for_the_start_finds_a_server_that_runs(binds, app):
    """As after socket activation: the connection is there before the server is."""
    bind = binds("fd-unix")
    client = connect("inherited-1", GET % b"environ")
    with Server(app, bind=bind) as server:
        assert answer(client)[1] == b"hello"
        assert app.seen["running"]
        assert server.running
    client.close()


def test_failed_start_leaves_no_socket_file(app, binds, serve):
    taken = serve(binds("tcp")).addresses[0][1]
    with pytest.raises(BindError, match=f"cannot bind 127.0.0.1:{taken}: "):
        Server(app, bind=[binds("unix"), f"127.0.0.1:{taken}"]).start()
    assert os.listdir() == []


def test_failed_start_leaves_what_was_inherited_for_the_next_try(app, binds, serve):
    taken = serve(binds("tcp"))
    server = Server(app, bind=[binds("fd"), str(taken.url)[7:-1]])
    with pytest.raises(BindError):
        server.start()
    taken.stop()
    with server, connect(server.addresses[0], GET % b"") as sock:
        assert answer(sock)[1] == b"hello"


def test_a_tls_bind_without_a_certificate_is_refused_by_name(app):
    with pytest.raises(ConfigError, match=r"^bind: 'tls://:0\?password=\*\*\*' has no certificate"):
        Server(app, bind="tls://:0?password=geheim").start()


def test_health_of_a_server_whose_handlers_are_all_stuck(serve, binds, app):
    server = serve(binds("tcp"), max_threads=1, min_threads=1)
    for _ in range(3):
        until(lambda: server._ailment() == "")  # asked too soon, the controller has not looked yet
    stuck = [connect(server.addresses[0], GET % b"wait")]
    assert app.begun.acquire(timeout=PATIENCE)
    until(lambda: server._ailment() == "")  # nobody waits
    stuck.append(connect(server.addresses[0], GET % b""))
    until(lambda: server.stats["queued"] == 1)
    until(lambda: "1 requests wait" in server._ailment())
    app.release.set()
    assert [answer(sock)[1] for sock in stuck] == [b"hello"] * 2
    until(lambda: server._ailment() == "")
    for sock in stuck:
        sock.close()
