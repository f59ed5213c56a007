"""Listeners: listening sockets, and the threads that accept from them."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from rocket.connection import Connection
from rocket.errors import BindError

if TYPE_CHECKING:
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
NO_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
PAUSE = 0.1  # s: between two looks at a shortage, or at a full server
SHORT_PAUSE = 0.005  # s: between two looks while the queue is full
COMPLAIN = 5.0  # s: between two log lines about the same shortage
DEFER_ACCEPT = 5  # s: how long the kernel keeps a connection that says nothing to itself


class Address(NamedTuple):
    """Where to listen: *host* "" is every address of the host, *port* 0 a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_sockets(address: Address, *, backlog: int, dual_stack: bool, defer_accept: bool) -> list[socket.socket]:
    """Return listening sockets, one for each address that the host name means. Raises BindError.

    With *dual_stack* one IPv6 socket on all addresses takes IPv4 connections too.
    """
    host = address.host or None
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:  # UnicodeError: no host name at all
        raise BindError(getattr(exc, "errno", None), f"cannot bind {address}: {_reason(exc)}") from exc
    wanted = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
    both = dual_stack and socket.has_dualstack_ipv6()
    if both:
        wanted.sort(key=lambda item: item[0] != socket.AF_INET6)
    sockets: list[socket.socket] = []
    missing: Optional[OSError] = None
    for family, where in wanted:
        if sockets and both and host is None:
            break  # the IPv6 socket has it
        try:
            if sockets and address.port == 0:  # "localhost:0": one port for IPv4 and IPv6
                where = (where[0], sockets[0].getsockname()[1], *where[2:])
            v6_only = not (both and where[0] == "::")
            sockets.append(_open_socket(family, where, backlog=backlog, v6_only=v6_only, defer=defer_accept))
        except OSError as exc:
            if exc.errno in NO_FAMILY:
                missing = exc
                continue  # a name with two addresses, on a host without one of the families
            for sock in sockets:
                sock.close()
            raise BindError(exc.errno, f"cannot bind {address}: {_reason(exc)}") from exc
    if not sockets and missing is not None:
        raise BindError(missing.errno, f"cannot bind {address}: {_reason(missing)}") from missing
    return sockets


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc)


def _open_socket(family: int, where: tuple[object, ...], *, backlog: int, v6_only: bool, defer: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)  # CLOEXEC (PEP 446)
    try:
        # A restart binds at once, though connections of the last run are in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6_only))
        # Accepted sockets inherit it (Linux, BSD): one call here instead of one a connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if defer and hasattr(socket, "TCP_DEFER_ACCEPT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_ACCEPT)
        sock.bind(where)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class Listener:
    """Accept from one listening socket, in a thread of its own, and hand the connections on.

    *on_connection* gets each, and owns it then. *full* tells whether no more should be accepted now;
    *on_shortage* is called, to make room, when somebody waits though that is so, or though descriptors
    have run out. Then it pauses: never 100 % CPU. *congested* tells whether the workers have enough to do
    for the moment: new clients wait in the backlog for some milliseconds, and nobody has to make room.
    With *contexts* the connections are under TLS, and `TLSConnection.handshake` is left to their owner.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_connection: Callable[[Connection], None],
        full: Callable[[], bool],
        on_shortage: Callable[[], None],
        congested: Callable[[], bool] = lambda: False,
        output_limits: tuple[int, int] = (1 << 20, 1 << 28),
        contexts: Optional[Contexts] = None,
    ) -> None:
        self.sock = sock
        self.contexts = contexts
        self.address = Address(*sock.getsockname()[:2])
        self.accepted = 0
        self._on_connection = on_connection
        self._full = full
        self._on_shortage = on_shortage
        self._congested = congested
        self._output_limits = output_limits
        self._endpoint = (self.address.host, str(self.address.port))
        self._stop_read, self._stop_write = os.pipe()
        self._stop_lock = threading.Lock()  # one stop at a time, or a descriptor would be closed twice
        self._complained = -COMPLAIN
        self._thread = threading.Thread(target=self._run, name=f"rocket-listener-{self.address.port}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the listening socket: new clients are refused. Returns when the thread has ended. Idempotent."""
        with self._stop_lock:
            if self._stop_write < 0:
                return
            stop_write, self._stop_write = self._stop_write, -1
            os.write(stop_write, b"\0")  # closing it would not do: a handler's child may have the other copy
            os.close(stop_write)
            if self._thread.ident is not None:
                self._thread.join()
            os.close(self._stop_read)
            self.sock.close()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
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
                    log.error("the listening socket of %s is gone: %s", self.address, exc.strerror)
                    return
                self._complain("cannot accept on %s: %s", self.address, exc)
            if stop.poll(PAUSE * 1000):
                return

    def _accept_all(self) -> bool:
        """Accept until nobody waits, or there is no room; False if not even the first could be accepted."""
        if self._full():
            self._complain("%s: no more connections are accepted until some are done", self.address)
            return False
        accepted_any = False
        while self._stop_write >= 0:  # or stopped in the middle of a flood of clients
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno in ONE_CLIENT:
                    continue
                if exc.errno not in SHORT:
                    raise
                # Out of descriptors it says so also when nobody waits.
                if not accepted_any:
                    self._complain("cannot accept on %s: %s", self.address, exc.strerror)
                return accepted_any
            accepted_any = True
            self.accepted += 1
            try:
                sock.setblocking(False)
            except OSError:
                sock.close()
                continue
            # An IPv4 client of a dual-stack socket (RFC 4291, section 2.5.5.2) is an IPv4 client.
            host = address[0][7:] if address[0].startswith("::ffff:") else address[0]
            self._on_connection(self._new_connection(sock, (host, str(address[1]))))
            if self._full() or self._congested():
                break
        return True

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
