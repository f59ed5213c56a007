"""Workers: what a pool's thread does with a ready connection. The class to inherit from is `Worker`.

A turn is one call of `Worker.run`: one request, or one step of a longer one. Nothing in it waits for the
peer: what has not come yet, or was not taken yet, is left as the connection's task, and the connection is
parked until the peer has moved.
"""

from __future__ import annotations

import enum
import logging
import tempfile
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Callable, Optional, Protocol

from rocket import http1
from rocket.errors import BadRequest, ConnectionLost
from rocket.http1 import read_head

if TYPE_CHECKING:
    from rocket.connection import Connection

log = logging.getLogger("rocket.worker")

READ = 1  # as in rocket.monitors
WRITE = 4
DRAIN_BYTES = 1 << 20  # what is read and dropped after an answer that ends the connection
READS = 16  # receives of a body in one turn: then it is the others' turn


class After(enum.Enum):
    """What becomes of the connection after a turn."""

    NEXT = "wait for the next message"
    READ = "wait until the peer has sent more of this one"
    WRITE = "wait until the peer has taken more of the answer"
    CLOSE = "close, once all was taken"
    LINGER = "close, but let the peer read the answer first: it may still be sending"
    DETACH = "the socket belongs to somebody else now"


NEXT, READ_MORE, WRITE_MORE, CLOSE, LINGER, DETACH = After


class Task(Protocol):
    """What goes on when a connection is ready again."""

    def step(self, worker: Worker, connection: Connection) -> After:
        """Do what can be done without waiting."""

    def expire(self, worker: Worker, connection: Connection) -> After:
        """The deadline has passed. Must not block: the polling thread calls it."""


@dataclass(frozen=True)
class Services:
    """What a worker may ask of the server. All are safe in any thread, and none blocks."""

    park: Callable[[Connection, int, float], None]
    """Keep a connection until it is ready for READ or WRITE, or the deadline (monotonic s): see `Reactor.park`."""
    submit: Callable[[Connection], None]
    """Put a connection at the end of the active queue."""
    close: Callable[[Connection], None]
    """Close a connection, and forget it."""
    detach: Callable[[Connection], None]
    """Forget a connection without closing it."""
    hand_over: Callable[[], None] = lambda: None
    """Wake another worker, if there is something to do: see `ThreadPool.hand_over`."""
    stats: Callable[[], dict[str, Any]] = dict
    """The server's figures."""


@dataclass(frozen=True)
class Options:
    """The values that a worker needs. Times in seconds, sizes in bytes; see `rocket.config.Config`."""

    limits: http1.Limits = field(default_factory=http1.Limits)
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 30.0
    keep_alive: float = 75.0
    linger: float = 0.0
    lingering_time: float = 2.0
    body_buffer: int = 1 << 20
    max_requests: int = 1000
    server_header: str = "Rocket"


