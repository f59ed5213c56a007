"""Listeners: the threads that accept from listening sockets."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from rocket import gil
from rocket.connection import Connection
from rocket.errors import BindError

if TYPE_CHECKING:
    import socket

    from rocket.sockets import ListeningSocket
    from rocket.tls import Contexts

log = logging.getLogger("rocket.listener")

# The system is short of something: go on later (accept(2)).
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# One client's trouble: go on with the next. The network errors are those "already pending on the new
# socket" (accept(2)), EPERM is a firewall's. Anything else would come again at once, and for ever.
ONE_CLIENT = frozenset(
    getattr(errno, name)
    for name in """ECONNABORTED ECONNRESET EPROTO EPERM ENETDOWN ENETUNREACH ENETRESET ENOPROTOOPT
        EHOSTDOWN EHOSTUNREACH ENONET EOPNOTSUPP ETIMEDOUT EINTR""".split()  # noqa: SIM905
    if hasattr(errno, name)
)
GONE = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
PAUSE = 0.1  # s: between two looks at a shortage, or at a full server
SHORT_PAUSE = 0.005  # s: between two looks while the queue is full
COMPLAIN = 5.0  # s: between two log lines about the same shortage


class Listener:
    """Accept from one listening socket, in a thread of its own, and hand the connections on.

    *place* is the socket, of TCP or a unix socket, and the listener's from now on.
    *on_connection* gets each, and owns it then. *full* tells whether no more should be accepted now;
    *on_shortage* is called, to make room, when somebody waits though that is so, or though descriptors
    have run out. Then it pauses: never 100 % CPU. *congested* tells whether the workers have enough to do
    for the moment: new clients wait in the backlog for some milliseconds, and nobody has to make room.
    With *contexts* the connections are under TLS, and `TLSConnection.handshake` is left to their owner.

    Raises BindError if no descriptor is left for the pipe that stops it.
    """

    def __init__(
        self,
        place: ListeningSocket,
        *,
        on_connection: Callable[[Connection], None],
        full: Callable[[], bool],
        on_shortage: Callable[[], None],
        congested: Callable[[], bool] = lambda: False,
        output_limits: tuple[int, int] = (1 << 20, 1 << 28),
        contexts: Optional[Contexts] = None,
    ) -> None:
        self.place = place
        self.sock = place.sock
        self.contexts = contexts
        self.accepted = 0
        self.keeps_gil = False  # set by the server, at any time: accept without letting it go, see rocket.gil
        self._acceptor: Optional[gil.Acceptor] = None  # made by the thread when it is first needed
        self._on_connection = on_connection
        self._full = full
        self._on_shortage = on_shortage
        self._congested = congested
        self._output_limits = output_limits
        self._endpoint = place.endpoint
        self._peer: Callable[[Any], tuple[str, str]] = _no_peer if place.local else _tcp_peer
        try:
            self._stop_read, self._stop_write = os.pipe()
        except OSError as exc:
            raise BindError(exc.errno, f"cannot listen on {place}: {exc.strerror}") from exc
        self._stop_lock = threading.Lock()  # one stop at a time, or a descriptor would be closed twice
        self._began = False  # its thread uses the descriptors: wait for it before they are closed
        self._complained = -COMPLAIN
        self._thread = threading.Thread(target=self._run, name=f"rocket-listener-{place}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread runs, as it should between `start` and `stop`."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the listening socket: new clients are refused. Returns when the thread has ended. Idempotent.

        The file of a unix socket is removed, if it is ours.
        """
        with self._stop_lock:
            if self._stop_write < 0:
                return
            stop_write, self._stop_write = self._stop_write, -1
            os.write(stop_write, b"\0")  # closing it would not do: a handler's child may have the other copy
            os.close(stop_write)
            if self._began:
                self._thread.join()
            os.close(self._stop_read)
            self.place.release()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        with self._stop_lock:  # not taken in `start`: a signal's handler may stop us in the middle of that
            if self._stop_write < 0:
                return
            self._began = True
        waiter = select.poll()
        waiter.register(self.sock, select.POLLIN)
        waiter.register(self._stop_read, select.POLLIN)
        stop = select.poll()
        stop.register(self._stop_read, select.POLLIN)
        while True:
            try:
                if any(fd == self._stop_read for fd, _ in waiter.poll()):
                    return
                if self._congested():
                    if stop.poll(SHORT_PAUSE * 1000):
                        return
                    continue
                if self._accept_all():
                    continue
                self._on_shortage()
            except Exception as exc:
                if isinstance(exc, OSError) and exc.errno in GONE:
                    log.error("the listening socket of %s is gone: %s", self.place, exc.strerror)
                    return
                self._complain("cannot accept on %s: %s", self.place, exc)
            if stop.poll(PAUSE * 1000):
                return

    def _accept_all(self) -> bool:
        """Accept until nobody waits, or there is no room; False if not even the first could be accepted."""
        if self._full():
            self._complain("%s: no more connections are accepted until some are done", self.place)
            return False
        accepted_any = False
        while self._stop_write >= 0:  # or stopped in the middle of a flood of clients
            try:
                sock, address = self._accept()
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno in ONE_CLIENT:
                    continue
                if exc.errno not in SHORT:
                    raise
                # Out of descriptors it says so also when nobody waits.
                if not accepted_any:
                    self._complain("cannot accept on %s: %s", self.place, exc.strerror)
                return accepted_any
            accepted_any = True
            self.accepted += 1
            self._on_connection(self._new_connection(sock, self._peer(address)))
            if self._full() or self._congested():
                break
        return True

    def _accept(self) -> tuple[socket.socket, tuple[Any, ...]]:
        """Return a new socket, which does not block, and its address. OSError.

        Who shares an inherited socket with us may make it block: then only this thread is to stand still.
        """
        if self.keeps_gil and gil.HAS_ACCEPT4 and not self.place.inherited:
            if self._acceptor is None:
                self._acceptor = gil.Acceptor(self.sock)
            return self._acceptor()
        sock, address = self.sock.accept()
        try:
            sock.setblocking(False)
        except OSError as exc:
            sock.close()
            # EINVAL on macOS, if the client is gone already: of the listening socket that would mean something else.
            raise ConnectionAbortedError(errno.ECONNABORTED, str(exc)) from exc
        return sock, address

    def _new_connection(self, sock: socket.socket, peer: tuple[str, str]) -> Connection:
        limits = self._output_limits
        if self.contexts is None:
            return Connection(sock, peer, self._endpoint, output_limits=limits)
        return self.contexts.connection(sock, peer, self._endpoint, output_limits=limits)

    def _complain(self, text: str, *args: Optional[object]) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAIN:
            self._complained = now
            log.error(text, *args)


def _tcp_peer(address: tuple[Any, ...]) -> tuple[str, str]:
    """Return the host and the port of what accept(2) returned."""
    host: str = address[0]
    # An IPv4 client of a dual-stack socket (RFC 4291, section 2.5.5.2) is an IPv4 client.
    return host[7:] if host.startswith("::ffff:") else host, str(address[1])


def _no_peer(_: object) -> tuple[str, str]:
    """Return the peer of a unix socket: it has no address. "" is that in CGI (RFC 3875, 4.1: NULL), and gunicorn's."""
    return "", ""
