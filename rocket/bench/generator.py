"""The load generator: one thread, non-blocking sockets, the `selectors` module. Run by `rocket.bench.load`.

Latency goes from the call of send to the last byte of the answer (from connect, if each request has a connection of
its own; from when the request was due, if there is a rate). What an answer waits in here until it is read is in it,
too, as with every generator: keep it from being full.
"""

from __future__ import annotations

import errno
import json
import select
import selectors
import socket
import struct
import sys
import time
from array import array
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from rocket.bench.answers import Answer, Unreadable
from rocket.bench.histogram import Histogram
from rocket.bench.limits import raise_open_files
from rocket.bench.load import LoadError, LoadResult, LoadSpec
from rocket.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from rocket.bench.secure import SecureSocket

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
SMALL, LARGE = 16384, 262144  # bytes that are read at once, of an answer's beginning and of what comes after
TICK = 0.05  # s between two looks at what is too late, and at what has failed
_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN}


class Known:
    """Recognizes an answer that has the same framing as one before, much faster than reading its head.

    The same length in all, the same status, the same end of the head and the same Content-Length at the same places:
    then it is one whole answer.
    """

    def __init__(self, head: bytes, body_length: int) -> None:
        lower = head.lower()
        self.length = len(head) + body_length
        self._start = head[:12]  # HTTP/1.1 200
        self._field = lower.find(b"\r\ncontent-length:")
        self._field_end = lower.find(b"\r\n", self._field + 2) + 2
        self._text = head[self._field : self._field_end]
        self._head_end = len(head)

    def matches(self, data: bytes) -> bool:
        """Whether *data* is such an answer, whole."""
        return (
            len(data) == self.length
            and data.startswith(self._start)
            and data[self._field : self._field_end] == self._text
            and data[self._head_end - 4 : self._head_end] == b"\r\n\r\n"
        )


class Client:
    """One connection, with at most one request on its way."""

    __slots__ = ("answer", "busy", "connecting", "fd", "out", "shaking", "sock", "started")

    def __init__(self, sock: socket.socket) -> None:
        self.sock: Union[socket.socket, SecureSocket] = sock
        self.fd = sock.fileno()
        self.busy = False  # whether a request is on its way
        self.started = 0.0  # when it began
        self.connecting = False
        self.shaking = False  # whether its TLS handshake is on its way
        self.out = memoryview(b"")  # what is still to be sent of it
        self.answer: Optional[Answer] = None  # the one that is being read, if its first piece was not all of it


