"""The worker that calls a WSGI application (PEP 3333)."""

from __future__ import annotations

import functools
import time
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Callable, Optional

from rocket import http1
from rocket.http1 import FORWARDING
from rocket.workers.after import After
from rocket.workers.base import NO_TLS, Options, Services, Worker
from rocket.workers.environ import base_environ
from rocket.workers.heads import HeadCache
from rocket.workers.response import EarlyResponse, Response
from rocket.workers.routes import SLOW, Routes
from rocket.workers.stream import StreamedBody

if TYPE_CHECKING:
    from rocket.connection import Connection

GIVEN_UP = 0.1  # s: a request that has waited for so long may have lost its client
monotonic = time.monotonic
thread_time = time.thread_time


class WSGIWorker(Worker):
    """Call the WSGI application *app* for each request."""

    def __init__(
        self,
        app: Any,
        services: Services,
        options: Options,
        routes: Optional[Routes] = None,
        heads: Optional[HeadCache] = None,
    ) -> None:
        super().__init__(app, services, options)
        self.routes = Routes() if routes is None else routes
        if type(self).new_fields is WSGIWorker.new_fields:  # else who inherits may put in what is one client's
            self._heads = HeadCache() if heads is None else heads
        self._waits = self.routes.waits  # bound once: looked into for each request
        self._bases: dict[tuple[str, str, bool], dict[str, Any]] = {}

    def new_fields(self, connection: Connection) -> dict[str, Any]:
        base = connection.environ
        if base is None:
            base = connection.environ = self._base_of(connection)
        return base.copy()

    def _base_of(self, connection: Connection) -> dict[str, Any]:
        """Return what is the same for all requests of *connection*: the endpoint's, but for TLS and PROXY headers."""
        key = (*connection.endpoint, connection.secure)
        base = self._bases.get(key)
        if base is None:
            base = self._bases[key] = base_environ(
                connection.endpoint,
                secure=connection.secure,
                software=self.options.server_header or "Rocket",
                stats=self.services.stats,
            )
        if connection.secure:
            base = {**base, **connection.variables()}
        return base if connection.told is None else {**base, **connection.told}

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
        if FORWARDING in environ:
            self.hear_proxies(connection, environ)
        if authority is not None and environ["wsgi.url_scheme"] != "https" and http1.wants_tls(target):
            return self.refuse(connection, 421, NO_TLS)
        if self.draining or connection.requests >= self._max_requests:
            keep_alive = False
        make: Callable[..., Response] = Response
        if body is None:
            body = BytesIO()
        elif type(body) is StreamedBody:
            make = functools.partial(EarlyResponse, body)
        response = make(self, connection, method, minor, keep_alive)
        environ["wsgi.input"] = body
        environ["wsgi.early_hints"] = response.early_hints

        start = monotonic()
        # Not behind a pipelined request: a client must not make us read ahead.
        if start - connection.since > GIVEN_UP and not connection.buffer:
            connection.fill()  # raises if the client has reset the connection; the request is not run, then
        waits = self._waits.get(path)
        if waits is None:
            connection.keeps_gil = self.keeps_gil
            after = response.run(self.app, environ)
            if monotonic() - start > SLOW:
                self.routes.watch(path)
            return after
        # A route that was slow once is measured: does it wait, or compute?
        if waits > SLOW:
            self.services.hand_over()
            # When the handler has come back the GIL has been waited for once: not once more for each call that sends
            # the answer and reads the next request. With 64 threads that wait 4,900 -> 6,050 requests/s (sleep10). So
            # it is where others compute and the wait is for the GIL itself.
            connection.keeps_gil = self.may_keep_gil
        else:
            connection.keeps_gil = self.keeps_gil
        start = monotonic() - thread_time()
        after = response.run(self.app, environ)
        self.routes.learn(path, monotonic() - thread_time() - start)
        return after
