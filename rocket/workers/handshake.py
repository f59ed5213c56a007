"""The TLS handshake as a task: step by step in workers' threads, parked in between, with a deadline of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional

from rocket.errors import ConnectionLost
from rocket.workers.after import CLOSE, LINGER, NEXT, READ_MORE, After
from rocket.workers.report import report

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.workers.base import Worker


class HandshakeTask:
    """Make a `TLSConnection` usable; then its first message may come. Who gives it sets the connection's deadline."""

    __slots__ = ()
    light = True

    def step(self, worker: Worker, connection: Connection) -> After:
        # OpenSSL computes for 0.1 to 2 ms, and not under the GIL: the others go on meanwhile.
        worker.services.hand_over()
        try:
            done = connection.handshake()  # type: ignore[attr-defined]  # only a TLSConnection has the task
        except ConnectionLost as exc:
            report(logging.DEBUG, "%r: %s", connection, exc)
            return LINGER  # the peer may have sent more, and should read the alert
        if not done:
            return READ_MORE
        connection.task = None
        connection.deadline = worker._clock() + worker.options.head_timeout
        return NEXT if connection.buffer else READ_MORE

    def expire(self, worker: Worker, connection: Connection) -> Optional[After]:
        report(logging.DEBUG, "%r: the handshake took too long", connection)
        return CLOSE


HANDSHAKE = HandshakeTask()  # shared: it holds nothing of a connection
