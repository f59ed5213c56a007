"""Listening sockets: opened for a `Bind`, or taken over from whoever started us. What they are called, and their end.

Two servers that start at once, and a socket file that a dead one has left: whoever looks whether somebody still
listens, removes the file and binds its own must not be interrupted by another one that does the same, or the
second would remove the first one's live file. So all of it, from the look to listen(2), is done
while the folder is locked (flock(2)). The lock is the kernel's: nobody leaves one behind. Programs that do not
take it are met by looking several times. To remove one's own file at the end needs no lock: it is done while the
socket still listens, so nobody takes it for stale, and its inode's number cannot be anybody else's.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import logging
import os
import pwd
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Optional, Union

from rocket.binds import Address, Bind, unix_label, unix_url
from rocket.errors import BindError
from rocket.systemd import PASSED, PassedSockets

log = logging.getLogger("rocket.listener")

NO_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
DEFER_ACCEPT = 5  # s: how long the kernel keeps a connection that says nothing to itself
LINUX = sys.platform.startswith("linux")
LONGEST_PATH = 107 if LINUX else 103  # bytes, of sockaddr_un.sun_path without its NUL (unix(7), unix(4))
# Looks at a socket file before it counts as stale. A server that has bound but does not listen yet refuses
# connections, too; on FreeBSD also one whose backlog is full (unix(4)).
LOOKS = 3
LOOK_PAUSE = 0.05  # s
LOCK_PATIENCE = 5.0  # s: for the folder's lock, which is held for milliseconds, or `LOOKS`
LOCK_PAUSE = 0.01  # s
# FreeBSD spreads connections over the sockets with this one only; Linux and DragonFly with SO_REUSEPORT.
REUSEPORT: Optional[int] = getattr(socket, "SO_REUSEPORT_LB", getattr(socket, "SO_REUSEPORT", None))
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass
class ListeningSocket:
    """An open listening socket: what it is called, and how to end it. Its owner is a `Listener`."""

    sock: socket.socket
    bind: Bind
    file: str = ""  # the path of the socket file that we have made
    identity: Optional[tuple[int, int]] = None  # that file's device and inode

    def __post_init__(self) -> None:
        name = self.sock.getsockname()
        self.local = self.sock.family == socket.AF_UNIX
        # What connect() takes: (host, port), or the path of a unix socket, which begins with NUL if it is abstract.
        self.address: Union[Address, str] = self.file or os.fsdecode(name) if self.local else Address(name[0], name[1])

    @property
    def inherited(self) -> bool:
        return self.bind.inherited

    @property
    def secure(self) -> bool:
        return self.bind.tls is not None

    @property
    def endpoint(self) -> tuple[str, str]:
        """SERVER_NAME and SERVER_PORT. For a unix socket the ones that a URL without a port means: neither may be
        empty (PEP 3333), and the Host field has what the client asked for.
        """
        if isinstance(self.address, str):
            return "localhost", "443" if self.secure else "80"
        return self.address.host, str(self.address.port)

    @property
    def url(self) -> str:
        """A URL to reach it from this host."""
        if isinstance(self.address, str):
            return unix_url(self.address, secure=self.secure)
        host, port = self.address
        return f"{'https' if self.secure else 'http'}://{Address(LOOPBACK.get(host, host), port)}/"

    def __str__(self) -> str:
        """As people write it: `[::1]:80`, `unix:/run/site.sock`."""
        return unix_label(self.address) if isinstance(self.address, str) else str(self.address)

    def describe(self) -> str:
        """Return what a person needs who has just started it: where, and how it came."""
        notes = []
        if isinstance(self.address, str):
            text = ("tls+" if self.secure else "") + str(self)
        else:
            text = self.url
            if self.address.host in LOOPBACK:
                notes.append("all addresses of the host")
        if self.inherited:
            notes.append("from systemd" if self.bind.kind == "systemd" else str(self.bind))
        return f"{text} ({', '.join(notes)})" if notes else text

    def release(self) -> None:
        """Close the socket, and remove its file if that is still ours. Idempotent."""
        if self.identity is not None:
            identity, self.identity = self.identity, None
            try:
                if _identity(self.file) == identity:
                    os.unlink(self.file)
            except OSError as exc:
                if exc.errno != errno.ENOENT:
                    log.warning("cannot remove the socket %s: %s", self.file, exc.strerror)
        self.sock.close()


def open_all(
    binds: Sequence[Bind], *, backlog: int, dual_stack: bool, defer_accept: bool, passed: PassedSockets = PASSED
) -> list[ListeningSocket]:
    """Return listening sockets for all *binds*, or none and raise BindError: what was inherited is then still there."""
    opened: list[ListeningSocket] = []
    try:
        for bind in binds:
            if bind.kind == "fd":
                owner = next((str(other) for other in opened if other.sock.fileno() == bind.fd), None)
                if owner is not None:
                    raise BindError(errno.EADDRINUSE, f"cannot bind {bind}: {owner} has that descriptor already")
            opened += open_sockets(
                bind, backlog=backlog, dual_stack=dual_stack, defer_accept=defer_accept, passed=passed
            )
    except BaseException:
        for each in opened:
            if each.inherited:
                each.sock.detach()
            else:
                each.release()
        raise
    passed.take([each.sock.fileno() for each in opened if each.bind.kind == "systemd"])
    return opened


def open_sockets(
    bind: Bind, *, backlog: int, dual_stack: bool, defer_accept: bool, passed: PassedSockets = PASSED
) -> list[ListeningSocket]:
    """Return listening sockets, non-blocking, one for each address that *bind* means. Raises BindError.

    With *dual_stack* one IPv6 socket on all addresses takes IPv4 connections too.

    A socket that was inherited is taken over: it is closed at the end. One that does not fit stays open. Non-blocking
    is a state of what open(2) calls the open file description, so other processes that hold the same socket
    see it, too; without it, a connection that another process accepts first would block us. It is never set back.
    """
    try:
        if bind.kind == "unix":
            return [_open_unix(bind, backlog)]
        if bind.kind == "fd":
            return [_take_over(bind.fd, bind)]
        if bind.kind == "systemd":
            return _take_passed(bind, passed)
        return _open_tcp(bind, backlog=backlog, dual_stack=dual_stack, defer=defer_accept)
    except (OSError, UnicodeError) as exc:  # UnicodeError: no host name at all
        raise BindError(getattr(exc, "errno", None), f"cannot bind {bind}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc)


# --- TCP -------------------------------------------------------------------------------------------------------------


def _open_tcp(bind: Bind, *, backlog: int, dual_stack: bool, defer: bool) -> list[ListeningSocket]:
    host = bind.host or None
    found = socket.getaddrinfo(host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    wanted = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
    both = dual_stack and socket.has_dualstack_ipv6()
    if both:
        wanted.sort(key=lambda item: item[0] != socket.AF_INET6)
    sockets: list[socket.socket] = []
    missing: Optional[OSError] = None
    try:
        for family, where in wanted:
            if sockets and both and host is None:
                break  # the IPv6 socket has it
            if sockets and bind.port == 0:  # "localhost:0": one port for IPv4 and IPv6
                where = (where[0], sockets[0].getsockname()[1], *where[2:])
            v6_only = not (both and where[0] == "::")
            try:
                sockets.append(
                    _listen_tcp(family, where, backlog=backlog, v6_only=v6_only, defer=defer, share=bind.reuseport)
                )
            except OSError as exc:
                if exc.errno not in NO_FAMILY:
                    raise
                missing = exc  # a name with two addresses, on a host without one of the families
        if not sockets and missing is not None:
            raise missing
        return [ListeningSocket(sock, bind) for sock in sockets]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise


def _listen_tcp(
    family: int, where: tuple[object, ...], *, backlog: int, v6_only: bool, defer: bool, share: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)  # CLOEXEC (PEP 446)
    try:
        # A restart binds at once, though connections of the last run are in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            if REUSEPORT is None:
                raise OSError(errno.ENOPROTOOPT, "this system has no SO_REUSEPORT")
            sock.setsockopt(socket.SOL_SOCKET, REUSEPORT, 1)
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


# --- Unix sockets ----------------------------------------------------------------------------------------------------


def _open_unix(bind: Bind, backlog: int) -> ListeningSocket:
    length = len(os.fsencode(bind.path.lstrip("\0")))
    if length > LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, f"the path has {length} bytes, a unix socket's has {LONGEST_PATH} at most")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if not bind.path.startswith("\0"):
            return _listen_at(os.path.abspath(bind.path), bind, sock, backlog)
        if not LINUX:
            raise OSError(errno.EADDRNOTAVAIL, "only Linux has abstract sockets")
        sock.bind(bind.path)
        sock.listen(backlog)
        return ListeningSocket(sock, bind)
    except BaseException:
        sock.close()
        raise


def _listen_at(path: str, bind: Bind, sock: socket.socket, backlog: int) -> ListeningSocket:
    """Bind *sock* to its path, and listen. Nobody can connect before the mode and the owner are as they are to be."""
    user, group = _ids(bind)
    with _locked(os.path.dirname(path)):
        _remove_stale(path, bind.path)
        sock.bind(bind.path)  # as it was written: the whole path may be too long
        try:
            if bind.mode is not None or user != -1 or group != -1:
                _set_access(path, bind.mode, user, group)
            identity = _identity(path)
            # Until here connect(2) is refused, whatever the file's mode is.
            sock.listen(backlog)
        except BaseException:
            os.unlink(path)
            raise
    return ListeningSocket(sock, bind, file=path, identity=identity)


def _ids(bind: Bind) -> tuple[int, int]:
    """Return the numbers of the owner and the group; -1 if they are not to be changed."""
    user = _id(bind.owner, "user", lambda name: pwd.getpwnam(name).pw_uid)
    return user, _id(bind.group, "group", lambda name: grp.getgrnam(name).gr_gid)


def _id(written: str, what: str, find: Callable[[str], int]) -> int:
    if not written:
        return -1
    try:
        number = int(written) if written.isdecimal() else find(written)
        if number < 0xFFFFFFFF:  # which is -1 for chown(2): leave it
            return number
    except (KeyError, ValueError):  # ValueError: NUL in the name, or more digits than Python takes
        pass
    raise OSError(errno.EINVAL, f"there is no {what} {written!r}")


def _set_access(path: str, mode: Optional[int], user: int, group: int) -> None:
    """Set owner and mode of the socket at *path*, and of nothing that somebody puts in its place meanwhile."""
    fd = -1
    try:
        if LINUX:  # Python's chmod() follows links there, but for those in /proc, which lead to what is open
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise OSError(errno.EEXIST, "somebody has replaced the socket")
            path = f"/proc/self/fd/{fd}"
        try:
            if user != -1 or group != -1:
                os.chown(path, user, group, follow_symlinks=LINUX)
        except OSError as exc:
            raise OSError(exc.errno, f"cannot give it to another owner or group: {exc.strerror}") from exc
        if mode is not None:
            os.chmod(path, mode, follow_symlinks=LINUX)
    finally:
        if fd != -1:
            os.close(fd)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


@contextmanager
def _locked(folder: str, patience: float = LOCK_PATIENCE) -> Iterator[None]:
    """Hold the folder's lock, waited for *patience* s at most; see the top of the file. Raises OSError."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise OSError(exc.errno, f"cannot open the folder {folder}: {exc.strerror}") from exc
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise OSError(errno.EAGAIN, f"another process keeps the folder {folder} locked") from None
                time.sleep(LOCK_PAUSE)
            except OSError as exc:
                raise OSError(exc.errno, f"cannot lock the folder {folder}: {exc.strerror}") from exc
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing it would not do if a child of a fork has a copy
    finally:
        os.close(fd)


