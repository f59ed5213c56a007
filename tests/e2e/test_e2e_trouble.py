"""Applications that fail, and clients that misbehave: each gets its answer, and the server serves on."""

import http.client
import os
import urllib.request

import pytest
from e2e_server import PATIENCE, until

MB = 1 << 20


@pytest.fixture
def server(serve):
    """The troubled applications on two threads."""
    return serve("trouble", "--threads", "2")


@pytest.fixture
def failing(server):
    server.expects_errors = True
    return server


def serves_on(server):
    with urllib.request.urlopen(server.url + "/hello", timeout=PATIENCE) as response:
        return response.read() == b"hello\n"


# --- Applications ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/raise_before", "RuntimeError: before the first byte"),
        ("/raise_after_start", "RuntimeError: after start_response"),
        ("/leave", "SystemExit: handlers do not stop the server"),
    ],
)
def test_an_error_before_the_first_byte_is_answered_500_and_logged_once(failing, connect, path, message):
    answer = connect(failing).ask(path)
    assert answer.status == 500
    assert message.partition(" ")[2].encode() not in answer.body  # what went wrong is not the client's business
    failing.line(f"^{message}")
    assert failing.log.count("Traceback") == 1
    assert serves_on(failing)


@pytest.mark.parametrize("path", ["/raise_after_chunk", "/raise_after_length"])
def test_an_error_after_the_first_byte_cuts_the_answer_off_so_that_the_client_notices(failing, path):
    connection = http.client.HTTPConnection(*failing.address, timeout=PATIENCE)
    connection.request("GET", path)
    response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    assert caught.value.partial == b"the beginning"
    connection.close()
    failing.line("RuntimeError: after the first byte")
    assert failing.log.count("Traceback") == 1
    assert serves_on(failing)


def test_two_hundred_errors_leave_nothing_behind(failing, connect):
    assert serves_on(failing)
    before = failing.holds()
    for number in range(200):
        client = connect(failing)
        client.get(["/raise_before", "/raise_after_start", "/raise_after_chunk", "/raise_after_length"][number % 4])
        client.rest()
        client.close()
    failing.settle(before)
    assert until(lambda: failing.stats()["connections"] == 1, "no connection is left")


# --- Clients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x00\xff\xfe\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n", 400),  # TLS
        (b"HELO there\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: t\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: t\r\nA: " + b"b" * 10_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/3.0\r\nHost: t\r\n\r\n", 505),
    ],
)
def test_garbage_is_answered_and_the_connection_closed_politely(server, connect, garbage, status):
    client = connect(server)
    client.send(garbage + b"x" * 5000)  # what it still sends must not make a reset of the answer
    answer = client.answer()
    assert (answer.status, answer.fields["connection"]) == (status, "close")
    assert client.rest() == b""
    assert serves_on(server)


def test_clients_that_vanish_at_any_point_leave_nothing_behind(server, connect):
    assert serves_on(server)
    before = server.holds()
    for rude in (True, False):
        for begun in (
            b"",
            b"G",
            b"GET / HTTP/1.1\r\nHost:",
            b"POST /hello HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc",
            b"POST /hello HTTP/1.1\r\nHost: t\r\nContent-Length: 9000000\r\n\r\n" + b"x" * (2 * MB),
            b"POST /hello HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n",
            b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n",
            b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n" * 20,
        ):
            client = connect(server)
            client.send(begun)
            client.reset() if rude else client.close()
    server.settle(before)
    assert until(lambda: server.stats()["connections"] == 1, "no connection is left")
    assert "ERROR" not in server.log


def test_an_endless_answer_ends_when_its_client_vanishes(serve, connect):
    server = serve("trouble", "--threads", "2", "--response-spool", "1MiB")
    assert serves_on(server)
    before = server.holds()
    client = connect(server, receive_buffer=65536)
    client.get("/endless")
    assert client.sock.recv(100).startswith(b"HTTP/1.1 200 OK")
    client.reset()
    server.line("the client is gone")
    server.settle(before)
    assert "ERROR" not in server.log


def test_clients_that_vanish_while_a_file_is_sent_leave_nothing_behind(serve, connect, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(MB) * 8)
    server = serve("trouble", "--threads", "2", E2E_FILE=str(path))
    assert connect(server).ask("/file").body == path.read_bytes()
    before = server.holds()
    clients = [connect(server, receive_buffer=65536) for _ in range(10)]
    for client in clients:
        client.get("/file")
        assert client.sock.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert serves_on(server)
    for client in clients:
        client.reset()
    server.settle(before)


def test_silent_clients_do_not_delay_others_and_are_closed_in_time(serve, connect):
    server = serve("trouble", "--threads", "2", "--head-timeout", "2", "--no-defer-accept")
    silent = [connect(server) for _ in range(4)]
    for _ in range(4):
        silent.append(connect(server))
        silent[-1].send(b"GET / HT")
    assert serves_on(server)
    assert [client.rest()[:12] for client in silent] == [b""] * 4 + [b"HTTP/1.1 408"] * 4
    assert serves_on(server)