class Worker:
    """Take connections that are ready, and serve them.

    `run` is called by the pool; each pool thread has a worker of its own, so its attributes need no lock.
    By itself a worker can read an HTTP request's line and header fields and its body, but cannot answer:
    inherit from it and override `respond`. For another protocol than HTTP override `serve`
    (examples/line_server.py).
    """

    def __init__(self, app: Any, services: Services, options: Options) -> None:
        self.app = app
        self.services = services
        self.options = options
        self.draining = False  # set by the server: answer what has come, and keep no connection
        self._park = services.park
        self._clock = time.monotonic
        self._limits = options.limits
        self._keep_alive = options.keep_alive
        self._linger = options.linger

    # ------------------------------------------------------------------ to override

    def serve(self, connection: Connection) -> After:
        """Read a request's head and body, and let `respond` answer it once it is whole."""
        data = connection.buffer
        if not data or connection.scanned:
            if not connection.fill():
                if connection.eof:
                    return CLOSE  # nobody is there to hear that half a head came
                return READ_MORE
            data = connection.buffer
        fields = self.new_fields(connection)
        scanned = connection.scanned
        head = read_head(data, fields, self._limits, scanned - 1 if scanned else 0)
        if head is None:
            return self._await_head(connection, data)
        connection.scanned = 0
        connection.requests += 1
        length = head[4]
        if not length:
            connection.buffer = data[head[3] :]
            return self.respond(connection, head, fields, None)
        end = head.end + length
        if length > 0 and end <= len(data) and length <= self.options.body_buffer:
            connection.buffer = data[end:]
            return self.respond(connection, head, fields, BytesIO(data[head.end : end]))
        connection.buffer = data[head.end :]
        body = BodyTask(head, fields, self.options)
        if head.expects_continue and not connection.buffer:
            connection.write(http1.CONTINUE)
        connection.task = body
        return body.feed(self, connection)

    def respond(
        self, connection: Connection, head: http1.Head, fields: dict[str, Any], body: Optional[IO[bytes]]
    ) -> After:
        """Answer a request that has come whole. *fields* is what `new_fields` returned, with the header fields in it.

        *body* is at its beginning; None if there is none.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to respond")

    def new_fields(self, connection: Connection) -> dict[str, Any]:
        """Return the dict that a request's header fields are put into, by their CGI names (RFC 3875, 4.1.18)."""
        return {}

    # ------------------------------------------------------------------ called by pool and reactor

    def run(self, connection: Connection) -> None:
        """Take one turn with *connection*, then hand it over to whoever has it next. Never raises."""
        try:
            task = connection.task
            after = self.serve(connection) if task is None else task.step(self, connection)
            # The usual end: the answer went, and nothing else has come.
            if after is NEXT and not connection.buffer and connection.idle and not (self.draining or self._linger):
                self._park(connection, READ, self._clock() + self._keep_alive)
                return
        except BaseException as exc:
            after = self._fail(connection, exc)
        self._go_on(connection, after)

    def expire(self, connection: Connection) -> bool:
        """See to a *connection* whose deadline has passed. Return whether it is ready after all. Never raises.

        Called by the polling thread, on a worker that serves nothing else.
        """
        try:
            task = connection.task
            if task is not None:
                after = task.expire(self, connection)
            elif connection.buffer:
                after = self._answer_error(connection, 408, "the request's head did not come in time")
            elif connection.fill():
                return True  # a request had just arrived
            else:
                after = CLOSE
        except BaseException as exc:
            after = self._fail(connection, exc)
        self._go_on(connection, after)
        return False

    # ------------------------------------------------------------------ inside

    def _await_head(self, connection: Connection, data: bytes) -> After:
        if not connection.scanned:
            # Absolute: a client that sends a byte now and then does not move it.
            connection.deadline = self._clock() + self.options.head_timeout
        # One more than what was looked at: 0 means that nothing of a head is known to be there.
        connection.scanned = 1 + http1.check_partial(data, max(0, connection.scanned - 1), self.options.limits)
        return READ_MORE

    def _keep(self, connection: Connection) -> bool:
        """Whether to wait for another request of *connection*."""
        if connection.eof or self.draining:
            return False
        return not self.options.linger or not connection.wait(writable=False, timeout=self.options.linger)

    def _go_on(self, connection: Connection, after: After) -> None:
        """Hand *connection* over. The last thing that is done with it in a turn."""
        try:
            self._hand_on(connection, after)
        except ConnectionLost as exc:
            log.debug("%r: %s", connection, exc)
            self.services.close(connection)
        except BaseException:
            log.exception("cannot go on with %r", connection)
            self.services.close(connection)

    def _hand_on(self, connection: Connection, after: After) -> None:
        if after is READ_MORE:
            self._park(connection, READ, connection.deadline)
        elif after is WRITE_MORE:
            self._park(connection, WRITE, connection.deadline)
        elif after is DETACH:
            self.services.detach(connection)
        elif connection.unsent:
            connection.task = FLUSH[after]
            self._park(connection, WRITE, self._clock() + self.options.write_timeout)
        elif after is LINGER or (after is CLOSE and connection.buffer and not connection.eof):
            # Closing a socket with unread bytes resets it, and the peer may lose the answer (RFC 9112, 9.6).
            connection.shutdown()
            connection.buffer = b""
            connection.task = DrainTask()
            self._park(connection, READ, self._clock() + self.options.lingering_time)
        elif after is CLOSE:
            self.services.close(connection)
        elif connection.buffer:
            connection.task = None
            self.services.submit(connection)
        elif self._keep(connection):
            connection.task = None
            self._park(connection, READ, self._clock() + self.options.keep_alive)
        elif connection.eof or self.draining:
            self.services.close(connection)
        else:
            connection.task = None
            self.services.submit(connection)  # linger: the next request is there

    def _fail(self, connection: Connection, exc: BaseException) -> After:
        """Answer what went wrong in a turn."""
        if isinstance(exc, BadRequest):
            try:
                return self._answer_error(connection, exc.status, str(exc))
            except ConnectionLost as lost:
                exc = lost
        if isinstance(exc, ConnectionLost):
            log.debug("%r: %s", connection, exc)
        else:
            log.error("a worker failed with %r", connection, exc_info=exc)
        # What is left of a broken answer must not be sent.
        self._discard(connection)
        return CLOSE

    @staticmethod
    def _discard(connection: Connection) -> None:
        connection.buffer = b""
        if connection.unsent:
            connection.output.close()
            connection.flush()

    def _answer_error(self, connection: Connection, status: int, message: str) -> After:
        log.debug("%r: %s %s", connection, status, message)
        connection.write(
            http1.error_response(status, message, http1.http_date(time.time()), self.options.server_header)
        )
        return LINGER


