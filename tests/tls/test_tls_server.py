"""The whole server over TLS: requests, deadlines, what does not speak TLS, and the end."""

import http.client
import logging
import random
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from core_helpers import PATIENCE, until
from server_helpers import BIG, App, serving
from tls_helpers import GET, Peer, client_context

from rocket import ConfigError, Server, Worker
from rocket.monitors import MONITORS
from rocket.workers import CLOSE, DETACH

HERE = [name for name, monitor in MONITORS.items() if monitor.unavailable() is None]


class TLSApp(App):
    """Also: /blocks is sent block after block; /file is this file."""

    def answer(self, path, environ):
        if path == "/blocks":
            return (b"%d\n" % i for i in range(1000))
        if path == "/file":
            return environ["wsgi.file_wrapper"](open(__file__, "rb"))
        return super().answer(path, environ)


@pytest.fixture
def app():
    return TLSApp()


@pytest.fixture
def serve(app, files):
    with serving(app, bind="127.0.0.1:0", certfile=files.pem("localhost", "127.0.0.1")) as serve:
        yield serve


@pytest.fixture
def client(authority):
    """What makes an HTTPS client of a server."""
    made = []

    def client(server, **options):
        context = options.pop("context", None) or client_context(authority, **options)
        made.append(http.client.HTTPSConnection(*server.addresses[0], context=context, timeout=PATIENCE))
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def connect():
    """What makes plain TCP clients of a server."""
    made = []

    def connect(server, first=b""):
        made.append(socket.create_connection(server.addresses[0], PATIENCE))
        made[-1].sendall(first)
        return made[-1]

    yield connect
    for sock in made:
        sock.close()


def get(client, path="/", body=None):
    client.request("GET" if body is None else "POST", path, body)
    return client.getresponse().read()


def read_all(sock):
    data = b""
    while block := sock.recv(65536):
        data += block
    return data


@pytest.mark.parametrize("monitor", HERE)
def test_requests_are_answered_over_one_connection(serve, client, monitor):
    server = serve(monitor=monitor)
    https = client(server)
    upload = bytes(range(256)) * 40_000
    for _ in range(2):
        assert get(https) == b"hello"
        assert get(https, "/echo", upload) == upload
        assert get(https, "/echo", iter([upload, b"end"])) == upload + b"end"
        assert get(https, "/big") == b"x" * BIG
        assert get(https, "/blocks") == b"".join(b"%d\n" % i for i in range(1000))
        with open(__file__, "rb") as file:
            assert get(https, "/file") == file.read()
    assert server.stats["accepted"] == 1


def test_everybody_is_told_that_it_is_https(serve, client, app, caplog):
    server = serve()
    assert server.url == f"https://127.0.0.1:{server.addresses[0][1]}/"
    assert any(line.startswith(f"listening on {server.url}") for line in server.describe())
    assert any(line.startswith("TLS 1.2 or newer, certificates for localhost, 127.0.0.1") for line in server.describe())
    get(client(server), "/environ")
    assert app.environ["wsgi.url_scheme"] == "https"
    assert app.environ["HTTPS"] == "on"
    assert app.environ["SSL_PROTOCOL"] == "TLSv1.3"


def test_variables_belong_to_their_connection_and_cannot_be_changed_for_others(serve, client, app):
    server = serve(max_threads=1)
    new, old = client(server), client(server, maximum=ssl.TLSVersion.TLSv1_2)
    for _ in range(2):
        for each, version in ((new, "TLSv1.3"), (old, "TLSv1.2")):
            get(each, "/environ")
            assert app.environ["SSL_PROTOCOL"] == version
    assert "SSL_TLS_SNI" not in app.environ  # an address is no name: RFC 6066, section 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pipelined_requests_in_one_record_and_in_many_are_answered(serve, authority, version):
    server = serve()
    context = client_context(authority, maximum=version)
    sock = context.wrap_socket(socket.create_connection(server.addresses[0], PATIENCE), server_hostname="localhost")
    with sock:
        sock.sendall(3 * (GET % b"/"))
        for _ in range(3):
            sock.sendall(GET % b"/")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(sock).count(b"hello") == 7


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD / HTTP/1.1\r\n\r\n", b"POST /x", b"\r\n"]
)
def test_plain_http_gets_a_readable_400(serve, connect, first):
    sock = connect(serve(), first)
    answer = read_all(sock)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in head
    assert (b"HTTPS" in body) == (not first.startswith(b"HEAD"))


