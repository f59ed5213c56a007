"""Attacks on a port that speaks TLS: silent and half handshakes, other protocols, renegotiation, cut streams."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from e2e_client import Client
from e2e_server import until
from faults_client import GET, HALF, PATIENCE, Crowd, Normal, allowed, ask, read_all, request, tell
from faults_server import MB

trustme = pytest.importorskip("trustme")

HELLO = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(32)  # the beginning of a ClientHello of 517 bytes


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(serve, authority, tmp_path):
    """Start a server that speaks TLS."""
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def start(*arguments):
        return serve("--certfile", str(tmp_path / "server.pem"), *arguments, context=context)

    return start


def connect(server, maximum=None, **options):
    if maximum is not None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = maximum
        return Client(server.address, context=context, **options)
    return Client(server.address, context=server.context, **options)


def openssl(server, *arguments, say=b""):
    """Return what `openssl s_client`, which is told *say*, prints until the server closes."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    host, port = server.address
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        late = threading.Timer(PATIENCE, client.kill)
        late.start()
        client.stdin.write(say)
        client.stdin.flush()  # and not closed: it would not wait for the answer then
        said = client.stdout.read()
        late.cancel()
    return said


@pytest.mark.parametrize("timeout", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_stalled_handshakes_delay_nobody_and_are_cut_in_time(tls, timeout):
    server = tls("--threads", "8", "--no-defer-accept", "--handshake-timeout", str(timeout))
    server.warm_up()
    before = server.holds()
    with (
        Crowd(server.address, 200) as silent,
        Crowd(server.address, 200, first=HELLO) as half,
        Normal(server.address, context=server.context) as normal,
    ):
        assert silent.wait()
        assert half.wait()
    assert normal.at(0.99) < allowed(0.5), "a handshake and a request"
    ages = silent.ages + half.ages
    assert timeout - 1 < min(ages) <= max(ages) < allowed(timeout + 1)
    assert set(silent.answers + half.answers) == {b""}
    server.recovers(before)


def test_a_hello_that_comes_byte_by_byte_does_not_move_the_deadline(tls):
    server = tls("--threads", "2", "--handshake-timeout", "2")
    with Crowd(server.address, 50, first=HELLO[:5], more=b"\0", pause=0.2) as crowd:
        assert crowd.wait()
    assert max(crowd.ages) < allowed(3)


def test_with_the_default_of_held_back_connections_silent_clients_delay_nobody(tls):
    server = tls("--threads", "2")
    with Crowd(server.address, 200), Normal(server.address, context=server.context) as normal:
        until(lambda: len(normal.times) > 20, "a normal client is served")
    assert normal.at(0.9) < allowed(0.5)


@pytest.mark.parametrize(
    "first", [GET, HALF, b"G", b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 99999]
)
def test_plain_http_gets_a_readable_answer(tls, first):
    server = tls("--threads", "2")
    for _ in range(20):
        with tell(server.address, first) as client:
            answer = client.answer()
        assert answer.status == 400
        assert b"HTTPS" in answer.body


@pytest.mark.parametrize(
    "junk",
    [b"\0" * 1000, b"\x16" * 1000, b"\x16\x03\x01\xff\xff" + b"x" * 65535, HELLO + b"\xff" * 600, b"SSH-2.0-x\r\n"],
)
def test_junk_is_dropped_and_leaves_nothing_behind(tls, junk):
    server = tls("--threads", "2")
    server.warm_up()
    before = server.holds()
    for _ in range(50):
        tell(server.address, junk).reset()
        with tell(server.address, junk) as client:
            with contextlib.suppress(OSError):  # it is closed already
                client.sock.shutdown(socket.SHUT_WR)
            read_all(client)
    server.recovers(before)


def hello_for(name):
    """Return a whole ClientHello that asks for *name*, any bytes."""
    outgoing, placeholder = ssl.MemoryBIO(), "x" * len(name)
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=placeholder).do_handshake()
    hello = outgoing.read()
    assert hello.count(placeholder.encode()) == 1
    return hello.replace(placeholder.encode(), name)


@pytest.mark.parametrize("name", [b"\xff\xfe\xfd\xfc.example", "b\u00fccher.example".encode()])
def test_a_name_that_is_not_ascii_gets_an_alert_and_no_traceback(tls, name):
    server = tls("--threads", "2")
    for _ in range(5):
        with tell(server.address, hello_for(name)) as client:
            assert read_all(client)[:1] == b"\x15"  # an alert (RFC 8446, 5.1)
    assert ask(server.address, context=server.context).status == 200


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_clients_that_vanish_before_in_and_after_the_handshake_leave_nothing_behind(tls, count):
    server = tls("--threads", "4")
    server.warm_up()
    before = server.holds()
    for _ in range(count):
        tell(server.address, b"").reset()
        tell(server.address, HELLO).reset()
        tell(server.address, HELLO).close()
    for _ in range(count // 10):
        connect(server).reset()
        client = connect(server)
        client.send(request("/big"))
        client.file.read(1)
        client.reset()
    server.recovers(before)
    server.has_closed_all_answers()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_body_that_is_cut_without_close_notify_never_reaches_the_application(tls, version):
    server = tls("--threads", "2")
    for body in (b"Content-Length: 100\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\nff\r\nx"):
        for _ in range(10):
            client = connect(server, version)
            client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\n" + body)
            client.close()  # Python sends no close_notify
    until(lambda: not server.connections, "its connections are closed")
    assert server.state()["bodies"] == 0


@pytest.mark.parametrize("timeout", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_clients_that_never_read_hold_neither_threads_nor_memory(tls, timeout):
    server = tls("--threads", "8", "--write-timeout", str(timeout))
    server.warm_up()
    before, rss = server.holds(), server.rss
    with Normal(server.address, context=server.context) as normal:
        clients = [connect(server, receive_buffer=4096) for _ in range(40)]
        for client in clients:
            client.send(request("/big?mb=8"))
        until(lambda: server.state()["begun"] == 40, "all answers have begun")
        assert server.rss - rss < 150 * MB
        until(lambda: server.state()["closed"] == 40, "all iterators are closed")
        until(lambda: server.fds <= before[1] + 2, "descriptors are back", 1.25 * timeout + PATIENCE)
        until(lambda: len(normal.times) > 50, "a normal client is served")
    assert normal.at(0.95) < allowed(1)
    with pytest.raises((OSError, EOFError)):
        clients[0].answer()  # and not a whole answer, or an end that looks like one
    for client in clients:
        client.close()
    server.recovers(before)


def test_renegotiation_is_off(tls):
    server = tls("--threads", "2")
    said = openssl(server, "-tls1_2", say=b"R\n")
    assert b"no renegotiation" in said.lower()
    assert ask(server.address, context=server.context).status == 200
