"""The task that reads a PROXY protocol header, before anything else of a connection is read."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Optional

from rocket.errors import BadRequest, ConnectionLost
from rocket.proxies import ProxyHeader, read_proxy_header
from rocket.proxies.protocol import MAX_BYTES
from rocket.workers.after import CLOSE, READ_MORE, After
from rocket.workers.report import report

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.workers.base import Worker
    from rocket.workers.tasks import Task


class ProxyTask:
    """Read a connection's PROXY protocol header, of one of *versions*; then go on with *then*, or serve.

    Only from proxies that are trusted. Not a byte behind the header is taken from the socket, so that *then* may be
    a TLS handshake: as long as that has not begun, nothing is answered to a bad header, for nobody could read it.
    """

    __slots__ = ("_data", "_then", "_versions", "light")

    def __init__(self, versions: frozenset[int], then: Optional[Task] = None) -> None:
        self._versions = versions
        self._then = then
        self._data = b""
        self.light = then is not None and then.light  # else the first request may be there already

    def step(self, worker: Worker, connection: Connection) -> After:
        host = connection.peer[0]
        proxies = worker.options.proxies
        if not proxies.networks.has_peer(host):
            proxies.tell_once("refused, because proxy_protocol is on: %s", host)
            message = "PROXY protocol: only the proxies in forwarded_allow_ips may connect"
            return self._refuse(worker, connection, BadRequest.status, message)
        try:
            header = self._read(connection)
        except BadRequest as exc:
            proxies.complain("%s, from %s", exc, host or "a unix socket")
            return self._refuse(worker, connection, exc.status, str(exc))
        if header is None:
            return CLOSE if connection.eof else READ_MORE
        _apply(header, worker, connection)
        then = connection.task = self._then
        return worker.serve(connection) if then is None else then.step(worker, connection)

    def expire(self, worker: Worker, connection: Connection) -> Optional[After]:
        if self._data:
            return self._refuse(worker, connection, 408, "the PROXY protocol header did not come in time")
        return None if _peek(connection) else CLOSE

    def _read(self, connection: Connection) -> Optional[ProxyHeader]:
        """Take from the socket what has come of the header, and no more; return the header once it is whole.

        Also if it is not: what is left in the socket would make the monitor report it at once, again and again.
        """
        while True:
            seen = _peek(connection)
            if not seen:
                return None
            data = self._data + seen
            header = read_proxy_header(data, self._versions)
            size = len(data) if header is None else header.end
            self._data += _receive(connection, size - len(self._data))
            if header is not None:
                return header

    def _refuse(self, worker: Worker, connection: Connection, status: int, message: str) -> After:
        if self._then is not None or connection.secure:
            report(logging.DEBUG, "%r: %s", connection, message)
            return CLOSE
        return worker.refuse(connection, status, message)


def _apply(header: ProxyHeader, worker: Worker, connection: Connection) -> None:
    """Make *connection* the client's.

    What it says in header fields is the client's word, too, if it does not come from a proxy that is listed by name:
    that everybody may connect (``*``) does not make everybody a proxy.
    """
    if header.local:
        return
    proxies = worker.options.proxies
    connection.trusted = False
    if header.source is not None:
        connection.peer = header.source
        connection.trusted = proxies.networks.names_host(header.source[0])
    told = {}
    if header.destination is not None:
        host, port = header.destination
        told = {"SERVER_NAME": f"[{host}]" if ":" in host else host, "SERVER_PORT": port}
    if header.tls:
        told.update({"wsgi.url_scheme": "https", "HTTPS": "on"})
    connection.told = told or None
    # A tuple of its own: what is remembered of an endpoint's requests, by its identity, is not this client's.
    connection.endpoint = (connection.endpoint[0], connection.endpoint[1])


def _peek(connection: Connection) -> bytes:
    """Return what has come, and leave it in the socket; b"" if nothing has, or at the end, then *eof* is set.

    As a plain socket, also if it is a TLS one already.
    """
    try:
        data = socket.socket.recv(connection.sock, MAX_BYTES, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return b""
    except OSError as exc:
        raise ConnectionLost(str(exc)) from exc
    if not data:
        connection.eof = True
    return data


def _receive(connection: Connection, size: int) -> bytes:
    """Take *size* bytes that `_peek` has seen. Raises ConnectionLost."""
    try:
        return socket.socket.recv(connection.sock, size)
    except OSError as exc:
        raise ConnectionLost(str(exc)) from exc