class Generator:
    """Send what *spec* says. *tell* is called with "begin" and "end". One thread."""

    def __init__(self, spec: LoadSpec, tell: Callable[[str], object], parent: Optional[int] = None) -> None:
        """*parent* is a descriptor that is at its end when the load is not wanted any more."""
        self._spec = spec
        self._tell = tell
        self._parent = parent
        self._requests = spec.requests()
        self._next_request = 0
        self._head_only = spec.method == "HEAD"
        self._selector = selectors.DefaultSelector()
        found = socket.getaddrinfo(spec.host, spec.port, type=socket.SOCK_STREAM)[0]
        self._family: socket.AddressFamily = found[0]
        self._address: Any = found[4]  # (host, port), and two more for IPv6
        self._context: Optional[ssl.SSLContext] = None
        self._agreed = ""  # in the handshake
        self._clients: set[Client] = set()
        self._known: Optional[Known] = None
        self._latencies = array("d")  # 8 bytes a request
        self._errors: Counter[str] = Counter()
        self._received = 0
        # The closed loop: connections that failed. Opened again at the next tick; at once would be a busy loop.
        self._missing = 0
        # The open loop: connections that wait for a request, and how many more may be opened.
        self._interval = 1.0 / spec.rate if spec.rate else 0.0
        self._due = 0.0  # when the next request is due
        self._free: deque[Client] = deque()  # may hold some that the server has closed since
        self._slots = self._sent = 0

    # ------------------------------------------------------------------ the seconds

    def run(self) -> Optional[LoadResult]:
        """Send, count, and return what was found; None if the load is not wanted any more. Raises LoadError."""
        try:
            if self._parent is not None:
                self._selector.register(self._parent, READ, None)
            self._start()
            if not self._work_until(time.perf_counter() + self._spec.warmup):
                return None
            self._tell("begin")
            self._latencies, self._received, self._sent = array("d"), 0, 0
            self._errors.clear()
            cpu, begin = time.process_time(), time.perf_counter()
            if not self._work_until(begin + self._spec.seconds):
                return None
            end = time.perf_counter()
            cpu = time.process_time() - cpu
            self._tell("end")
        finally:
            for client in self._clients:
                client.sock.close()
            self._selector.close()
        latencies = Histogram()
        latencies.record(self._latencies)
        return LoadResult(
            seconds=end - begin,
            requests=len(self._latencies),
            errors=dict(self._errors),
            bytes_received=self._received,
            latencies=latencies,
            generator_cpu=cpu / (end - begin),
            sent=self._sent,
            unsent=max(0, int((end - self._due) / self._interval)) if self._interval else 0,
            tls=self._agreed,
        )

    def _start(self) -> None:
        """Connect. Raises LoadError if that is not possible, before anything is measured."""
        if self._spec.tls:
            # Each goes on to its handshake and request at once: a thread of cheroot or gunicorn waits for a silent one.
            self._agree()
            self._slots = self._missing = self._spec.connections
            self._due = time.perf_counter()
            return
        sockets: list[socket.socket] = []
        try:
            for _ in range(self._spec.connections if self._spec.keep_alive else 1):
                sockets.append(socket.create_connection(self._address[:2], self._spec.request_timeout))
        except OSError as exc:
            for sock in sockets:
                sock.close()
            where = f"{self._spec.host}:{self._spec.port}"
            which = f"connection {len(sockets) + 1} of {self._spec.connections}"
            raise LoadError(f"cannot connect to {where} ({which}): {exc}") from exc
        if not self._spec.keep_alive:
            sockets.pop().close()  # it was only to see whether somebody is there
            self._slots = self._missing = self._spec.connections
        for sock in sockets:
            client = self._adopt(sock)
            self._selector.register(client.fd, READ, client)
            if self._interval:
                self._free.append(client)
            else:
                self._send(client, time.perf_counter())
        self._due = time.perf_counter()

    def _agree(self) -> None:
        """Try a handshake on a connection of its own. Raises LoadError if that fails."""
        from rocket.bench.secure import client_context, probe  # ssl takes 10 ms and 2 MB

        self._context = client_context()
        try:
            sock = socket.create_connection(self._address[:2], self._spec.request_timeout)
            self._agreed = probe(sock, self._context)
        except OSError as exc:
            raise LoadError(f"no TLS handshake with {self._spec.host}:{self._spec.port}: {exc}") from exc

    def _work_until(self, end: float) -> bool:
        """Work until *end*; return False if the parent is gone."""
        clock, select_ready, flush, read = time.perf_counter, self._selector.select, self._flush, self._read
        wait_for, tick = _precise_wait(self._selector), 0.0
        while True:
            now = clock()
            if now >= end:
                return True
            if now >= tick:
                self._look_after(now)
                tick = now + TICK
            wait = min(tick, end) - now
            if self._interval:
                self._send_what_is_due(now)
                if self._free or self._slots:
                    wait = min(wait, self._due - clock())
                wait_for(max(0.0, wait))
                wait = 0.0
            for key, events in select_ready(wait):
                client = key.data
                if client is None:
                    return False
                (flush if events & WRITE else read)(client)

    def _send_what_is_due(self, now: float) -> None:
        """Send the requests whose time has come, as far as there are connections for them. The others stay due."""
        while self._due <= now:
            if self._free:
                client = self._free.popleft()
                if client not in self._clients:
                    continue
                self._send(client, self._due if not self._spec.from_sent else time.perf_counter())
            elif self._slots:
                self._slots -= 1
                self._open(self._due if not self._spec.from_sent else time.perf_counter())
            else:
                return
            self._sent += 1
            self._due += self._interval

    def _look_after(self, now: float) -> None:
        """Give up what takes too long; in the closed loop, open again what has failed."""
        limit = now - self._spec.request_timeout
        for client in [each for each in self._clients if each.busy and each.started < limit]:
            self._fail(client, "timeout")
        if not self._interval:
            missing, self._missing = self._missing, 0
            for _ in range(missing):
                self._open(now)

    # ------------------------------------------------------------------ a request

    def _adopt(self, sock: socket.socket) -> Client:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(sock)
        self._clients.add(client)
        return client

    def _open(self, started: float) -> None:
        """Begin a request on a new connection."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        client = self._adopt(sock)
        if not sys.platform.startswith("linux"):
            # Closed by a reset, after the answer: elsewhere a port in TIME_WAIT cannot be used again at once, and macOS
            # has 16,384 of them.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.busy, client.started = True, started
        failure = sock.connect_ex(self._address)
        if failure not in _IN_PROGRESS:
            self._fail(client, "connect")
            return
        self._selector.register(client.fd, WRITE, client)
        client.connecting = True

    def _secure(self, client: Client, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Begin TLS on a connection that the selector watches for reading."""
        from rocket.bench.secure import SecureSocket

        try:
            client.sock = SecureSocket(sock, context)
        except OSError:  # the server has closed it meanwhile
            self._fail(client, "handshake")
            return
        client.shaking = True
        self._shake(client)

    def _shake(self, client: Client) -> None:
        """Go on with a handshake; after it comes the request."""
        assert not isinstance(client.sock, socket.socket)
        try:
            event = client.sock.handshake()
        except OSError:
            self._fail(client, "handshake")
            return
        if event:
            self._selector.modify(client.fd, event, client)
            return
        client.shaking = False
        self._selector.modify(client.fd, READ, client)
        self._send(client, client.started)

    def _send(self, client: Client, started: float) -> None:
        """Send the next request on a connection that the selector watches for reading."""
        client.busy, client.started = True, started
        request = self._requests[self._next_request]
        self._next_request = (self._next_request + 1) % len(self._requests)
        try:
            sent = client.sock.send(request)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._fail(client, "reset")
            return
        if sent < len(request):
            client.out = memoryview(request)[sent:]
            self._selector.modify(client.fd, READ | WRITE, client)

    def _flush(self, client: Client) -> None:
        """Go on with a connection that is to be written to."""
        if client.connecting:
            client.connecting = False
            assert isinstance(client.sock, socket.socket)  # TLS comes next
            if client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._fail(client, "connect")
                return
            self._selector.modify(client.fd, READ, client)
            if self._context is not None:
                self._secure(client, client.sock, self._context)
            else:
                self._send(client, client.started)
            return
        if client.shaking:
            self._shake(client)
            return
        try:
            client.out = client.out[client.sock.send(client.out) :]
        except BlockingIOError:
            return
        except OSError:
            self._read(client)  # it may have refused the request, and said so before it closed
            return
        if not client.out:
            self._selector.modify(client.fd, READ, client)

    def _read(self, client: Client) -> None:
        if client.shaking:
            self._shake(client)
            return
        try:
            data = client.sock.recv(SMALL if client.answer is None else LARGE)
        except BlockingIOError:
            return
        except OSError:
            self._fail(client, "reset")
            return
        now = time.perf_counter()
        known = self._known
        if known is not None and client.answer is None and client.busy and known.matches(data):
            self._received += len(data)
            self._finish(client, now)
            return
        self._received += len(data)
        if not client.busy:  # closed by the server between two requests, or talkative
            self._forget(client)
            self._slots += 1
            if data:
                self._errors["unreadable"] += 1
            return
        first = client.answer is None
        answer = client.answer = client.answer or Answer(no_body=self._head_only)
        try:
            if not (answer.feed(data) if data else answer.end()):
                if not data:
                    self._fail(client, "closed")
                return
        except Unreadable:
            self._fail(client, "unreadable")
            return
        if answer.status >= 400:
            self._fail(client, f"status {answer.status}")
            return
        if first and answer.has_length and answer.keeps is self._spec.keep_alive:
            self._known = Known(answer.head, answer.body_length)
        client.answer = None
        self._finish(client, now, keeps=answer.keeps)

    def _finish(self, client: Client, now: float, *, keeps: bool = True) -> None:
        """Count an answer and send the next request, or have the connection ready for it."""
        self._latencies.append(now - client.started)
        if not (keeps and self._spec.keep_alive):
            self._forget(client)
            if self._interval:
                self._slots += 1
            else:
                self._open(now)
        elif self._interval:
            client.busy = False
            self._free.append(client)
        else:
            self._send(client, now)

    def _fail(self, client: Client, kind: str) -> None:
        """Count a failure, and close the connection: what state it is in, nobody knows."""
        self._errors[kind] += 1
        self._forget(client)
        if self._interval:
            self._slots += 1
        else:
            self._missing += 1

    def _forget(self, client: Client) -> None:
        self._clients.discard(client)
        try:
            self._selector.unregister(client.fd)
        except KeyError:
            pass  # it could not even connect
        client.sock.close()


