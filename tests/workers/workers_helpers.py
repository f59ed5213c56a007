"""A worker, a connection and its peer, and what the worker asked of the server. Nothing here is a fixture."""

import email.message
import email.parser
import re
from typing import NamedTuple

from rocket.workers import Options, Services, WSGIWorker

READ, WRITE = 1, 4
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_AND_CLOSE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
OLD_GET = b"GET / HTTP/1.0\r\n\r\n"
OLD_GET_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
MB = 1 << 20
LENGTH_3 = ("Content-Length", "3")


def post(body, *fields, length=None):
    """A request with a body of a known length; of which less may come than it says."""
    lines = ["POST /form HTTP/1.1", "Host: x", f"Content-Length: {len(body) if length is None else length}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post_chunks(chunks, *fields):
    """A request with a chunked body; *chunks* is as it goes over the wire."""
    lines = ["POST /form HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + chunks


def answering(body=b"", *headers, status="200 OK"):
    """An application that always answers the same."""

    def app(environ, start_response):
        start_response(status, list(headers))
        return body() if callable(body) else body

    return app


class Answer(NamedTuple):
    """A response as it came."""

    status: int
    headers: email.message.Message
    body: bytes  # as it came, chunks and all, and whatever came behind it

    @property
    def chunks(self):
        """The content of a chunked body, which must be whole and all there is."""
        parts = re.findall(rb"([0-9a-f]+)\r\n(.*?)\r\n", self.body, re.DOTALL)
        assert parts[-1] == (b"0", b"") or self.body.endswith(b"\r\n0\r\n\r\n")
        assert self.body == b"".join(b"%b\r\n%b\r\n" % part for part in parts)
        return b"".join(data for _, data in parts)


def parse(data):
    """Read one response."""
    head, end, body = data.partition(b"\r\n\r\n")
    assert end, f"no whole response: {data!r}"
    line, _, fields = head.partition(b"\r\n")
    headers = email.parser.Parser().parsestr(fields.decode("latin-1"))
    return Answer(int(line.split()[1]), headers, body)


class Stand:
    """A connection on a worker's stand. *did* is what the worker asked of the server, in order."""

    def __init__(self, connection, theirs, app=None, *, worker=WSGIWorker, early=None, routes=None, **options):
        self.connection = connection
        self.theirs = theirs
        self.did = []
        self.deadlines = []
        self.hand_overs = 0
        self.early = early  # how many requests may still begin early
        self.ended_early = 0
        services = Services(
            park=self._park,
            submit=lambda connection: self.did.append("submit"),
            close=self._close,
            detach=self._detach,
            hand_over=self._hand_over,
            begin_early=self._begin_early,
            end_early=self._end_early,
            stats=lambda: {"threads": 1},
        )
        more = {} if routes is None else {"routes": routes}
        self.worker = worker(app, services, Options(**options), **more)

    # ------------------------------------------------------------------ the services

    def _park(self, connection, events, deadline):
        connection.deadline = deadline
        self.deadlines.append(deadline)
        self.did.append({READ: "read", WRITE: "write"}[events])

    def _close(self, connection):
        self.did.append("close")
        connection.close()

    def _detach(self, connection):
        self.did.append("detach")
        connection.detach()

    def _hand_over(self):
        self.hand_overs += 1

    def _begin_early(self):
        if not self.early:
            return False
        self.early -= 1
        return True

    def _end_early(self):
        self.ended_early += 1

    # ------------------------------------------------------------------ what a test does

    def send(self, data):
        self.theirs.sendall(data)

    def turn(self):
        """Take one turn; return what became of the connection."""
        self.worker.run(self.connection)
        return self.did[-1]

    def expire(self):
        return self.worker.expire(self.connection)

    def received(self):
        """All that has come by now."""
        parts = []
        self.theirs.setblocking(False)
        try:
            while part := self.theirs.recv(MB):
                parts.append(part)
        except (BlockingIOError, ConnectionError):
            pass
        self.theirs.settimeout(20)
        return b"".join(parts)

    def ask(self, request):
        """Send a request, take a turn, return the answer."""
        self.send(request)
        self.turn()
        return parse(self.received())

    def read_all(self):
        """Take turns, and read, until the connection is not parked for writing any more; return all that came."""
        parts = [self.received()]
        while self.did[-1] == "write":
            self.turn()
            parts.append(self.received())
        return b"".join(parts)


class LoggedTurns:
    """What an iterable went through."""

    def __init__(self, blocks, fail=None):
        self._blocks = iter(blocks)
        self._fail = fail
        self.given = 0
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        block = next(self._blocks)
        if isinstance(block, BaseException):
            raise block
        self.given += 1
        return block

    def close(self):
        self.closed += 1
        if self._fail is not None:
            raise self._fail


class TimedWorker(WSGIWorker):
    """A worker whose time the test sets."""

    now = 1000.0

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._clock = lambda: self.now
