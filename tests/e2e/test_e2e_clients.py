"""What clients do every day: keep-alive, pipelining, chunks, Expect, HEAD; many of them at once."""

import hashlib
import http.client
import resource
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from e2e_server import PATIENCE, until

from rocket.monitors import available

MB = 1 << 20
CLIENTS = 1000

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def test_http_client_keeps_its_connection(demo):
    connection = http.client.HTTPConnection(*demo.address, timeout=PATIENCE)
    connection.connect()
    sock = connection.sock
    for _ in range(3):
        connection.request("GET", "/hello")
        assert connection.getresponse().read() == b"Hello, world!\n"
        assert connection.sock is sock
    connection.close()


def test_urllib_reads_an_answer_and_an_error(demo):
    with urllib.request.urlopen(demo.url + "/hello", timeout=PATIENCE) as response:
        assert response.read() == b"Hello, world!\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(demo.url + "/nowhere", timeout=PATIENCE)
    caught.value.close()
    assert caught.value.code == 404


def test_requests_sends_chunks_and_reads_them(demo):
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        for body in ([b"a"], [b"b" * 70_000, b"c"], [bytes([i]) * MB for i in range(4)]):
            answer = session.post(demo.url + "/echo", data=iter(body), timeout=PATIENCE)
            assert answer.content == b"".join(body)
        assert session.get(demo.url + "/stream?n=3&s=0", timeout=PATIENCE).text.count("\n") == 3


@needs_curl
def test_curl_waits_for_100_continue_and_gets_it(demo, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"\x5a" * (2 * MB))
    command = ["curl", "-sSv", "--expect100-timeout", "20", "-H", "Expect: 100-continue"]
    command += ["--data-binary", f"@{body}", demo.url + "/echo"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    assert b"< HTTP/1.1 100 Continue" in done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(body.read_bytes()).digest()


@needs_curl
def test_curl_speaks_http_1_0(demo):
    command = ["curl", "-sS", "-0", "-i", demo.url + "/stream?n=2&s=0"]
    answer = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True).stdout
    assert b"Transfer-Encoding" not in answer
    assert answer.endswith(b"\r\n\r\nchunk 1 of 2\nchunk 2 of 2\n")


def test_pipelined_requests_are_answered_in_order(demo, connect):
    client = connect(demo)
    client.send(b"".join(b"GET /stream?n=%d&s=0 HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(1, 51)))
    for n in range(1, 51):
        assert client.answer().body.count(b"\n") == n


def test_a_pipelined_body_is_not_taken_for_a_request(demo, connect):
    client = connect(demo)
    body = b"GET /nowhere HTTP/1.1\r\nHost: t\r\n\r\n"
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
    client.send((head + body) * 3 + b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n")
    assert [client.answer().body for _ in range(4)] == [body] * 3 + [b"Hello, world!\n"]


def test_a_request_may_come_byte_by_byte(demo, connect):
    client = connect(demo)
    for byte in b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
        client.send(bytes([byte]))
    assert client.answer().body == b"abc"


def test_head_has_no_body_and_the_length_of_get(demo, connect):
    client = connect(demo)
    assert client.ask("/hello", "HEAD").fields["content-length"] == "14"
    assert client.ask("/hello").body == b"Hello, world!\n"


def test_the_client_decides_about_the_connection(demo, connect):
    client = connect(demo)
    assert "connection" not in client.ask("/hello").fields
    assert client.ask("/hello", "GET", "Connection: close").fields["connection"] == "close"
    assert client.rest() == b""


def test_a_client_that_sends_its_last_byte_first_gets_its_answer(demo, connect):
    client = connect(demo)
    client.get("/stream?n=3&s=0.01")
    client.sock.shutdown(1)
    assert client.answer().body.count(b"\n") == 3
    assert client.rest() == b""


@pytest.mark.parametrize("bind", ["[::1]:0", "localhost:0", ":0"])
def test_other_addresses(serve, bind, connect):
    try:
        server = serve("trouble", bind=bind)
    except AssertionError as exc:
        if "ssign requested address" in str(exc) or "family not supported" in str(exc):
            pytest.skip("this host has no IPv6")
        raise
    assert connect(server).ask("/hello").status == 200


@pytest.mark.parametrize("monitor", ["epoll", "kqueue", "poll", "select", "selectors"])
def test_each_monitor_serves(serve, connect, monitor):
    if available()[monitor]:
        pytest.skip(available()[monitor])
    server = serve("trouble", "--threads", "2", "--monitor", monitor)
    clients = [connect(server) for _ in range(10)]
    for _ in range(2):
        for client in clients:
            client.get("/slow")
        assert [client.answer().body for client in clients] == [b"hello\n"] * 10
    assert server.stats()["monitor"] == monitor


def test_wsgiref_finds_nothing_wrong(serve, connect):
    server = serve("trouble:validated", "--threads", "2")
    client = connect(server)
    form = ["Content-Type: application/x-www-form-urlencoded", "Content-Length: 7"]
    assert client.ask("/").status == 200
    assert client.ask("/hello", "HEAD").status == 200
    assert client.ask("/stream?n=2&s=0").body == b"chunk 1 of 2\nchunk 2 of 2\n"
    client.get("/form", "POST", *form)
    client.send(b"name=me")
    assert b"<td>me</td>" in client.answer().body
    client.get("/echo", "POST", "Transfer-Encoding: chunked")
    client.send(b"3\r\nabc\r\n0\r\n\r\n")
    assert client.answer().body == b"abc"
    assert "Warning" not in server.log
    assert "AssertionError" not in server.log


@pytest.fixture
def many_descriptors():
    """Let this process, and the servers that it starts, have that many clients."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CLIENTS + 500
    if before[1] not in (resource.RLIM_INFINITY,) and before[1] < wanted:
        pytest.skip(f"ulimit -Hn is {before[1]}, less than {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("monitor", ["auto", "poll"])
def test_a_thousand_clients_keep_their_connections(many_descriptors, serve, connect, monitor):
    server = serve("--threads", "2", "--monitor", monitor)
    server.stats()
    before = server.holds()
    clients = [connect(server) for _ in range(CLIENTS)]
    for client in clients:
        client.get("/hello")
    assert {client.answer().body for client in clients} == {b"Hello, world!\n"}
    until(lambda: server.stats()["parked"] == CLIENTS, "all of them are parked")
    for client in reversed(clients):  # those first that were idle last
        client.get("/hello")
    assert {client.answer().body for client in clients} == {b"Hello, world!\n"}
    assert server.stats()["threads"] == 2
    until(lambda: server.stats()["connections"] == CLIENTS + 1, "none but they and the one that asks")
    for client in clients:
        client.close()
    server.settle(before)
    assert until(lambda: server.stats()["connections"] == 1, "all of them are closed")


@pytest.mark.skipif(sys.platform != "linux", reason="select() reports what it cannot hold on any system; one is enough")
def test_select_closes_idle_connections_rather_than_take_more_than_it_can_hold(many_descriptors, serve, connect):
    server = serve("--threads", "2", "--monitor", "select")
    clients = [connect(server) for _ in range(1100)]  # FD_SETSIZE is 1024
    for client in clients:
        client.get("/hello")
    assert {client.answer().body for client in clients} == {b"Hello, world!\n"}
    assert connect(server).ask("/hello").status == 200
