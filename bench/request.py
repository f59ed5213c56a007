"""How long is a request's way through Rocket's Python, without the operating system?

    python bench/request.py [--json]

Prints microseconds of CPU a request: from `Worker.run` to the parking of the connection, with a socket that
answers from memory. What is missing is what no Python can save: recv, send and a share of the poll. Each
figure is the best of several runs: on a machine with other work the rest is noise. The rows that begin with "-"
show what an unusual line is worth.
"""

import json
import logging
import sys
import time
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rocket.connection import Connection
from rocket.workers import Options, Services, WSGIWorker

RUNS = 7
REQUESTS = 20_000  # a run
BODY = b"Hello, World!"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "13")]

WRK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
# As ../shared/compare/browser.lua: path, query, referer and a request id differ from request to request.
BROWSER = [
    (
        f"GET /page/{i % 997}?q={i} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/130.0 Safari/537.36\r\n"
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
        "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"
        "Cookie: sessionid=abcdef0123456789; csrftoken=0123456789abcdef\r\n"
        f"Referer: http://127.0.0.1/page/{i * 7 % 997}\r\nX-Request-Id: {i}\r\nConnection: keep-alive\r\n\r\n"
    ).encode()
    for i in range(5000)
]
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Length: 10240\r\n\r\n" + b"x" * 10240


def hello(environ, start_response):
    start_response("200 OK", list(HEADERS))
    return [BODY]


def created(environ, start_response):
    start_response("201 Created", list(HEADERS))
    return [BODY]


def pieces(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter((BODY, BODY, BODY))


def echo(environ, start_response):
    data = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(data)))])
    return [data]


ROWS = [
    ("hello: wrk's request (1 field), 13 bytes", hello, [WRK]),
    ("- the same with 201: by the general way, not the usual answer's", created, [WRK]),
    ("browser: 9 fields, each request different", hello, BROWSER),
    ("echo: POST of 10 KB and back", echo, [POST]),
    ("pieces: an iterator of 3 blocks, chunked", pieces, [WRK]),
]


class MemorySocket:
    """A socket whose peer always has another of *requests* ready, and takes everything."""

    def __init__(self, requests):
        self._next = cycle(requests).__next__

    def fileno(self):
        return -1

    def recv(self, size):
        return self._next()

    def send(self, data):
        return len(data)

    def close(self):
        pass


def microseconds(app, requests):
    """Return the time of a request in the fastest run."""
    parked = []
    services = Services(
        park=lambda connection, events, deadline: parked.append(1), submit=_wrong, close=_wrong, detach=_wrong
    )
    run = WSGIWorker(app, services, Options(max_requests=0)).run
    connection = Connection(MemorySocket(requests), ("127.0.0.1", "5000"), ("127.0.0.1", "8000"))
    connection.since = float("inf")  # no request has waited: there is no poll that would say since when
    best = float("inf")
    for _ in range(RUNS):
        parked.clear()
        start = time.thread_time()
        for _ in range(REQUESTS):
            run(connection)
        best = min(best, time.thread_time() - start)
        assert len(parked) == REQUESTS, "a request was not answered as usual"
    return best / REQUESTS * 1e6


def _wrong(connection):
    raise AssertionError(f"{connection!r} was not to be given up")


def main():
    logging.disable()  # the worker would log what fails; the assertions say it
    rows = {words: round(microseconds(app, requests), 2) for words, app, requests in ROWS}
    if "--json" in sys.argv:
        print(json.dumps({"python": sys.version.split()[0], "microseconds": rows}))
        return
    print(f"Python {sys.version.split()[0]}")
    for words, figure in rows.items():
        print(f"{figure:10.2f} us  {words}")


if __name__ == "__main__":
    main()
