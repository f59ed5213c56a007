"""The worker that calls a WSGI application (PEP 3333)."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Callable, Optional

from rocket import http1
from rocket.errors import ApplicationError, BadRequest, ConnectionLost
from rocket.workers.after import CLOSE, NEXT, After
from rocket.workers.base import Options, Services, Worker
from rocket.workers.environ import FileWrapper, base_environ
from rocket.workers.routes import SLOW, Routes

if TYPE_CHECKING:
    from rocket.connection import Connection

log = logging.getLogger("rocket.worker")

JOIN = 16384  # bytes: up to here copying a body behind its head is cheaper than sendmsg(2) with both
perf_counter = time.perf_counter
thread_time = time.thread_time


class WSGIWorker(Worker):
    """Call the WSGI application *app* for each request."""

    def __init__(self, app: Any, services: Services, options: Options, routes: Optional[Routes] = None) -> None:
        super().__init__(app, services, options)
        self.routes = Routes() if routes is None else routes
        self._waits = self.routes.waits  # bound once: looked into for each request
        self._bases: dict[tuple[str, str], dict[str, Any]] = {}
        self._max_requests = options.max_requests or sys.maxsize
        self._tail = b""  # Date and Server, with the empty line
        self._tail_second = 0

    def new_fields(self, connection: Connection) -> dict[str, Any]:
        try:
            return self._bases[connection.endpoint].copy()
        except KeyError:
            base = base_environ(
                connection.endpoint,
                secure=connection.secure,
                software=self.options.server_header or "Rocket",
                stats=self.services.stats,
            )
            self._bases[connection.endpoint] = base
            return base.copy()

    def respond(
        self, connection: Connection, head: http1.Head, fields: dict[str, Any], body: Optional[IO[bytes]]
    ) -> After:
        environ = fields
        method, target, minor, _, _, keep_alive, _ = head
        path, query, authority = http1.split_target(method, target)
        if authority is not None:
            environ["HTTP_HOST"] = authority  # RFC 9112, 3.2.2
        environ["REQUEST_METHOD"] = method
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor else "HTTP/1.0"
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = query
        environ["RAW_URI"] = target
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = connection.peer
        environ["wsgi.input"] = BytesIO() if body is None else body
        if self.draining or connection.requests >= self._max_requests:
            keep_alive = False
        response = Response(self, connection, method, minor, keep_alive)
        environ["wsgi.early_hints"] = response.early_hints

        waits = self._waits.get(path)
        if waits is None:
            start = perf_counter()
            after = response.run(self.app, environ)
            if perf_counter() - start > SLOW:
                self.routes.watch(path)
            return after
        # A route that was slow once is measured: does it wait, or compute?
        if waits > SLOW:
            self.services.hand_over()
        start = perf_counter() - thread_time()
        after = response.run(self.app, environ)
        self.routes.learn(path, perf_counter() - thread_time() - start)
        return after

    def tail(self) -> bytes:
        """Return the last lines of a head: Date, Server, and the empty line."""
        now = int(time.time())
        if now != self._tail_second:
            server = self.options.server_header
            line = f"Server: {server}\r\n" if server else ""
            self._tail = f"{line}Date: {http1.http_date(now)}\r\n\r\n".encode("latin-1")
            self._tail_second = now
        return self._tail


class Response:
    """One answer of an application: `start_response`, `write`, and how they become bytes."""

    __slots__ = ("_begun", "_chunked", "_connection", "_head", "_keep_alive", "_left", "_method", "_minor", "_worker")

    def __init__(self, worker: WSGIWorker, connection: Connection, method: str, minor: int, keep_alive: bool) -> None:
        self._worker = worker
        self._connection = connection
        self._method = method
        self._minor = minor
        self._keep_alive = keep_alive
        self._head: Optional[http1.ResponseHead] = None
        self._begun = False  # the head has gone
        self._chunked = False
        self._left: Optional[int] = None  # bytes of the body to come; None: any number; valid once begun

    # ------------------------------------------------------------------ what the application sees

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info:
            try:
                if self._begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no cycle through the traceback
        elif self._head is not None:
            raise ApplicationError("start_response() was called twice, without exc_info")
        self._head = http1.format_head(status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Send a block of the body. Raises ConnectionLost, ApplicationError."""
        if not isinstance(data, bytes):
            raise ApplicationError(f"the body must be bytes, not {type(data).__name__}")
        if not data:
            return
        connection = self._connection
        if not self._begun:
            head = self._begin(None)
            data = self._frame(data)
            sent = connection.write(head + data) if len(data) <= JOIN else connection.write_parts((head, data))
        else:
            data = self._frame(data)
            sent = not data or connection.write(data)
        if not sent and connection.output.full:
            connection.drain_output(self._worker.options.write_timeout)

    def early_hints(self, headers: list[tuple[str, str]]) -> None:
        """Send a 103 with *headers*, usually Link fields, before the answer is known (RFC 8297).

        In environ as ``wsgi.early_hints``. HTTP/1.0 clients get none. Raises ApplicationError, ConnectionLost.
        """
        text = http1.format_head("200 OK", headers).text
        if self._minor and not self._begun:
            self._connection.write(
                b"HTTP/1.1 103 Early Hints\r\n" + text.partition("\r\n")[2].encode("latin-1") + b"\r\n"
            )

    # ------------------------------------------------------------------ what the worker sees

    def run(self, app: Any, environ: dict[str, Any]) -> After:
        """Call *app* and send what it returns. Never raises but for a ConnectionLost."""
        result = None
        try:
            result = app(environ, self.start_response)
            if (type(result) is list or type(result) is tuple) and len(result) == 1 and not self._begun:
                self._send_whole(result[0])
            elif type(result) is FileWrapper and self._send_file(result):
                result = None  # it is closed when it was sent
            else:
                for block in result:
                    self.write(block)
                self._finish()
        except ConnectionLost:
            raise
        except BaseException as exc:
            return self._fail(exc)
        finally:
            if type(result) is not list and hasattr(result, "close"):
                self._close(result)
        if self._left:
            log.error("%s: the application sent %s bytes less than its Content-Length", self._name(), self._left)
            return CLOSE
        return NEXT if self._keep_alive else CLOSE

    # ------------------------------------------------------------------ inside

    def _begin(self, length: Optional[int]) -> bytes:
        """Return the head. *length* is the body's in bytes, if it is known; framing is decided here (RFC 9112, 6)."""
        head = self._head
        if head is None:
            raise ApplicationError("the application did not call start_response() before its first byte")
        text, code, told, has_date, has_server, wants_close = head
        if wants_close:
            self._keep_alive = False
        self._left = told
        if told is not None:
            pass
        elif self._method == "HEAD":
            # What a GET would get is not known; keep the connection: HEAD has no body in any framing.
            self._left = 0
        elif length is not None:
            self._left = length
            if code not in {204, 304}:
                text += f"Content-Length: {length}\r\n"
        elif code in {204, 304}:
            pass
        elif self._minor:
            self._chunked = True
            text += "Transfer-Encoding: chunked\r\n"
        else:
            self._keep_alive = False
        if self._method == "HEAD" or code in {204, 304}:
            self._left = 0
            self._chunked = False
        if not self._keep_alive:
            text += "Connection: close\r\n"
        elif not self._minor:
            text += "Connection: keep-alive\r\n"
        self._begun = True
        if has_date or has_server:
            return text.encode("latin-1") + self._short_tail(has_date, has_server)
        return text.encode("latin-1") + self._worker.tail()

    def _short_tail(self, has_date: bool, has_server: bool) -> bytes:
        lines = self._worker.tail().split(b"\r\n")
        dropped = (b"Date:" if has_date else b"\0", b"Server:" if has_server else b"\0")
        return b"\r\n".join(line for line in lines if not line.startswith(dropped))

    def _frame(self, data: bytes) -> bytes:
        """Return *data* as it goes over the wire: cut at Content-Length, or as a chunk."""
        if self._chunked:
            return http1.chunk(data)
        left = self._left
        if left is None:
            return data
        if len(data) > left:
            if left or not self._has_no_body():
                self._keep_alive = False
                log.error("%s: the application sent more than its Content-Length; the rest is dropped", self._name())
            data = data[:left]
        self._left = left - len(data)
        return data

    def _has_no_body(self) -> bool:
        return self._method == "HEAD" or (self._head is not None and self._head.code in {204, 304})

    def _send_whole(self, data: bytes) -> None:
        """Send a body that is known to be all there is: head and body in one system call."""
        if type(data) is not bytes:
            self.write(data)
            self._finish()
            return
        if self._head is not None and self._keep_alive and self._minor and self._method != "HEAD":
            text, code, told, has_date, has_server, wants_close = self._head
            if code == 200 and told == len(data) <= JOIN and not (has_date or has_server or wants_close):
                # The usual answer: what `_begin` would find out is known (0.3 us of 5, bench/request.py).
                self._begun = True
                self._connection.write(text.encode("latin-1") + self._worker.tail() + data)
                return
        head = self._begin(len(data))
        if self._left != len(data):
            data = self._frame(data)
        else:
            self._left = 0
        connection = self._connection
        if len(data) <= JOIN:
            connection.write(head + data)
        else:
            connection.write_parts((head, data))

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send *wrapper*'s file by sendfile(2); False, and nothing done, if it is not a regular file."""
        file = wrapper.file
        try:
            fd = file.fileno()
            status = os.fstat(fd)
            offset = file.tell()
        except (AttributeError, OSError, ValueError):
            return False  # io.UnsupportedOperation is both of the latter
        if not stat.S_ISREG(status.st_mode) or self._begun:
            return False
        size = max(0, status.st_size - offset)
        head = self._begin(size)
        left = self._left
        count = min(size, left) if left is not None else size
        if left is not None:
            self._left = left - count
        connection = self._connection
        connection.write(head)
        if count:
            # Closed when all was sent, which may be after this turn.
            connection.write_file(file, offset, count, lambda: self._close(wrapper))
        else:
            self._close(wrapper)
        return True

    def _finish(self) -> None:
        """End the body."""
        if not self._begun:
            # Nothing was sent: an empty body, of a known length.
            head = self._begin(None if self._method == "HEAD" else 0)
            self._connection.write(head)
        elif self._chunked:
            self._connection.write(http1.LAST_CHUNK)

    def _fail(self, exc: BaseException) -> After:
        """The application raised, or broke WSGI: log it; answer 500, or cut off what has begun."""
        if isinstance(exc, BadRequest):  # from wsgi.input: the client's fault
            log.debug("%s: %s", self._name(), exc)
            if not self._begun:
                return self._worker.refuse(self._connection, exc.status, str(exc))
        else:
            log.error("%s: %s: %s", self._name(), type(exc).__name__, exc, exc_info=exc)
        if self._begun:
            self._worker._discard(self._connection)
            return CLOSE
        options = self._worker.options
        self._connection.write(
            http1.error_response(
                500,
                "The application failed.",
                http1.http_date(time.time()),
                options.server_header,
                head_only=self._method == "HEAD",
            )
        )
        return CLOSE

    def _close(self, result: Any) -> None:
        """Call the application's close(), once; what it raises does not spoil the answer."""
        try:
            result.close()
        except AttributeError:
            if hasattr(result, "close"):
                log.exception("%s: close() failed", self._name())
        except BaseException:
            log.exception("%s: close() failed", self._name())

    def _name(self) -> str:
        return f"{self._method} of {self._connection!r}"