class BodyTask:
    """Collect a request's body, in memory and then in a temporary file; then answer the request."""

    __slots__ = ("_chunked", "_fields", "_file", "_head", "_left", "_options", "_parts", "_size")

    def __init__(self, head: http1.Head, fields: dict[str, Any], options: Options) -> None:
        self._head = head
        self._fields = fields
        self._options = options
        self._chunked = http1.ChunkedBody(options.limits) if head.length == http1.CHUNKED else None
        self._left = head.length  # bytes to come, if not chunked
        self._size = 0
        self._parts: list[bytes] = []
        self._file: Optional[IO[bytes]] = None

    def step(self, worker: Worker, connection: Connection) -> After:
        for _ in range(READS):
            if not connection.fill():
                if connection.eof:
                    raise ConnectionLost("the peer went away in the middle of a body")
                break
            after = self.feed(worker, connection)
            if after is not READ_MORE:
                return after
        connection.deadline = worker._clock() + self._options.body_timeout
        return READ_MORE

    def expire(self, worker: Worker, connection: Connection) -> After:
        return worker._answer_error(connection, 408, "the request's body did not come in time")

    def feed(self, worker: Worker, connection: Connection) -> After:
        """Take what is in the buffer."""
        data, connection.buffer = connection.buffer, b""
        if self._chunked is not None:
            self._add(self._chunked.feed(data))
            done = self._chunked.done
            if done:
                connection.buffer = self._chunked.rest
                # What the application sees is a body of a known length (RFC 9112, 7.1.3).
                self._fields.pop("HTTP_TRANSFER_ENCODING", None)
                self._fields["CONTENT_LENGTH"] = str(self._size)
        else:
            if len(data) > self._left:
                connection.buffer = data[self._left :]
                data = data[: self._left]
            self._left -= len(data)
            self._add(data)
            done = not self._left
        if not done:
            connection.deadline = worker._clock() + self._options.body_timeout
            return READ_MORE
        connection.task = None
        return worker.respond(connection, self._head, self._fields, self._body())

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._file is not None:
            self._file.write(data)
            return
        self._parts.append(data)
        if self._size > self._options.body_buffer:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed when the request is forgotten)
            self._file.writelines(self._parts)
            self._parts = []

    def _body(self) -> IO[bytes]:
        if self._file is not None:
            self._file.seek(0)
            return self._file
        return BytesIO(b"".join(self._parts))


class FlushTask:
    """Send what the peer has not taken yet; then go on as if it had."""

    def __init__(self, then: After) -> None:
        self._then = then

    def step(self, worker: Worker, connection: Connection) -> After:
        progress = connection.output.progress
        if connection.flush():
            connection.task = None
            return self._then
        if connection.output.progress > progress:
            connection.deadline = worker._clock() + worker.options.write_timeout
        return WRITE_MORE

    def expire(self, worker: Worker, connection: Connection) -> After:
        raise ConnectionLost("the peer did not take the answer in time")


class DrainTask:
    """Read and drop what a peer sends that has got its last answer, until it closes."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = DRAIN_BYTES

    def step(self, worker: Worker, connection: Connection) -> After:
        while connection.fill():
            self._left -= len(connection.buffer)
            connection.buffer = b""
            if self._left <= 0:
                return CLOSE
        return CLOSE if connection.eof else READ_MORE

    def expire(self, worker: Worker, connection: Connection) -> After:
        return CLOSE


FLUSH = {after: FlushTask(after) for after in After}
