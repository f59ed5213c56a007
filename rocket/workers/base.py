"""Workers: what a pool's thread does with a ready connection. The class to inherit from is `Worker`.

A turn is one call of `Worker.run`: one request, or one step of a longer one. Nothing in it waits for the
peer: what has not come yet, or was not taken yet, is left as the connection's task, and the connection is
parked until the peer has moved.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Callable, Optional

from rocket import http1
from rocket.connection import until_look
from rocket.errors import BadRequest, ConnectionLost
from rocket.http1 import read_head
from rocket.proxies import Proxies
from rocket.workers.after import CLOSE, DETACH, LINGER, NEXT, READ_MORE, WRITE_MORE, After
from rocket.workers.heads import LONGEST, HeadCache
from rocket.workers.report import report
from rocket.workers.stream import Incoming, StreamedBody
from rocket.workers.tasks import FLUSH, BodyTask, DrainTask, FlushTask

if TYPE_CHECKING:
    from rocket.connection import Connection

NO_TLS = "An https URI was asked for, over a connection without TLS."
RETRY_AFTER = 1  # s: what an overloaded server asks its clients to wait
READ = 1  # as in rocket.monitors
WRITE = 4


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
    begin_early: Callable[[], bool] = lambda: False
    """Ask whether a request may be begun before its body is whole; if so, `end_early` must follow."""
    end_early: Callable[[], None] = lambda: None
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
    park_delay: float = 0.0
    lingering_time: float = 2.0
    body_buffer: int = 1 << 20
    min_body_rate: int = 240
    stream: bool = False
    max_requests: int = 1000
    server_header: str = "Rocket"
    proxies: Proxies = field(default_factory=Proxies)


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
        self.keeps_gil = False  # set by the server: receive and send without letting it go, see rocket.gil
        self.may_keep_gil = False  # set by the server: whether that is possible, and of use
        self._park = services.park
        self._clock = time.monotonic
        self._limits = options.limits
        self._heads: Optional[HeadCache] = None  # for workers whose `new_fields` depends on the endpoint alone
        self._keep_alive = options.keep_alive
        self._park_delay = options.park_delay
        # With keep_alive=0 each request is the last.
        self._max_requests = (options.max_requests or sys.maxsize) if options.keep_alive else 0
        self._tail = b""  # Date and Server, with the empty line
        self._tail_second = 0

    # ------------------------------------------------------------------ to override

    @classmethod
    def prepare(cls, app: Any) -> Any:
        """Return what each worker is given as *app*. Called once, when the server is made; raises ConfigError."""
        return app

    def serve(self, connection: Connection) -> After:
        """Read a request's head and body, and let `respond` answer it once it is whole."""
        data = connection.buffer
        if not data or connection.scanned:
            if not connection.fill():
                if connection.eof:
                    return CLOSE  # nobody is there to hear that half a head came
                return READ_MORE
            data = connection.buffer
        heads = self._heads if len(data) <= LONGEST else None
        if heads is not None:
            known = heads.known.get(data)
            if known is not None and known[0] is connection.endpoint and connection.told is None:
                connection.request = known[1]
                connection.requests += 1
                connection.scanned = 0
                connection.buffer = b""
                return self.respond(connection, known[2], known[3].copy(), None)
        fields = self.new_fields(connection)
        scanned = connection.scanned
        connection.request = ""
        head = read_head(data, fields, self._limits, scanned - 1 if scanned else 0)
        if head is None:
            return self._await_head(connection, data)
        connection.scanned = 0
        connection.requests += 1
        connection.request = head[0] + " " + head[1]
        length = head[4]
        if not length:
            rest = connection.buffer = data[head[3] :]
            if heads is not None and not rest:
                heads.note(data, connection, head, fields)
            return self.respond(connection, head, fields, None)
        end = head.end + length
        if length > 0 and end <= len(data) and length <= self.options.body_buffer:
            connection.buffer = data[end:]
            return self.respond(connection, head, fields, BytesIO(data[head.end : end]))
        connection.buffer = data[head.end :]
        if self.options.stream:
            return self._respond_streaming(connection, head, fields)
        task = connection.task = BodyTask(head, fields, self)
        if head.expects_continue and not connection.buffer:
            connection.write(http1.CONTINUE)
        return task.feed(self, connection)

    def respond(
        self, connection: Connection, head: http1.Head, fields: dict[str, Any], body: Optional[IO[bytes]]
    ) -> After:
        """Answer a request that has come whole. *fields* is what `new_fields` returned, with the header fields in it.

        *body* is at its beginning; None if there is none. What a client may have forged for a proxy's word is among the
        fields, named in `http1.FORWARDING`: to drop it, or believe it, is `hear_proxies`'.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to respond")

    def hear_proxies(self, connection: Connection, environ: dict[str, Any]) -> None:
        """Let *environ*, which has `http1.FORWARDING`, say what proxies tell, if they are believed. BadRequest."""
        proxies = self.options.proxies
        if connection.trusted is None:
            connection.trusted = proxies.networks.has_peer(connection.peer[0])
        proxies.settle(environ, trusted=connection.trusted)

    def refuse(self, connection: Connection, status: int, message: str) -> After:
        """Answer what cannot be served: a broken or late request, an overloaded server. Must not block.

        *status* is HTTP's; what it means is in RFC 9110, section 15. Override it for another protocol.
        """
        report(logging.DEBUG, "%r: %s %s", connection, status, message)
        date, server = http1.http_date(time.time()), self.options.server_header
        retry_after = RETRY_AFTER if status == 503 else None
        head_only = connection.request.startswith("HEAD ") or (
            not connection.request and connection.buffer.lstrip(b"\r\n").startswith(b"HEAD ")
        )
        connection.write(
            http1.error_response(status, message, date, server, head_only=head_only, retry_after=retry_after)
        )
        return LINGER

    def new_fields(self, connection: Connection) -> dict[str, Any]:
        """Return the dict that a request's header fields are put into, by their CGI names (RFC 3875, 4.1.18)."""
        return {}

    def tail(self) -> bytes:
        """Return the last lines of a head: Date, Server, and the empty line."""
        now = int(time.time())
        if now != self._tail_second:
            server = self.options.server_header
            line = f"Server: {server}\r\n" if server else ""
            self._tail = f"{line}Date: {http1.http_date(now)}\r\n\r\n".encode("latin-1")
            self._tail_second = now
        return self._tail

    # ------------------------------------------------------------------ called by pool and reactor

    def run(self, connection: Connection) -> None:
        """Take one turn with *connection*, then hand it over to whoever has it next. Never raises."""
        if self.keeps_gil:
            connection.keeps_gil = True
        try:
            task = connection.task
            after = self.serve(connection) if task is None else task.step(self, connection)
            # The usual end: the answer went, and nothing else has come.
            if after is NEXT and not connection.buffer and connection.idle and not (self.draining or self._park_delay):
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
            after: Optional[After]
            if task is not None:
                after = task.expire(self, connection)
                if after is None:
                    return True
            elif connection.buffer.lstrip(b"\r\n"):  # else empty lines, which are not the beginning of a request
                after = self.refuse(connection, 408, "the request's head did not come in time")
            elif connection.fill():
                connection.scanned = 0
                return True  # a request had just arrived
            else:
                connection.buffer = b""
                after = CLOSE
        except BaseException as exc:
            after = self._fail(connection, exc)
        self._go_on(connection, after)
        return False

    def turn_away(self, connection: Connection) -> None:
        """Answer a *connection* that has waited too long for a worker. Never raises, never blocks."""
        try:
            if connection.task is None:
                connection.request = ""  # was that of the request before, which may have been a HEAD
                connection.fill()  # and what is this one?
            gone = connection.eof and connection.task is None and not connection.buffer
            after = CLOSE if gone else self.refuse(connection, 503, "All workers are busy.")
        except BaseException as exc:
            after = self._fail(connection, exc)
        self._go_on(connection, after)

    # ------------------------------------------------------------------ inside

    def _respond_streaming(self, connection: Connection, head: http1.Head, fields: dict[str, Any]) -> After:
        body = StreamedBody(Incoming(head, self.options), connection, self.options, BytesIO())
        body.expect_continue(head.expects_continue and not connection.buffer)
        return body.finish(self.respond(connection, head, fields, body))

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
        return not self.options.park_delay or not connection.wait(writable=False, timeout=self.options.park_delay)

    def _go_on(self, connection: Connection, after: After) -> None:
        """Hand *connection* over. The last thing that is done with it in a turn."""
        try:
            self._hand_on(connection, after)
        except BaseException as exc:
            self._tell(connection, exc)
            self.services.close(connection)

    def _hand_on(self, connection: Connection, after: After) -> None:
        if type(after) is not After:
            raise TypeError(f"{type(self).__name__} says what becomes of a connection by {after!r}, which is no After")
        if connection.unsent and after is not WRITE_MORE and after is not DETACH:
            if after is READ_MORE:
                # The peer may wait for this, a 100 say, before it sends more.
                connection.task = FlushTask(READ_MORE, connection.task, connection.deadline)
            else:
                connection.task = FLUSH[after]
            self._park(connection, WRITE, self._clock() + until_look(self.options.write_timeout))
        elif after is READ_MORE:
            self._park(connection, READ, connection.deadline)
        elif after is WRITE_MORE:
            self._park(connection, WRITE, connection.deadline)
        elif after is DETACH:
            self.services.detach(connection)
        elif after is LINGER or (after is CLOSE and self._may_be_sending(connection)):
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
            self.services.submit(connection)  # park_delay: the next request is there

    @staticmethod
    def _may_be_sending(connection: Connection) -> bool:
        """Whether there is, or just came, what nobody will read. Not again for what a task has drained."""
        if connection.eof:
            return False
        return bool(connection.buffer) or (connection.task is None and connection.fill())

    def _fail(self, connection: Connection, exc: BaseException) -> After:
        """Answer what went wrong in a turn. Never raises."""
        if isinstance(exc, BadRequest):
            try:
                return self.refuse(connection, exc.status, str(exc))
            except BaseException as second:
                self._tell(connection, second)
        else:
            self._tell(connection, exc)
        # What is left of a broken answer must not be sent, and a part of one must not look like the whole.
        self._discard(connection)
        if connection.until_close:
            connection.reset_on_close()
        return CLOSE

    @staticmethod
    def _tell(connection: Connection, exc: BaseException) -> None:
        if isinstance(exc, ConnectionLost):
            report(logging.DEBUG, "%r: %s", connection, exc)
        else:
            report(logging.ERROR, "a worker failed with %r: %s", connection, type(exc).__name__, exc=exc)

    @staticmethod
    def _discard(connection: Connection) -> None:
        connection.buffer = b""
        if connection.unsent:
            connection.output.close()
            connection.flush()