def _precise_wait(selector: selectors.BaseSelector) -> Callable[[float], object]:
    """Return what waits for *selector*, or for so many seconds.

    epoll(7) counts in milliseconds, and Python rounds up: requests of an open loop would be late by one. select(2)
    counts in microseconds, and can wait for an epoll descriptor.
    """
    fileno = getattr(selector, "fileno", None)
    if fileno is None:
        return selector.select
    descriptor = fileno()
    return lambda seconds: select.select([descriptor], (), (), seconds)


def main(arguments: list[str]) -> int:
    """Make the load that the last argument describes; print the result. With --child, talk to `Load`."""
    child = arguments[:1] == ["--child"]

    def say(event: str, **found: object) -> None:
        if child:
            print(json.dumps({"event": event, **found}), flush=True)

    try:
        if len(arguments) != 1 + child:
            raise ConfigError("usage: python -m rocket.bench.load '{\"port\": 8000}'")
        spec = LoadSpec.from_json(arguments[-1])
        refused = raise_open_files(spec.connections)
        if refused is not None:
            raise LoadError(refused)
        result = Generator(spec, say, sys.stdin.fileno() if child else None).run()
    except (LoadError, ConfigError, socket.gaierror) as exc:
        say("error", why=str(exc))
        if not child:
            print(exc, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if result is None:
        return 1
    say("result", **result.as_dict())
    if not child:
        print(json.dumps(result.as_dict(), indent=2))
    return 0
