"""Real applications, by real clients: each framework in examples/ answers as it should."""

import hashlib
import http.client
import random
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
from e2e_server import PATIENCE, until

MB = 1 << 20

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def session():
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        yield session


@pytest.fixture(params=[pytest.param(5, id="5MB"), pytest.param(50, id="50MB", marks=pytest.mark.slow)])
def large_file(request, tmp_path):
    """A file that cannot be guessed, and what an upload of it is answered."""
    path = tmp_path / "large"
    source = random.Random(request.param)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(request.param):
            block = source.getrandbits(8 * MB).to_bytes(MB, "little")
            digest.update(block)
            file.write(block)
    return path, f"{digest.hexdigest()} {request.param * MB}\n"


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done


def test_a_page(framework):
    with urllib.request.urlopen(framework.url, timeout=PATIENCE) as response:
        assert response.status == 200
        assert f"{framework.name.title()} on Rocket</h1>".encode() in response.read()


def test_a_form(framework, session):
    assert '<input name="name">' in session.get(framework.url + "/form", timeout=PATIENCE).text
    answer = session.post(framework.url + "/form", data={"name": "Jos\u00e9 <b>"}, timeout=PATIENCE)
    assert '<p id="result">Hello, Jos\u00e9 &lt;b&gt;!</p>' in answer.text


@needs_curl
def test_an_upload(framework, large_file):
    path, expected = large_file
    assert curl("-F", f"file=@{path}", framework.url + "/upload").stdout.decode() == expected


@needs_curl
def test_a_chunked_upload(framework, large_file):
    path, expected = large_file
    chunked = ["-H", "Transfer-Encoding: chunked"]
    assert curl(*chunked, "-F", f"file=@{path}", framework.url + "/upload").stdout.decode() == expected


def test_a_download_of_unknown_length(framework):
    with urllib.request.urlopen(framework.url + "/download?mb=3", timeout=PATIENCE) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.read() == b"\xa5" * (3 * MB)


@pytest.mark.parametrize("mb", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_downloads_to_slow_readers_hold_no_thread(framework, connect, mb):
    slow = [connect(framework, receive_buffer=65536) for _ in range(4)]  # twice as many as there are threads
    for client in slow:
        client.get(f"/download?mb={mb}")
        assert client.sock.recv(1024).startswith(b"HTTP/1.1 200 OK\r\n")
    for _ in range(10):
        with urllib.request.urlopen(framework.url, timeout=PATIENCE) as response:
            assert response.status == 200
    received = steps = 0
    tail = b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):  # the last chunk
        data = slow[0].sock.recv(65536)
        assert data, f"the end came after {received} bytes"
        tail = tail[-8:] + data
        received += len(data)
        steps += 1
        if steps % 100 == 0 and steps < 1000:
            with urllib.request.urlopen(framework.url, timeout=PATIENCE) as response:
                assert response.status == 200
    assert received + 1024 > mb * MB
    for client in slow[1:]:
        client.reset()


def test_a_redirect_is_followed(framework, session):
    answer = session.get(framework.url + "/redirect", timeout=PATIENCE)
    assert [each.status_code for each in answer.history] == [302]
    assert urllib.parse.urlsplit(answer.url).path == "/"
    assert "on Rocket" in answer.text


def test_cookies_come_back(framework, session):
    assert [session.get(framework.url + "/cookie", timeout=PATIENCE).text for _ in range(3)] == [
        "visit 1\n",
        "visit 2\n",
        "visit 3\n",
    ]


def test_head_has_the_fields_and_no_body_and_keeps_the_connection(framework):
    connection = http.client.HTTPConnection(*framework.address, timeout=PATIENCE)
    connection.request("HEAD", "/")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    sock = connection.sock
    connection.request("GET", "/")
    assert b"on Rocket" in connection.getresponse().read()
    assert connection.sock is sock
    connection.close()


def test_an_error_is_answered_500_and_the_next_request_as_if_nothing_was(framework):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(framework.url + "/error", timeout=PATIENCE)
    caught.value.close()
    assert caught.value.code == 500
    framework.line(r"RuntimeError: this handler always fails") if framework.name != "django" else None
    with urllib.request.urlopen(framework.url, timeout=PATIENCE) as response:
        assert response.status == 200


def test_slow_handlers_run_side_by_side(framework, connect):
    clients = [connect(framework) for _ in range(2)]
    for client in clients:
        client.get("/slow?s=0.2")
    assert [client.answer().body for client in clients] == [b"slept 0.2 s\n"] * 2


@needs_curl
def test_curl_keeps_its_connection_and_reads_everything(framework):
    done = curl("-v", framework.url, framework.url + "/cookie")
    assert done.stdout.endswith(b"visit 1\n")
    assert b"Re-using existing connection" in done.stderr


def test_nothing_is_left_of_clients_that_vanish(framework, connect):
    with urllib.request.urlopen(framework.url, timeout=PATIENCE):
        pass  # what is made for the first request has been made
    until(lambda: not framework.handle.net_connections("tcp")[1:], "the connections of other tests are gone")
    before = framework.holds()
    clients = [connect(framework) for _ in range(20)]
    for number, client in enumerate(clients):
        client.get("/download?mb=50") if number % 2 else client.send(b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Le")
    for client in clients:
        client.reset()
    framework.settle(before)
