"""Request bodies while they arrive: the framing of one, and a file over it that waits for the peer."""

from __future__ import annotations

import io
import select
import time
from typing import IO, TYPE_CHECKING, Any, Optional

from rocket import http1
from rocket.connection import NEVER, RECEIVE_BYTES
from rocket.errors import ApplicationError, ConnectionLost, ReadTimeout, RocketError
from rocket.workers.after import CLOSE, LINGER, NEXT, After

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.workers.base import Options

UNREAD_BYTES = 1 << 18  # of a body that the application did not read; more is not looked at for its end
READS = 64  # receives of a body in one turn, at most
GRACE = 5.0  # s: a body's rate is not looked at before


class Incoming:
    """Take a body out of what a connection receives: a known number of bytes, or chunks (RFC 9112, 6.3)."""

    __slots__ = ("_chunked", "_left", "done", "rest")

    def __init__(self, head: http1.Head, options: Options) -> None:
        self._chunked = http1.ChunkedBody(options.limits) if head.length == http1.CHUNKED else None
        self._left = head.length
        self.done = not head.length
        self.rest = b""  # what came after the body; valid once done

    def feed(self, data: bytes) -> bytes:
        """Return what *data* holds of the body. Raises BadRequest; of no use then."""
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

    def receive(self, connection: Connection, piece: memoryview) -> tuple[bool, int]:
        """Receive into *piece* what has come of the body; return whether anything came, and how much of it is body.

        The connection's buffer must be empty, *piece* at least 2 * RECEIVE_BYTES long. Goes on for as long as the peer
        is as quick as we are, until *piece* is full or READS were made: then it is the others' turn. Raises BadRequest,
        ConnectionLost.
        """
        if self._chunked is None and not connection.secure:
            return self._receive_all(connection, piece)
        came = count = 0
        for _ in range(READS):
            # A TLS record that had begun may come with what is received now.
            if self.done or came + 2 * RECEIVE_BYTES > len(piece) or not connection.fill():
                break
            data, connection.buffer = connection.buffer, b""
            came += len(data)  # counted with what is not content: to read a million chunks of a byte takes long
            data = self.feed(data)
            piece[count : count + len(data)] = data
            count += len(data)
        return came > 0, count

    def _receive_all(self, connection: Connection, piece: memoryview) -> tuple[bool, int]:
        """The same for bytes that are all content: without a copy, and nothing behind them is read."""
        count = 0
        end = min(len(piece), self._left)
        for _ in range(READS):
            received = connection.fill_into(piece[count:end])
            count += received
            if not received or count == end:
                break
        self._left -= count
        self.done = not self._left
        return count > 0, count


class StreamedBody(io.BufferedReader):
    """``wsgi.input`` for a body that is still arriving: reading waits for the peer, and holds the thread.

    *collected* is what has come before. Raises ReadTimeout if nothing comes for body_timeout seconds, or
    less than min_body_rate, or once it has waited for *patience* seconds in all; ConnectionLost if the peer
    goes away; BadRequest if it breaks the protocol. Who reads on after an error gets it again: there is
    never a body with a hole, or a short one that looks whole.
    """

    def __init__(
        self,
        incoming: Incoming,
        connection: Connection,
        options: Options,
        collected: IO[bytes],
        *,
        patience: float = NEVER,
    ) -> None:
        self._source = _Source(incoming, connection, options, collected)
        self._source.patience = patience
        super().__init__(self._source, 65536)

    def expect_continue(self, expected: bool) -> None:
        """Send a 100 before the peer is waited for the first time, if it is *expected* (RFC 9110, 10.1.1)."""
        self._source.expects_continue = expected

    def settle(self) -> bool:
        """Return whether the whole body has come, so that another request can follow: the answer is about to begin.

        What has come can still be read; a 100 is not sent any more. Does not wait, and takes UNREAD_BYTES at most.
        """
        return self._source.settle()

    def finish(self, after: After) -> After:
        """Say what becomes of the connection after an answer that asks for *after*. The body can no longer be read."""
        return self._source.finish(after)


class _Source(io.RawIOBase):
    def __init__(self, incoming: Incoming, connection: Connection, options: Options, collected: IO[bytes]) -> None:
        self._incoming = incoming
        self._connection = connection
        self._timeout = options.body_timeout
        self._min_rate = options.min_body_rate
        self._collected = collected
        self._ready = b""
        self._received = 0  # bytes of the body
        self.patience = NEVER  # s: how long it waits, all in all
        self._waited = 0.0  # s, for them; not the time that the application took
        # What each further read raises. Not the exception itself: its traceback would make a cycle.
        self._failed: Optional[tuple[type[RocketError], str]] = None
        self.expects_continue = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        if self._failed is not None:
            kind, message = self._failed
            raise kind(message)
        try:
            data = self._collected.read(len(view)) or self._receive(len(view))
        except BaseException as exc:
            # What BufferedReader has read before, for the same call, is lost now.
            self._failed = (type(exc), str(exc)) if isinstance(exc, RocketError) else (ConnectionLost, "a read failed")
            raise
        view[: len(data)] = data
        return len(data)

    def settle(self) -> bool:
        self.expects_continue = False
        incoming, connection = self._incoming, self._connection
        try:
            while self._failed is None and not incoming.done and len(self._ready) < UNREAD_BYTES:
                if not connection.buffer and not connection.fill():
                    break
                self._take()
        except RocketError as exc:
            self._failed = type(exc), str(exc)
        return incoming.done and self._failed is None

    def finish(self, after: After) -> After:
        self._ready = b""
        whole = self.settle() if after is NEXT else self._incoming.done
        self._failed = ApplicationError, "wsgi.input was read after the end of the request"
        # Closing at once would reset the connection, and the peer that is still sending would lose the answer.
        return after if whole or after not in {NEXT, CLOSE} else LINGER

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
        data = self._incoming.feed(data)
        self._received += len(data)
        self._ready += data
        if self._incoming.done:
            connection.buffer = self._incoming.rest

    def _wait(self) -> None:
        """Wait until something is in the connection's buffer."""
        connection = self._connection
        if self.expects_continue:
            self.expects_continue = False
            connection.write(http1.CONTINUE)
        while not connection.buffer and not connection.fill():
            if connection.eof:
                raise ConnectionLost("the peer went away in the middle of a body")
            if connection.unsent:
                # The peer may be waiting for what we have written before it sends more.
                self._exchange()
            else:
                self._wait_for_more()

    def _wait_for_more(self) -> None:
        patience = self._timeout
        if self._min_rate:
            patience = min(patience, GRACE + self._received / self._min_rate - self._waited)
        left = self.patience - self._waited
        began = time.monotonic()
        if min(patience, left) <= 0 or not self._connection.wait(writable=False, timeout=min(patience, left)):
            if left < patience:
                raise ReadTimeout(f"the rest of the body did not come within {self.patience:g} s")
            if patience < self._timeout:
                raise ReadTimeout(f"the body came more slowly than {self._min_rate} bytes/s")
            raise ReadTimeout(f"nothing of the body came for {self._timeout:g} s")
        self._waited += time.monotonic() - began

    def _exchange(self) -> None:
        """Wait until the peer has sent something or can take some of what is unsent, and send that."""
        waiter = select.poll()
        waiter.register(self._connection.fd, select.POLLIN | select.POLLOUT)
        if not waiter.poll(self._timeout * 1000):
            raise ReadTimeout(f"the peer neither sent nor took anything for {self._timeout:g} s")
        self._connection.flush()
