"""Request bodies while they arrive: the framing of one, and a file over it that waits for the peer."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any

from rocket import http1
from rocket.errors import ConnectionLost, ReadTimeout
from rocket.workers.after import CLOSE, LINGER, NEXT, After

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.workers.base import Options

DISCARD_BYTES = 1 << 18  # of a body that the application did not read; more is not waited for


class Incoming:
    """Take a body out of what a connection receives: a known number of bytes, or chunks (RFC 9112, 6.3)."""

    __slots__ = ("_chunked", "_left", "done", "rest")

    def __init__(self, head: http1.Head, options: Options) -> None:
        self._chunked = http1.ChunkedBody(options.limits) if head.length == http1.CHUNKED else None
        self._left = head.length
        self.done = not head.length
        self.rest = b""  # what came after the body; valid once done

    def feed(self, data: bytes) -> bytes:
        """Return what *data* holds of the body. Raises BadRequest."""
        if self._chunked is not None:
            data = self._chunked.feed(data)
            self.done, self.rest = self._chunked.done, self._chunked.rest
            return data
        if len(data) > self._left:
            self.rest = data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        self.done = not self._left
        return data


class StreamedBody(io.BufferedReader):
    """``wsgi.input`` for a body that is still arriving: reading waits for the peer, and holds the thread.

    *collected* is what has come before. Raises ReadTimeout if nothing comes for *timeout* seconds,
    ConnectionLost if the peer goes away, BadRequest if it breaks the protocol: never a short body
    that looks whole.
    """

    def __init__(self, incoming: Incoming, connection: Connection, timeout: float, collected: IO[bytes]) -> None:
        self._source = _Source(incoming, connection, timeout, collected)
        super().__init__(self._source, 65536)

    def expect_continue(self, expected: bool) -> None:
        """Send a 100 before the peer is waited for the first time, if it is *expected* (RFC 9110, 10.1.1)."""
        self._source.expects_continue = expected

    def finish(self, after: After) -> After:
        """Say what becomes of the connection after *after*, which the answer asks for."""
        return self._source.finish(after)


class _Source(io.RawIOBase):
    def __init__(self, incoming: Incoming, connection: Connection, timeout: float, collected: IO[bytes]) -> None:
        self._incoming = incoming
        self._connection = connection
        self._timeout = timeout
        self._collected = collected
        self._ready = b""
        self.expects_continue = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._collected.read(len(view)) or self._receive(len(view))
        view[: len(data)] = data
        return len(data)

    def _receive(self, size: int) -> bytes:
        """Return at most *size* bytes of the body, b"" at its end."""
        while not self._ready and not self._incoming.done:
            self._wait()
            self._take()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _take(self) -> None:
        connection = self._connection
        data, connection.buffer = connection.buffer, b""
        self._ready += self._incoming.feed(data)
        if self._incoming.done:
            connection.buffer = self._incoming.rest

    def _wait(self) -> None:
        connection = self._connection
        if self.expects_continue:
            self.expects_continue = False
            connection.write(http1.CONTINUE)
        while not connection.buffer and not connection.fill():
            if connection.eof:
                raise ConnectionLost("the peer went away in the middle of a body")
            if not connection.wait(writable=False, timeout=self._timeout):
                raise ReadTimeout(f"nothing of the body came for {self._timeout:g} s")

    def finish(self, after: After) -> After:
        self.expects_continue = False
        if after is not NEXT or self._incoming.done:
            return after
        # What has come already may be all there is; nobody waits for the rest.
        connection = self._connection
        dropped = 0
        try:
            while not self._incoming.done and dropped < DISCARD_BYTES and (connection.buffer or connection.fill()):
                dropped += len(connection.buffer)
                self._take()
                self._ready = b""
        except ConnectionLost:
            return CLOSE
        return after if self._incoming.done else LINGER