def test_silent_and_half_hearted_clients_are_cut_after_handshake_timeout_and_delay_nobody(serve, connect, client):
    server = serve(max_threads=2, handshake_timeout=3)  # s: the client that is served has them, too
    crowd = [
        connect(server, first)
        for first in (b"", b"\x16", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03half")
        for _ in range(20)
    ]
    assert get(client(server)) == b"hello"
    for sock in crowd:
        assert sock.recv(100) == b""
    until(lambda: server.stats["connections"] <= 1)


def test_a_client_without_a_request_after_the_handshake_is_cut_by_head_timeout(serve, connect, authority):
    server = serve(head_timeout=0.5)
    sock = client_context(authority).wrap_socket(connect(server), server_hostname="localhost")
    assert sock.recv(1) == b""  # and not ssl.SSLEOFError: it is told


def test_slow_heads_get_408_over_tls(serve, connect, authority):
    sock = client_context(authority).wrap_socket(connect(serve(head_timeout=2)), server_hostname="localhost")
    sock.sendall(b"GET / HTTP/1.1\r\nHo")
    assert read_all(sock).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_holds_no_thread_and_what_it_gets_is_cut_visibly(serve, connect, client, authority):
    server = serve(max_threads=1, write_timeout=0.5)
    raw = connect(server)
    sock = client_context(authority).wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
    sock.sendall(GET % b"/big")
    assert get(client(server)) == b"hello"
    until(lambda: server.stats["connections"] <= 1)
    with pytest.raises(OSError):  # noqa: PT011 (a reset, or an end without close_notify)
        read_all(sock)


def test_keep_alive_of_an_idle_connection_ends_in_tls_words(serve, connect, authority):
    server = serve(keep_alive=0.3)
    sock = client_context(authority).wrap_socket(connect(server), server_hostname="localhost")
    sock.sendall(GET % b"/")
    assert read_all(sock).endswith(b"hello")


def test_requests_in_progress_are_finished_when_it_drains(serve, client, app):
    server = serve()
    https, idle = client(server), client(server)
    assert get(idle) == b"hello"
    https.request("GET", "/wait")
    assert app.begun.acquire(timeout=PATIENCE)
    drained = threading.Thread(target=server.drain)
    drained.start()
    assert idle.sock.recv(1) == b""
    app.release.set()
    assert https.getresponse().read() == b"hello"
    drained.join(PATIENCE)
    assert not server.running


def test_handshakes_go_on_while_all_workers_are_stuck(serve, client, connect, app, authority):
    server = serve(min_threads=1, max_threads=1)
    stuck = client(server)
    stuck.request("GET", "/wait")
    assert app.begun.acquire(timeout=PATIENCE)
    sock = client_context(authority).wrap_socket(connect(server), server_hostname="localhost")
    sock.sendall(GET % b"/")
    app.release.set()
    assert stuck.getresponse().read() == b"hello"
    assert sock.recv(65536).endswith(b"hello")


@pytest.mark.parametrize("monitor", HERE)
def test_nothing_is_mixed_up_between_many_clients(serve, client, monitor, hasty_threads):
    server = serve(monitor=monitor, max_threads=4)

    def run(seed):
        chance = random.Random(seed)
        for _ in range(5):
            https = client(server)
            for _ in range(5):
                data = chance.randbytes(chance.choice((1, 1000, 16384, 16385, 300_000)))
                assert get(https, "/echo", data) == data
            https.close()
        return True

    with ThreadPoolExecutor(8) as crowd:
        assert all(crowd.map(run, range(8)))
    until(lambda: server.stats["connections"] == 0)
    assert server.stats["closed"] == server.stats["accepted"] == 40


@pytest.mark.parametrize("name", HERE)
def test_a_body_of_many_pieces_and_a_request_behind_it(serve, connect, authority, name):
    body = random.Random(4).randbytes((3 << 20) + 5)
    with client_context(authority).wrap_socket(connect(serve(monitor=name)), server_hostname="localhost") as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + GET % b"/")
        with sock.makefile("rb") as answers:
            for expected in (body, b"hello"):
                while answers.readline() != b"\r\n":
                    pass
                assert answers.read(len(expected)) == expected


