"""The worker that serves the files of a folder (RFC 9110: GET, HEAD, conditions, ranges, encodings)."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Optional

from rocket import http1
from rocket.errors import ConnectionLost
from rocket.files import File, Folder, Page, Redirect, Resource
from rocket.files.conditions import CONDITIONS, check, if_range
from rocket.files.listing import POLICY
from rocket.files.media import choose
from rocket.files.ranges import Range, read_ranges
from rocket.workers.after import CLOSE, NEXT, After
from rocket.workers.base import NO_TLS, RETRY_AFTER, Options, Services, Worker
from rocket.workers.report import report
from rocket.workers.stream import StreamedBody

if TYPE_CHECKING:
    from rocket.connection import Connection

JOINED = 65536  # bytes: up to here a file is read and sent with its head, in one call
TELL = 1.0  # s: between two complaints about a shortage
ALLOWED = "GET, HEAD, OPTIONS"
_CONNECTION = {
    (1, True): b"",
    (0, True): b"Connection: keep-alive\r\n",
    (1, False): b"Connection: close\r\n",
    (0, False): b"Connection: close\r\n",
}


class Request(NamedTuple):
    """What an answer must know of its request."""

    connection: Connection
    head_only: bool
    fields: Mapping[str, str]
    end: bytes  # the last lines of the answer's head


class FileWorker(Worker):
    """Serve the files of a folder: *app* is a `Folder`, or its path.

    To change what is answered, override `respond`, or one of the methods that it calls.
    """

    def __init__(self, app: Folder, services: Services, options: Options) -> None:
        # No request has a body that we would read: answer at once, and do not collect it.
        super().__init__(app, services, replace(options, stream=True))
        self._told_at = 0.0  # monotonic s

    @classmethod
    def prepare(cls, app: Any) -> Folder:
        return app if isinstance(app, Folder) else Folder(app)

    def respond(
        self, connection: Connection, head: http1.Head, fields: dict[str, Any], body: Optional[IO[bytes]]
    ) -> After:
        method, target, minor, _, _, keep_alive, _ = head
        connection.keeps_gil = self.keeps_gil
        if self.draining or connection.requests >= self._max_requests:
            keep_alive = False
        if type(body) is StreamedBody and not body.settle():
            keep_alive = False
        if target[0] != "/" and http1.wants_tls(target) and not self._is_https(connection, fields):
            return self.refuse(connection, 421, NO_TLS)
        request = Request(connection, method == "HEAD", fields, _CONNECTION[minor, keep_alive] + self.tail())
        if method not in {"GET", "HEAD"}:
            self.answer_method(request, method)
        else:
            try:
                self.answer_target(request, target)
            except ConnectionLost:  # an OSError, too
                raise
            except OSError as exc:
                self.answer_error(request, exc)
        return NEXT if keep_alive else CLOSE

    def _is_https(self, connection: Connection, fields: Mapping[str, str]) -> bool:
        """Whether the client uses TLS, to us or to a proxy that we believe. BadRequest."""
        environ = {"wsgi.url_scheme": "https" if connection.secure else "http", **fields, **(connection.told or {})}
        environ["SERVER_NAME"], environ["SERVER_PORT"] = connection.endpoint
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = connection.peer
        if http1.FORWARDING in environ:
            self.hear_proxies(connection, environ)
        return environ["wsgi.url_scheme"] == "https"

    # ------------------------------------------------------------------ the answers

    def answer_target(self, request: Request, target: str) -> None:
        """Answer a GET or HEAD. Raises OSError if the target names nothing that can be read."""
        found = self.app.find(target)
        if type(found) is Resource:
            self.answer_file(request, found)
        elif type(found) is Redirect:
            # 301: as old as HTTP, and for GET and HEAD the same as 308.
            self.answer(request, 301, "It is a folder.", f"Location: {found.location}\r\n")
        elif type(found) is Page:
            lines = f"Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: {POLICY}\r\n"
            self.answer_with(request, 200, found.content, lines)

    def answer_file(self, request: Request, found: Resource) -> None:
        """Answer with a file, or as its conditions and ranges want it."""
        connection, head_only, fields, end = request
        file = _best(found, fields)
        if not CONDITIONS.isdisjoint(fields):
            status = check(fields, file.validators)
            if status == 304:
                lines = f"HTTP/1.1 304 Not Modified\r\nETag: {file.validators.etag}\r\n{found.hint}"
                connection.write(lines.encode("latin-1") + end)
                return
            if status:
                self.answer(request, status, "It is not as you expect it to be.")
                return
        if head_only:  # which no ranges are defined for (RFC 9110, 14.2)
            connection.write(file.whole + end)
            return
        if "HTTP_RANGE" in fields and if_range(fields.get("HTTP_IF_RANGE"), file.validators):
            ranges = read_ranges(fields["HTTP_RANGE"], file.size)
            if ranges is not None:
                self.answer_ranges(request, file, ranges)
                return
        _send(connection, file.whole + end, file, 0, file.size)

    def answer_ranges(self, request: Request, file: File, ranges: list[Range]) -> None:
        """Answer with parts of a file (RFC 9110, 15.3.7), or that there are no such parts."""
        connection, end = request.connection, request.end
        if not ranges:
            self.answer(request, 416, f"It has {file.size} bytes.", f"Content-Range: bytes */{file.size}\r\n")
        elif len(ranges) == 1:
            start, stop = ranges[0]
            head = (
                f"HTTP/1.1 206 Partial Content\r\nContent-Type: {file.type}\r\nContent-Length: {stop - start}\r\n"
                f"Content-Range: bytes {start}-{stop - 1}/{file.size}\r\n{file.fields}"
            )
            _send(connection, head.encode("latin-1") + end, file, start, stop - start)
        else:
            # By chance: it must not be in the file.
            boundary = secrets.token_hex(16)
            parts = [
                f"\r\n--{boundary}\r\nContent-Type: {file.type}\r\n"
                f"Content-Range: bytes {start}-{stop - 1}/{file.size}\r\n\r\n".encode("latin-1")
                for start, stop in ranges
            ]
            last = f"\r\n--{boundary}--\r\n".encode("latin-1")
            length = sum(map(len, parts)) + sum(stop - start for start, stop in ranges) + len(last)
            head = (
                f"HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary={boundary}\r\n"
                f"Content-Length: {length}\r\n{file.fields}"
            )
            before = head.encode("latin-1") + end
            for part, (start, stop) in zip(parts, ranges):
                connection.write_file(file, start, stop - start, file.release, before + part)
                before = b""
            connection.write(last)

    def answer_method(self, request: Request, method: str) -> None:
        """Answer what is neither GET nor HEAD."""
        if method == "OPTIONS":
            request.connection.write(f"HTTP/1.1 204 No Content\r\nAllow: {ALLOWED}\r\n".encode() + request.end)
        else:
            self.answer(request, 405, "There are only files here.", f"Allow: {ALLOWED}\r\n")

    def answer_error(self, request: Request, exc: OSError) -> None:
        """Answer that a file is not there, or cannot be read."""
        if isinstance(exc, FileNotFoundError):
            self.answer(request, 404, "There is nothing of this name.")
        elif isinstance(exc, PermissionError):
            # Not 404, which would send whoever forgot a chmod looking for the wrong thing.
            report(logging.INFO, "%r: may not be read: %s", request.connection, exc)
            self.answer(request, 403, "It may not be read.")
        elif exc.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}:
            now = time.monotonic()
            if now >= self._told_at + TELL:
                self._told_at = now
                report(logging.ERROR, "%r: %s", request.connection, exc)
            self.answer(request, 503, "Try again later.", f"Retry-After: {RETRY_AFTER}\r\n")
        else:
            report(logging.ERROR, "%r: cannot be read: %s", request.connection, exc)
            self.answer(request, 500, "It cannot be read.")

    def answer(self, request: Request, status: int, message: str, lines: str = "") -> None:
        """Answer with *message* as plain text. *lines* are header lines, each with its CRLF."""
        body = f"{status} {http1.REASONS[status]}\n{message}\n".encode()
        self.answer_with(request, status, body, f"Content-Type: text/plain; charset=utf-8\r\n{lines}")

    @staticmethod
    def answer_with(request: Request, status: int, body: bytes, lines: str) -> None:
        """Answer with *body*. *lines* are header lines, each with its CRLF; they are not checked."""
        head = (
            f"HTTP/1.1 {status} {http1.REASONS[status]}\r\n{lines}"
            f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(body)}\r\n"
        ).encode("latin-1") + request.end
        request.connection.write(head if request.head_only else head + body)


def _best(found: Resource, fields: Mapping[str, str]) -> File:
    """Return the file in the encoding that the client likes most."""
    if found.packed and "HTTP_ACCEPT_ENCODING" in fields:
        coding = choose(fields["HTTP_ACCEPT_ENCODING"], found.packed)
        if coding and found.packed[coding].unchanged:
            return found.packed[coding]
    return found.plain


def _send(connection: Connection, head: bytes, file: File, start: int, count: int) -> None:
    """Send *head*, and *count* bytes of *file* from *start* on. Raises ConnectionLost."""
    if count <= JOINED:
        data = os.pread(file.fd, count, start)
        if len(data) == count:
            connection.write(head + data)
            return
    connection.write_file(file, start, count, file.release, head)