def _remove_stale(path: str, short: str, pause: Callable[[float], None] = time.sleep) -> None:
    """Remove a socket that nobody listens on any more. Raises OSError if there is anything else.

    *short* is the path as it was written, which fits into an address. Only while the folder is locked.
    """
    for look in range(LOOKS):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise OSError(errno.EEXIST, "there is a file of that name, which is no socket")
        if _is_live(short):
            raise OSError(errno.EADDRINUSE, "a server listens there")
        if look < LOOKS - 1:
            pause(LOOK_PAUSE)
    try:
        os.unlink(path)
    except OSError as exc:
        raise OSError(exc.errno, f"cannot remove the socket that a dead server has left: {exc.strerror}") from exc
    log.info("removed the socket %s: nobody listened on it any more", path)


def _is_live(path: str) -> bool:
    """Whether somebody listens on the unix socket *path*, as far as connect(2) tells. Raises OSError if it does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # its backlog is full
            return True
        except OSError as exc:
            if exc.errno == errno.EPROTOTYPE:  # a datagram socket, say
                return True
            raise OSError(exc.errno, f"cannot find out whether a server listens there: {exc.strerror}") from exc
    return True


# --- Inherited sockets -----------------------------------------------------------------------------------------------


def _take_passed(bind: Bind, passed: PassedSockets) -> list[ListeningSocket]:
    fds = passed.named(bind.name)
    taken: list[ListeningSocket] = []
    try:
        for fd in fds:
            taken.append(_take_over(fd, bind))
    except BaseException:
        for each in taken:
            each.sock.detach()
        raise
    return taken


def _take_over(fd: int, bind: Bind) -> ListeningSocket:
    """Return the listening socket that *fd* is. Raises OSError, and leaves it as it was, if it is none."""
    try:
        kind = os.fstat(fd).st_mode
    except OSError:
        raise OSError(errno.EBADF, f"no descriptor {fd} was inherited") from None
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.ENOTSOCK, f"descriptor {fd} is no socket")
    sock = socket.socket(fileno=fd)
    try:
        problem = _problem(sock)
        if problem:
            raise OSError(errno.EINVAL, f"descriptor {fd} {problem}")
        opened = ListeningSocket(sock, bind)
        os.set_inheritable(fd, False)
        sock.setblocking(False)
        # Connections inherit it, and close(2) would wait for their peers, non-blocking or not (socket(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        if not opened.local:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.detach()
        raise
    return opened


def _problem(sock: socket.socket) -> str:
    if sock.family not in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}:
        return f"is a socket of a family that is not served: {sock.family!r}"
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
        return "is no stream socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "is a socket that does not listen (systemd: Accept=no)"
    return ""
