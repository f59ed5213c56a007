"""Tasks: what goes on when a parked connection is ready again.

A task never waits. It does what can be done now, and says what the connection waits for next.
"""

from __future__ import annotations

import logging
import tempfile
from io import BufferedRandom, BytesIO
from typing import IO, TYPE_CHECKING, Any, Optional, Protocol, Union

from rocket import http1
from rocket.connection import NEVER, until_look
from rocket.errors import ConnectionLost, WriteTimeout
from rocket.workers.after import CLOSE, LINGER, NEXT, READ_MORE, WRITE_MORE, After
from rocket.workers.pieces import borrow, give_back
from rocket.workers.report import report
from rocket.workers.stream import GRACE, Incoming, StreamedBody

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.workers.base import Worker

DRAIN_BYTES = 1 << 20  # what is read and dropped after an answer that ends the connection
PATIENCE = 1.0  # s: when a body has stalled for so long, the application may begin without the rest


class Task(Protocol):
    """What goes on when a connection is ready again."""

    light: bool
    """Whether it never calls the application: then it needs no worker's thread."""

    def step(self, worker: Worker, connection: Connection) -> After:
        """Do what can be done without waiting."""

    def expire(self, worker: Worker, connection: Connection) -> Optional[After]:
        """Say what becomes of the connection, whose deadline has passed; None: it is ready for another step.

        Must not block: the polling thread calls it.
        """


