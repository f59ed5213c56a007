"""The answer of a WSGI application (PEP 3333), and how it becomes bytes."""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from io import BufferedRandom, BufferedReader, FileIO
from typing import TYPE_CHECKING, Any, Callable, Optional

from rocket import http1
from rocket.errors import ApplicationError, BadRequest, ConnectionLost, ReadTimeout
from rocket.workers.after import CLOSE, NEXT, After
from rocket.workers.environ import FileWrapper
from rocket.workers.report import report

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.workers.base import Worker
    from rocket.workers.stream import StreamedBody

JOIN = 16384  # bytes: up to here copying a body behind its head is cheaper than sendmsg(2) with both
JOIN_LIST = 1 << 18  # bytes: up to here the blocks of a list are sent as one; each send costs 5 us or more
BODILESS = frozenset((204, 304))
_LENGTH_LINE = re.compile("(?<=\r\n)content-length:[^\r]*\r\n", re.IGNORECASE)


class Response:
    """One answer of an application: `start_response`, `write`, and how they become bytes."""

    __slots__ = (
        "_begun",
        "_chunked",
        "_closed",
        "_connection",
        "_ended",
        "_full",
        "_head",
        "_keep_alive",
        "_left",
        "_may_exceed",
        "_method",
        "_minor",
        "_worker",
    )

    def __init__(self, worker: Worker, connection: Connection, method: str, minor: int, keep_alive: bool) -> None:
        self._worker = worker
        self._connection = connection
        self._method = method
        self._minor = minor
        self._keep_alive = keep_alive
        self._head: Optional[http1.ResponseHead] = None
        self._begun = False  # the head has gone
        self._chunked = False
        self._left: Optional[int] = None  # bytes of the body to come; None: any number; valid once begun
        self._may_exceed = False  # by a file that is longer than Content-Length: a part of it is meant (PEP 3333)
        self._full = False  # more was given than Content-Length allows, or than an answer without a body can have
        self._ended = False  # the connection is not ours any more
        self._closed = False  # close() was called

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
        if self._ended:
            raise ApplicationError("write() was called after the end of the answer")
        self._send(data)
        if self._full and not self._is_bodiless():
            self._keep_alive = False
            raise ApplicationError("write() was given more than Content-Length allows")

    def early_hints(self, headers: list[tuple[str, str]]) -> None:
        """Send a 103 with *headers*, usually Link fields, before the answer is known (RFC 8297).

        In environ as ``wsgi.early_hints``. HTTP/1.0 clients get none. Raises ApplicationError, ConnectionLost.
        """
        text = http1.format_head("204 No Content", headers).text  # like a 103 it has no Content-Length
        if self._minor and not self._begun and not self._ended:
            self._write(b"HTTP/1.1 103 Early Hints\r\n" + text.partition("\r\n")[2].encode("latin-1") + b"\r\n")

    # ------------------------------------------------------------------ what the worker sees

    def run(self, app: Any, environ: dict[str, Any]) -> After:
        """Call *app* and send what it returns. Never raises but for a ConnectionLost."""
        result: Any = None
        try:
            result = app(environ, self.start_response)
            kind = type(result)
            if (kind is list or kind is tuple) and not self._begun:
                if len(result) == 1:
                    self._send_whole(result[0])
                else:
                    self._send_list(result)
            elif kind is FileWrapper and self._send_file(result):
                result = None  # it is closed when it was sent
            else:
                self._send_blocks(result)
        except ConnectionLost as exc:
            if isinstance(exc, ReadTimeout) and not self._begun:
                return self._worker.refuse(self._connection, 408, str(exc))
            raise
        except BaseException as exc:
            return self._fail(exc)
        finally:
            self._ended = True
            if result is not None and type(result) is not list:
                self._close(result)
        if self._left:
            self._complain("the application sent %s bytes less than its Content-Length", self._left)
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
        if code == 205:  # RFC 9110, 15.3.6: no content, and it says so
            self._left = 0
            self._full = True
            text = _LENGTH_LINE.sub("", text) + "Content-Length: 0\r\n"
        elif self._method == "HEAD" or code in BODILESS:
            self._left = 0
            self._full = True
            # What a GET would get, if the application has made it. If not, nobody knows.
            if length and told is None and code not in BODILESS:
                text += f"Content-Length: {length}\r\n"
        elif told is not None:
            self._left = told
        elif length is not None:
            self._left = length
            text += f"Content-Length: {length}\r\n"
        elif self._minor:
            self._chunked = True
            text += "Transfer-Encoding: chunked\r\n"
        else:
            self._keep_alive = False
            self._connection.until_close = True
        if self._worker.draining:
            self._keep_alive = False  # asked again: it may have begun while the application was at it
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
            self._full = True
            data = data[:left]
        self._left = left - len(data)
        return data

    def _is_bodiless(self) -> bool:
        return self._method == "HEAD" or (self._head is not None and self._head.code in {204, 205, 304})

    def _send(self, data: bytes) -> None:
        """Send a block of the body; wait if the peer is slow and has more than enough to take."""
        if type(data) is not bytes:
            data = _as_bytes(data)
        if not data:
            return
        if self._begun:
            data = self._frame(data)
            if data:
                self._write(data)
            return
        self._foresee(len(data))
        head = self._begin(None)
        data = self._frame(data)
        if len(data) <= JOIN:
            self._write(head + data)
        else:
            self._connection.write_parts((head, data))

    def _write(self, data: bytes) -> None:
        connection = self._connection
        if not connection.write(data) and connection.output.full:
            connection.drain_output(self._worker.options.write_timeout)

    def _send_list(self, blocks: Any) -> None:
        """Send a list or tuple of blocks: all is there, so its length is known, and it goes as one if it is short."""
        blocks = [block if type(block) is bytes else _as_bytes(block) for block in blocks]
        if sum(map(len, blocks)) <= JOIN_LIST:
            self._send_whole(b"".join(blocks))
        else:
            self._send_blocks(blocks)

    def _send_blocks(self, blocks: Any) -> None:
        """Send block after block. Stops when enough was sent (PEP 3333): an endless iterable ends there, too."""
        if blocks is None:
            raise ApplicationError("the application returned None instead of an iterable of bytes")
        self._may_exceed = type(blocks) is FileWrapper
        send = self._send
        for block in blocks:
            send(block)
            if self._full:
                self._end_early()
                break
        if not self._begun:
            # Nothing was sent: an empty body, of a known length.
            self._connection.write(self._begin(0))
        elif self._chunked:
            self._connection.write(http1.LAST_CHUNK)

    def _end_early(self) -> None:
        """More was given than may be sent."""
        if not self._is_bodiless() and not self._may_exceed:
            self._keep_alive = False
            self._complain("the application sent more than its Content-Length; the rest is dropped")

    def _send_whole(self, data: bytes) -> None:
        """Send a body that is known to be all there is: head and body in one system call."""
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._head is not None and self._keep_alive and self._minor and self._method != "HEAD":
            text, code, told, has_date, has_server, wants_close = self._head
            if (
                code == 200
                and told == len(data) <= JOIN
                and not (has_date or has_server or wants_close or self._worker.draining)
            ):
                # The usual answer: what `_begin` would find out is known (0.2 us of 4.7, bench/request.py).
                self._begun = True
                self._connection.write(text.encode("latin-1") + self._worker.tail() + data)
                return
        self._foresee(len(data))
        head = self._begin(len(data))
        data = self._frame(data)
        if self._full:
            self._end_early()
        connection = self._connection
        if len(data) <= JOIN:
            connection.write(head + data)
        else:
            connection.write_parts((head, data))

    def _foresee(self, length: int) -> None:
        """The first *length* bytes are there: say in the head that the connection ends if they are too many."""
        told = self._head.length if self._head is not None else None
        if told is not None and length > told and not self._is_bodiless() and not self._may_exceed:
            self._keep_alive = False

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send *wrapper*'s file by sendfile(2); False, and nothing done, if that is not what reading it would give."""
        file = _real_file(wrapper.file)
        if file is None or self._begun:
            return False
        try:
            status = os.fstat(file.fileno())
            offset = file.tell()
        except (OSError, ValueError):
            return False  # io.UnsupportedOperation is both
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return False  # the size of a file in /proc is 0, whatever there is to read
        size = max(0, status.st_size - offset)
        head = self._begin(size)
        left = self._left
        count = min(size, left) if left is not None else size
        if left is not None:
            self._left = left - count
        if count:
            # Closed when all was sent, which may be after this turn.
            self._connection.write_file(file, offset, count, lambda: self._close(wrapper), head)
        else:
            self._connection.write(head)
            self._close(wrapper)
        return True

    def _fail(self, exc: BaseException) -> After:
        """The application raised, or broke WSGI: log it; answer 500, or cut off what has begun."""
        connection = self._connection
        if isinstance(exc, BadRequest):  # from wsgi.input: the client's fault
            report(logging.DEBUG, "%s: %s", self._name(), exc)
            if not self._begun:
                return self._worker.refuse(connection, exc.status, str(exc))
        else:
            report(logging.ERROR, "%s: %s: %s", self._name(), type(exc).__name__, exc, exc=exc)
        if self._begun:
            if self._left != 0:  # else the answer is whole
                self._worker._discard(connection)
                if self._left is None and not self._chunked:
                    connection.reset_on_close()  # only its end tells the peer that all has come (RFC 9112, 6.3)
            return CLOSE
        server, date = self._worker.options.server_header, http1.http_date(time.time())
        head_only = self._method == "HEAD"
        connection.write(http1.error_response(500, "The application failed.", date, server, head_only=head_only))
        return CLOSE

    def _close(self, result: Any) -> None:
        """Call the application's close(), once; what it raises does not spoil the answer."""
        if self._closed:
            return
        self._ended = self._closed = True
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as exc:
            report(logging.ERROR, "%s: close() failed: %s", self._name(), type(exc).__name__, exc=exc)

    def _complain(self, message: str, *args: object) -> None:
        report(logging.ERROR, f"%s: {message}", self._name(), *args)

    def _name(self) -> str:
        return f"{self._method} of {self._connection!r}"


class EarlyResponse(Response):
    """The answer to a request whose body is still arriving."""

    __slots__ = ("_body",)

    def __init__(self, body: StreamedBody, *args: Any) -> None:
        super().__init__(*args)
        self._body = body

    def _begin(self, length: Optional[int]) -> bytes:
        self._settle()
        return super()._begin(length)

    def _send_whole(self, data: bytes) -> None:
        self._settle()
        super()._send_whole(data)

    def _settle(self) -> None:
        # What comes behind an unread body is not looked for: say so as long as there is a head to say it in.
        if not self._body.settle():
            self._keep_alive = False


def _as_bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise ApplicationError(f"the body must be bytes, not {type(data).__name__}")
    return memoryview(data).tobytes()  # of a subclass, whose methods may be others


def _real_file(file: Any) -> Any:
    """Return the plain file that reading *file* would read; None if what it gives may be another than the system's.

    A `gzip.GzipFile`, for one, has the descriptor of the file that it unpacks.
    """
    real = getattr(getattr(file, "read", None), "__self__", None)
    if type(real) is BufferedReader or type(real) is BufferedRandom:
        return real if type(real.raw) is FileIO else None
    return real if type(real) is FileIO else None
