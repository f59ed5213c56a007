"""How long does HTTP take, without I/O?

    python bench/parse.py [milliseconds per row]

Prints microseconds a call, the best of several runs: on a machine with other work the rest is noise. The rows that
begin with "-" are what `rocket.http1` does not do, to show what its unusual lines are worth.
"""

import sys
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rocket import http1
from rocket.errors import BadRequest
from rocket.http1 import head, target

LIMITS = http1.Limits()
WRK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
BROWSER = (
    b"GET /a/path?x=1 HTTP/1.1\r\nHost: localhost:8000\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n"
    b"Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n"
)
POST = b"POST /api HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"POST /api HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = WRK.replace(b"Host: ", b"Host : ")
BASE = {f"key.{i}": "value" for i in range(16)}  # about as many as a base environ has
ONE = [("Content-Type", "text/plain")]
UNKNOWN = [("Content-Kind", "text/plain")]
TWO = [("Content-Type", "text/plain"), ("Content-Length", "13")]
SIX = [*TWO, ("Cache-Control", "no-store"), ("Vary", "Cookie"), ("ETag", '"0123456789"'), ("Set-Cookie", "a=b; Path=/")]
BLOCKS = (http1.chunk(b"x" * 65536) * 16) + http1.LAST_CHUNK
BYTES = http1.chunk(b"x") * 1000 + http1.LAST_CHUNK


def refused():
    try:
        http1.read_head(BAD, {}, LIMITS)
    except BadRequest:
        return


def names_forgotten():
    head._NAMES.clear()
    lines_forgotten()


def lines_forgotten():
    head._LINES.clear()
    head._REQUESTS.clear()
    http1.read_head(BROWSER, {}, LIMITS)


ROWS = [
    ("read_head, wrk's request (1 field)", lambda: http1.read_head(WRK, {}, LIMITS)),
    ("the same into a copy of 16 base keys", lambda: http1.read_head(WRK, BASE.copy(), LIMITS)),
    ("read_head, a browser's request (8 fields)", lambda: http1.read_head(BROWSER, {}, LIMITS)),
    ("- the same, every line seen for the first time", lines_forgotten),
    ("- the same, every field name, too", names_forgotten),
    ("read_head, POST with Content-Length", lambda: http1.read_head(POST, {}, LIMITS)),
    ("read_head, POST, chunked, Connection: close", lambda: http1.read_head(CHUNKED, {}, LIMITS)),
    ("read_head, incomplete (find only)", lambda: http1.read_head(BROWSER[:-2], {}, LIMITS, 360)),
    ("check_partial, 8 new lines", lambda: http1.check_partial(BROWSER[:-2], 0, LIMITS)),
    ("check_partial, nothing new", lambda: http1.check_partial(BROWSER[:-2], len(BROWSER) - 2, LIMITS)),
    ("read_head, refused (space before colon)", refused),
    ("- a host by the expression instead of the set", lambda: target.check_host("127.0.0.1:8000")),
    ("- Head(...)", lambda: http1.Head("GET", "/", 1, 40, 0, True, False)),
    ("  tuple.__new__(Head, ...) as we do", lambda: tuple.__new__(http1.Head, ("GET", "/", 1, 40, 0, True, False))),
    ("split_target /a/path?x=1", lambda: http1.split_target("GET", "/a/path?x=1")),
    ("split_target /a%20path?x=1", lambda: http1.split_target("GET", "/a%20path?x=1")),
    ("format_head, 2 headers", lambda: http1.format_head("200 OK", TWO)),
    ("format_head, 6 headers", lambda: http1.format_head("200 OK", SIX)),
    ("format_head, 1 header that is looked up", lambda: http1.format_head("200 OK", ONE)),
    ("- format_head, 1 header that is not", lambda: http1.format_head("200 OK", UNKNOWN)),
    ("http_date", lambda: http1.http_date(784111777)),
    ("error_response", lambda: http1.error_response(400, "no Host", "D", "rocket")),
    ("ChunkedBody, 1 MB in chunks of 64 KB", lambda: http1.ChunkedBody(LIMITS).feed(BLOCKS)),
    ("ChunkedBody, 1000 chunks of a byte", lambda: http1.ChunkedBody(LIMITS).feed(BYTES)),
]


def peers():
    try:
        import httptools
    except ImportError:
        pass
    else:

        class Fields:
            def __init__(self):
                self.fields = {}

            def on_url(self, url):
                self.url = url

            def on_header(self, name, value):
                self.fields["HTTP_" + name.decode("latin-1").upper().replace("-", "_")] = value.decode("latin-1")

        yield "httptools (C), a browser's request", lambda: httptools.HttpRequestParser(Fields()).feed_data(BROWSER)
    try:
        import h11
    except ImportError:
        return

    def read():
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(BROWSER)
        connection.next_event()

    yield "h11, a browser's request", read


def main():
    seconds = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.2
    print(f"Python {sys.version.split()[0]}")
    for words, action in [*ROWS, *peers()]:
        count = max(1, int(seconds / 5 / timeit.timeit(action, number=5) * 5))
        best = min(timeit.repeat(action, number=count, repeat=5)) / count
        print(f"{best * 1e6:10.2f} us  {words}")


if __name__ == "__main__":
    main()