class SpooledBody(BufferedRandom):
    """A temporary file that is closed when the request is forgotten: who still reads or sends it may do so."""

    def __init__(self) -> None:
        super().__init__(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 (see __del__)

    def __del__(self) -> None:
        try:
            self.close()
        except OSError:
            pass  # no room on the disk for what is not needed any more


class BodyTask:
    """Collect a request's body, in memory and then in a temporary file; then answer the request.

    A thread is given to the request when the body is whole. There is one exception: when the body has
    stalled, the application may not want it at all. So it is called with what there is, and waits for
    the rest if it reads on; only a few at a time (`Services.begin_early`), so that silent clients
    cannot hold the threads.
    """

    __slots__ = ("_began", "_expired", "_fields", "_file", "_head", "_incoming", "_memory", "_size", "_stalled")
    light = False

    def __init__(self, head: http1.Head, fields: dict[str, Any], worker: Worker) -> None:
        self._head = head
        self._fields = fields
        self._incoming = Incoming(head, worker.options)
        self._began = worker._clock()
        self._size = 0
        self._memory = BytesIO()  # not a list: a byte that comes alone would cost 40
        self._file: Optional[IO[bytes]] = None
        self._stalled = False  # nothing came for PATIENCE seconds
        self._expired = False  # the deadline has passed since the last step

    def step(self, worker: Worker, connection: Connection) -> After:
        expired, self._expired = self._expired, False
        try:
            came = self._receive(connection, worker.options.body_buffer)
        except ConnectionLost:
            raise
        except OSError as exc:
            return self._give_up(worker, connection, exc)
        if connection.eof and not self._incoming.done:
            raise ConnectionLost("the peer went away in the middle of a body")
        if came:
            self._stalled = False
            return self._go_on(worker, connection)
        if not expired:
            return READ_MORE  # part of a TLS record: none of the body, so no more time is given
        if self._stalled and not worker.draining and worker.services.begin_early():
            connection.task = None
            try:
                return self._respond_early(worker, connection)
            finally:
                worker.services.end_early()
        return self._wait(worker, connection)

    def expire(self, worker: Worker, connection: Connection) -> Optional[After]:
        options = worker.options
        if not (self._stalled or worker.draining) and worker._clock() < self._began + self._allowed(
            options.min_body_rate
        ):
            self._stalled = self._expired = True
            return None
        return worker.refuse(connection, 408, "the request's body did not come in time")

    @property
    def stalled(self) -> bool:
        """Whether nothing has come for PATIENCE s: where room is needed, it may have to go."""
        return self._stalled

    def feed(self, worker: Worker, connection: Connection) -> After:
        """Take what is in the buffer."""
        data, connection.buffer = connection.buffer, b""
        data = self._incoming.feed(data)
        try:
            self._add(data, worker.options.body_buffer)
        except OSError as exc:
            return self._give_up(worker, connection, exc)
        return self._go_on(worker, connection)

    def _receive(self, connection: Connection, body_buffer: int) -> bool:
        """Receive what has come of the body, and keep it; return whether anything came."""
        piece = borrow()
        try:
            came, count = self._incoming.receive(connection, piece)
            self._add(piece[:count], body_buffer)
        finally:
            give_back(piece)
        return came

    def _go_on(self, worker: Worker, connection: Connection) -> After:
        """Wait for the rest, or answer the request if there is none."""
        if not self._incoming.done:
            if worker._clock() > self._began + self._allowed(worker.options.min_body_rate):
                return worker.refuse(connection, 408, "the request's body comes too slowly")
            return self._wait(worker, connection)
        connection.buffer = self._incoming.rest
        connection.task = None
        if self._head.length == http1.CHUNKED:
            # What the application sees is a body of a known length (RFC 9112, 7.1.3).
            self._fields.pop("HTTP_TRANSFER_ENCODING", None)
            self._fields["CONTENT_LENGTH"] = str(self._size)
        try:
            body = self._body()
        except OSError as exc:
            return self._give_up(worker, connection, exc)
        return worker.respond(connection, self._head, self._fields, body)

    def _wait(self, worker: Worker, connection: Connection) -> After:
        timeout, now = worker.options.body_timeout, worker._clock()
        patience = timeout - PATIENCE if self._stalled else PATIENCE
        allowed = self._began + self._allowed(worker.options.min_body_rate) - now
        connection.deadline = now + max(0.0, min(patience, timeout, allowed))
        return READ_MORE

    def _allowed(self, rate: int) -> float:
        """How long (s) what has come may have taken."""
        return GRACE + self._size / rate if rate else float("inf")

    def _respond_early(self, worker: Worker, connection: Connection) -> After:
        # In all, not between two bytes: this is the one place where a slow sender has a thread.
        patience = worker.options.body_timeout
        body = StreamedBody(self._incoming, connection, worker.options, self._body(), patience=patience)
        return body.finish(worker.respond(connection, self._head, self._fields, body))

    def _add(self, data: Union[bytes, memoryview], body_buffer: int) -> None:
        if not data:
            return
        self._size += len(data)
        if self._file is None and self._size > body_buffer:
            # What came now goes straight there, or body_buffer would be exceeded by a piece.
            self._file = SpooledBody()
            self._file.write(self._memory.getvalue())
            self._memory = BytesIO()
        (self._memory if self._file is None else self._file).write(data)

    def _give_up(self, worker: Worker, connection: Connection, exc: OSError) -> After:
        """The temporary file cannot be made, or written to: no descriptor, no room on the disk."""
        report(logging.ERROR, "%r: cannot keep a body of %s bytes: %s", connection, self._size, exc)
        return worker.refuse(connection, 503, "The request's body cannot be kept.")

    def _body(self) -> IO[bytes]:
        if self._file is not None:
            self._file.seek(0)
            return self._file
        self._memory.seek(0)
        return self._memory


class FlushTask:
    """Send what the peer has not taken yet; then go on as if it had.

    *then* is what becomes of the connection afterwards; with READ_MORE it gets its task and deadline back.
    """

    __slots__ = ("_deadline", "_resume", "_then")
    light = True

    def __init__(self, then: After, resume: Optional[Task] = None, deadline: float = NEVER) -> None:
        self._then = then
        self._resume = resume
        self._deadline = deadline

    def step(self, worker: Worker, connection: Connection) -> After:
        if connection.flush():
            connection.task = self._resume
            connection.deadline = self._deadline
            return self._then
        connection.deadline = worker._clock() + until_look(worker.options.write_timeout)
        return WRITE_MORE

    def expire(self, worker: Worker, connection: Connection) -> Optional[After]:
        timeout = worker.options.write_timeout
        # It may be slow: the socket counts as writable only once a third of its buffer is free.
        still = connection.stands_still()
        if still >= timeout:
            connection.reset_on_close()  # or the kernel would offer it what was written, for minutes
            raise WriteTimeout("the peer did not take the answer in time")
        connection.deadline = worker._clock() + until_look(timeout, still)
        return WRITE_MORE


class DrainTask:
    """Read and drop what a peer sends that has got its last answer, until it closes."""

    __slots__ = ("_left",)
    light = True

    def __init__(self) -> None:
        self._left = DRAIN_BYTES

    def step(self, worker: Worker, connection: Connection) -> After:
        while connection.fill():
            self._left -= len(connection.buffer)
            connection.buffer = b""
            if self._left <= 0:
                return CLOSE
        return CLOSE if connection.eof else READ_MORE

    def expire(self, worker: Worker, connection: Connection) -> Optional[After]:
        return CLOSE


FLUSH = {after: FlushTask(after) for after in (NEXT, CLOSE, LINGER)}  # shared: they hold nothing of a connection
