"""httpbin (PyPI) served by Rocket, asked by the clients that people use."""

import asyncio
import json
import threading
from typing import NamedTuple

import pytest

pytest.importorskip("httpbin")

BLOCKS = [b"block %d " % i * 100 for i in range(20)]


class Fetched(NamedTuple):
    status: int
    fields: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Requests:
    """What `requests` gets. One session: connections are kept."""

    def __init__(self):
        self._session = pytest.importorskip("requests").Session()

    def fetch(self, url, method="GET", body=None, follow=True, **fields):
        got = self._session.request(
            method, url, data=body and iter(body), headers=fields, allow_redirects=follow, timeout=20
        )
        return Fetched(got.status_code, got.headers, got.content)

    def close(self):
        self._session.close()


class Urllib3:
    def __init__(self):
        self._pool = pytest.importorskip("urllib3").PoolManager(timeout=20, retries=20)

    def fetch(self, url, method="GET", body=None, follow=True, **fields):
        chunked = {"chunked": True} if body else {}
        got = self._pool.request(
            method, url, body=body and iter(body), headers=fields, redirect=follow, decode_content=True, **chunked
        )
        return Fetched(got.status, got.headers, got.data)

    def close(self):
        self._pool.clear()


class Httpx:
    def __init__(self):
        self._client = pytest.importorskip("httpx").Client(timeout=20)

    def fetch(self, url, method="GET", body=None, follow=True, **fields):
        got = self._client.request(method, url, content=body and iter(body), headers=fields, follow_redirects=follow)
        return Fetched(got.status_code, got.headers, got.content)

    def close(self):
        self._client.close()


class Aiohttp:
    """What `aiohttp` gets, in an event loop of its own."""

    def __init__(self):
        self._module = pytest.importorskip("aiohttp")
        self._loop = asyncio.new_event_loop()
        self._session = None

    def fetch(self, url, method="GET", body=None, follow=True, **fields):
        return self._loop.run_until_complete(self._fetch(url, method, body, follow, fields))

    async def _fetch(self, url, method, body, follow, fields):
        if self._session is None:
            self._session = self._module.ClientSession()
        data = None if body is None else self._iterate(body)
        async with self._session.request(method, url, data=data, headers=fields, allow_redirects=follow) as got:
            return Fetched(got.status, got.headers, await got.read())

    @staticmethod
    async def _iterate(blocks):
        for block in blocks:
            yield block

    def close(self):
        if self._session is not None:
            self._loop.run_until_complete(self._session.close())
        self._loop.close()


@pytest.fixture(params=[Requests, Urllib3, Httpx, Aiohttp], ids=lambda each: each.__name__.lower())
def client(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture(params=["httpbin_app", "httpbin_app:validated"], ids=["plain", "validated"])
def url(request, shared):
    return shared(request.param, "--threads", "4").url


def test_what_was_sent_comes_back(client, url):
    got = client.fetch(url + "/get?a=1&b=%C3%A9", Custom="value")
    assert got.status == 200
    assert got.json["args"] == {"a": "1", "b": "\u00e9"}
    assert got.json["headers"]["Custom"] == "value"
    assert got.json["url"] == url + "/get?a=1&b=\u00e9"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_in_chunks_arrives_whole(client, url, method):
    got = client.fetch(f"{url}/{method.lower()}", method, body=BLOCKS)
    assert got.status == 200
    assert got.json["data"] == b"".join(BLOCKS).decode()


def test_a_body_in_one_piece_arrives(client, url):
    assert client.fetch(url + "/post", "POST", body=[b"0123456789"]).json["data"] == "0123456789"


@pytest.mark.parametrize(
    "path", ["/stream/20", "/stream-bytes/100000?chunk_size=1000&seed=7", "/drip?duration=0.2&numbytes=9"]
)
def test_streamed_answers_arrive_whole(client, url, path):
    got = client.fetch(url + path)
    assert got.status == 200
    if "drip" in path:
        assert got.body == 9 * b"*"
    elif "bytes" in path:
        assert len(got.body) == 100_000
    else:
        assert [json.loads(line)["id"] for line in got.body.splitlines()] == list(range(20))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_answers_are_understood(client, url, coding):
    fields = {"Accept-Encoding": coding}
    assert client.fetch(f"{url}/{coding}", **fields).json["method"] == "GET"


def test_a_range_of_the_bytes(client, url):
    got = client.fetch(url + "/range/1024", Range="bytes=10-19")
    assert (got.status, got.fields["Content-Range"], got.body) == (206, "bytes 10-19/1024", b"klmnopqrst")


@pytest.mark.parametrize(
    "path", ["/redirect/3", "/relative-redirect/3", "/absolute-redirect/3", "/redirect-to?url=%2Fget"]
)
def test_redirects_are_followed(client, url, path):
    assert client.fetch(url + path, follow=False).status == 302
    got = client.fetch(url + path)
    assert got.status == 200
    assert got.json["url"] == url + "/get"


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 418, 500, 503])
def test_every_status_leaves_the_connection_in_order(client, url, status):
    for _ in range(3):
        assert client.fetch(f"{url}/status/{status}").status == status
        assert client.fetch(url + "/bytes/10?seed=1").status == 200


def test_a_head_request_gets_no_body(client, url):
    got = client.fetch(url + "/bytes/1000", "HEAD")
    assert (got.status, got.body, got.fields["Content-Length"]) == (200, b"", "1000")
    assert client.fetch(url + "/get").status == 200


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/basic-auth/user/secret", {"Authorization": "Basic dXNlcjpzZWNyZXQ="}, 200),
        ("/basic-auth/user/secret", {}, 401),
        ("/bearer", {"Authorization": "Bearer token"}, 200),
        ("/cache", {"If-Modified-Since": "Sat, 01 Jan 2022 00:00:00 GMT"}, 304),
        ("/etag/x", {"If-None-Match": "x"}, 304),
        ("/cookies", {"Cookie": "a=b"}, 200),
        ("/response-headers?Answer=42", {}, 200),
        ("/encoding/utf8", {}, 200),
        ("/image/png", {}, 200),
        ("/html", {}, 200),
        ("/json", {}, 200),
        ("/delay/0.1", {}, 200),
        ("/no/such/path", {}, 404),
    ],
)
def test_other_endpoints(client, url, path, fields, status):
    got = client.fetch(url + path, **fields)
    assert got.status == status
    if path.startswith("/response-headers"):
        assert got.fields["Answer"] == "42"


def test_side_by_side(client, url):
    """More at a time than there are threads; delays overlap."""
    answers = []

    def run():
        own = type(client)()
        answers.extend(own.fetch(f"{url}/{path}").status for path in ("delay/0.2", "bytes/50000", "stream/5"))
        own.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == 24 * [200]