def test_keys_are_changed_between_requests_and_in_a_body(serve, connect, authority):
    peer = Peer(connect(serve()), client_context(authority), "localhost")
    peer.shake()
    for _ in range(3):
        peer.sock.sendall(peer.ask_for_key_update())
        peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        peer.sock.sendall(peer.ask_for_key_update())
        peer.send(b"def")
        data = b""
        while not data.endswith(b"abcdef"):
            data += peer.read(1)
    assert peer.tls.version() == "TLSv1.3"


def test_who_waited_too_long_for_a_worker_is_told_over_tls(serve, client, connect, app, authority):
    server = serve(min_threads=1, max_threads=1, queue_timeout=0.2)
    client(server).request("GET", "/wait")
    assert app.begun.acquire(timeout=PATIENCE)
    sock = client_context(authority).wrap_socket(connect(server), server_hostname="localhost")
    sock.sendall(GET % b"/")
    assert read_all(sock).startswith(b"HTTP/1.1 503 ")


def test_a_new_certificate_is_taken_up_without_dropping_a_connection(serve, client, files, authority):
    server = serve()
    old = client(server)
    assert get(old) == b"hello"
    files.pem("new.example")
    context = client_context(authority)
    context.check_hostname = False

    def is_new():
        new = client(server, context=context)
        assert get(new) == b"hello"
        return new.sock.getpeercert()["subjectAltName"] == (("DNS", "new.example"),)

    until(is_new)
    assert get(old) == b"hello"
    assert server.stats["accepted"] > 1


def test_clients_need_a_certificate_if_it_is_required(serve, client, files, authority, app):
    server = serve(ca_certs=files.authorities(), cert_reqs="required")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(client(server))
    assert get(client(server, certificate=authority.issue_cert("joe@example.org")), "/environ") == b"hello"
    assert app.environ["SSL_CLIENT_SAN_Email_0"] == "joe@example.org"


def test_an_older_version_than_the_minimum_is_refused_in_words(serve, client):
    server = serve(min_tls_version="1.3")
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        get(client(server, maximum=ssl.TLSVersion.TLSv1_2))


def test_a_self_signed_server_serves(serve, client):
    server = serve(certfile="", self_signed=True)
    assert get(client(server, context=client_context())) == b"hello"
    assert any("self-signed" in line for line in server.describe())


def test_what_is_wrong_is_an_error_at_the_start_and_leaves_nothing_open(app, files):
    before = set(threading.enumerate())
    for options, message in (
        ({"certfile": "/no/such.pem"}, "certfile \\(/no/such.pem\\): No such file"),
        ({"keyfile": "/no/such.key"}, "no certificate"),
        ({"self_signed": True, "certfile": "x.pem"}, "give only one of them"),
        ({"min_tls_version": "1.1"}, "min_tls_version must be one of 1.2, 1.3, not '1.1'"),
        ({"cert_reqs": "3"}, "cert_reqs must be none, optional or required"),
        ({"keyfile_password": 123}, "keyfile_password must be text, not int"),
        ({"handshake_timeout": 0}, "handshake_timeout must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            Server(app, bind="127.0.0.1:0", **options).start()
    assert set(threading.enumerate()) <= before


def test_a_password_is_neither_shown_nor_quoted(app):
    server = Server(app, keyfile_password="hunter2")
    assert "hunter2" not in repr(server.config)


class Detaching(Worker):
    def serve(self, connection):
        if not connection.fill():
            return CLOSE
        return DETACH


def test_a_worker_that_detaches_a_tls_connection_is_told_and_the_connection_closed(serve, connect, authority, caplog):
    server = serve(worker=Detaching)
    sock = client_context(authority).wrap_socket(connect(server), server_hostname="localhost")
    sock.sendall(b"x")
    with caplog.at_level(logging.ERROR, "rocket"):
        assert sock.recv(1) == b""
    assert "cannot be detached" in caplog.text


class Echo(Worker):
    """Another protocol than HTTP."""

    def serve(self, connection):
        line = connection.readline()
        if not line:
            return CLOSE
        connection.write(line)
        return CLOSE


def test_another_protocol_than_http_goes_over_tls_as_well(serve, connect, authority):
    sock = client_context(authority).wrap_socket(connect(serve(worker=Echo)), server_hostname="localhost")
    sock.sendall(b"line\n")
    assert read_all(sock) == b"line\n"
