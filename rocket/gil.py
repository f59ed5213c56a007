"""The GIL: whether there is one, and system calls that keep it.

CPython lets the GIL go around each system call of a socket, also where it never waits. Who asks for it again beside a
thread that computes gets it a switch interval (5 ms) later, beside four such threads 20 ms later (the convoy effect,
https://github.com/python/cpython/issues/52194). So a handler that computes for seconds slows down all others by the
number of their system calls, not by its share of the CPU (docs/decisions/0010-keep-the-gil.md has figures). The calls
of this file go through `ctypes.PyDLL`, which keeps the GIL. They cost 0.6 us more each, so they are for those times
only: `rocket.pools.contention` says when. They must not wait, or all threads would: for sockets and pipes that do not
block, and that nobody else can make block (O_NONBLOCK is one for all processes that share them, see fcntl(2)).
"""

from __future__ import annotations

import errno
import functools
import os
import select
import socket
import struct
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    import ctypes

RECEIVE_BYTES = 65536  # at most
SEND_BYTES = 65536  # longer data is copied for so long that the others may have the GIL meanwhile
EVENTS = 256  # of one look; those beyond wait for the next one
CTL_ADD, CTL_DEL, CTL_MOD = 1, 2, 3  # epoll_ctl(2), Linux
DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)  # whatever an application has made of its socket
HAS_ACCEPT4 = hasattr(socket, "SOCK_NONBLOCK")  # what `Acceptor` needs
MICROSECOND = 1e-6  # s: what CPython counts the switch interval in, rounded down
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

_works: Optional[bool] = None  # whether the calls do; None: not tried yet


def gil_enabled() -> bool:
    """Tell whether this interpreter has a GIL now; it may come back when an extension asks for it (PEP 703)."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def prepare() -> bool:
    """Load the calls, and try them; return whether they work here. Before anything else of this file is used."""
    global _works  # noqa: PLW0603 (it is the process's)
    if _works is None:
        try:
            _CALLS.load()
            _works = _try()
        except Exception as exc:  # no ctypes, no such function, a system on which something is not as it is known here
            if isinstance(exc, OSError) and exc.errno in PASSING:
                return False  # that may be better the next time
            _works = False
    return _works


def recv(sock: socket.socket, size: int) -> bytes:
    """Do as `sock.recv(size)`. Any thread; at most RECEIVE_BYTES."""
    try:
        buffer = _spare.pop()
    except IndexError:
        buffer = _Buffer(RECEIVE_BYTES)
    count = _CALLS.recv(sock.fileno(), buffer.address, min(size, RECEIVE_BYTES), DONTWAIT)
    data = buffer.view[:count].tobytes() if count > 0 else b""
    _spare.append(buffer)
    if count < 0:
        _fail()
    return data


def send(sock: socket.socket, data: bytes) -> int:
    """Do as `sock.send(data)`; with long *data* the GIL is let go. Any thread."""
    if type(data) is not bytes or len(data) > SEND_BYTES:
        return sock.send(data)
    count = _CALLS.send(sock.fileno(), data, len(data), DONTWAIT)
    if count < 0:
        _fail()
    return count


def close(sock: socket.socket) -> None:
    """Do as `sock.close()`. Its owner's thread."""
    fd = sock.detach()
    if fd >= 0:
        _CALLS.close(fd)


def read(fd: int, size: int) -> bytes:
    """Do as `os.read(fd, size)`, for a few bytes. Any thread."""
    buffer = _Buffer(size)
    count = _CALLS.read(fd, buffer.address, size)
    if count < 0:
        _fail()
    return buffer.view[:count].tobytes()


def write(fd: int, data: bytes) -> None:
    """Do as `os.write(fd, data)`, for a few bytes. Any thread."""
    if _CALLS.write(fd, data, len(data)) < 0:
        _fail()


def read_text(path: str) -> str:
    """Return the text of a file that the kernel makes as it is read, in /proc or /sys; "" if it cannot be read.

    Any thread. The kernel's own file systems answer at once; `is_kernels` says whether it is one of theirs.
    """
    fd = _CALLS.open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
    if fd < 0:
        return ""
    pieces, buffer = [], _Buffer(RECEIVE_BYTES)
    try:
        while (count := _CALLS.read(fd, buffer.address, RECEIVE_BYTES)) > 0:
            pieces.append(buffer.view[:count].tobytes())
    finally:
        _CALLS.close(fd)
    return b"".join(pieces).decode(errors="replace") if count == 0 else ""


@functools.lru_cache(maxsize=64)  # or each look would let the GIL go, twice
def is_kernels(path: str) -> bool:
    """Whether *path* is the kernel's own: in /proc nothing was mounted over it. Those of cgroups are taken to be."""
    if not path.startswith("/proc/"):
        return True
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/stat").st_dev
    except OSError:
        return False


class Acceptor:
    """Accept from a listening socket that does not block, and that nobody else has. One thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._address = _Buffer(128)  # a struct sockaddr_storage
        self._length = _Buffer(4)  # a socklen_t

    def __call__(self) -> tuple[socket.socket, tuple[Any, ...]]:
        """Return a new socket, which does not block, and its peer: (host, port), or () of a unix socket."""
        self._length.view[:] = struct.pack("@I", 128)
        flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        fd = _CALLS.accept4(self._sock.fileno(), self._address.address, self._length.address, flags)
        if fd < 0:
            _fail()
        # The flag tells Python that it does not block; setblocking() would be a system call more.
        sock = socket.socket(self._sock.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, self._sock.proto, fd)
        peer = self._address.view
        if sock.family == socket.AF_INET:
            return sock, (socket.inet_ntop(socket.AF_INET, peer[4:8]), int.from_bytes(peer[2:4], "big"))
        if sock.family == socket.AF_INET6:
            return sock, (socket.inet_ntop(socket.AF_INET6, peer[8:24]), int.from_bytes(peer[2:4], "big"))
        return sock, ()


class Epoll:
    """An epoll(7) object by its calls. `look` is for one thread at a time, as the others are."""

    def __init__(self, epoll: select.epoll) -> None:
        self._fileno = epoll.fileno
        # The structure is a packed one on x86-64.
        packed = os.uname().machine == "x86_64" and struct.calcsize("P") == 8
        self._event = struct.Struct("=IiI" if packed else "@IiI" if struct.calcsize("@IQ") == 12 else "@I4xiI")
        self._found = _Buffer(EVENTS * self._event.size)
        self._told = _Buffer(self._event.size)

    def look(self) -> list[tuple[int, int]]:
        """Do as `poll(0)`: return (fd, events) of what is ready."""
        count = _CALLS.epoll_wait(self._fileno(), self._found.address, EVENTS, 0)
        if count < 0:
            _fail()
        return [(fd, events) for events, fd, _ in self._event.iter_unpack(self._found.view[: count * self._event.size])]

    def register(self, fd: int, events: int) -> None:
        self._control(CTL_ADD, fd, events)

    def modify(self, fd: int, events: int) -> None:
        self._control(CTL_MOD, fd, events)

    def unregister(self, fd: int) -> None:
        self._control(CTL_DEL, fd, 0)

    def _control(self, operation: int, fd: int, events: int) -> None:
        self._event.pack_into(self._told.view, 0, events, fd, 0)
        if _CALLS.epoll_ctl(self._fileno(), operation, fd, self._told.address) < 0:
            _fail()


class SwitchInterval:
    """The interpreter's switch interval, made shorter for a while by whoever wants that. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[object, float] = {}  # who -> s; guarded by _lock
        self._usual = self._set = 0.0  # s: what it was before, and what we made of it; guarded by _lock

    def shorten(self, who: object, seconds: float) -> None:
        """Make it *seconds*, unless it is shorter already, until *who* wants it restored. Again is as once."""
        with self._lock:
            if not self._wanted:
                self._usual = self._set = sys.getswitchinterval()
            self._wanted[who] = seconds
            self._apply_locked()

    def restore(self, who: object) -> None:
        """Take back what *who* wanted, if anything. If somebody else has set the interval meanwhile, that stays."""
        with self._lock:
            self._wanted.pop(who, None)
            self._apply_locked()

    def abandon(self) -> None:
        """Set back what a forked child has inherited: whoever wanted it was another thread. The only thread."""
        self._lock = threading.Lock()
        self._wanted.clear()
        self._apply_locked()

    def _apply_locked(self) -> None:
        if abs(sys.getswitchinterval() - self._set) < 1.5 * MICROSECOND:
            self._set = min([self._usual, *self._wanted.values()])
            sys.setswitchinterval(self._set + MICROSECOND / 2)


SWITCH_INTERVAL = SwitchInterval()  # of the process: there is one
os.register_at_fork(after_in_child=SWITCH_INTERVAL.abandon)


# --- Inside ----------------------------------------------------------------------------------------------------------


class _Buffer:
    """Memory at a known address."""

    __slots__ = ("_memory", "address", "view")

    def __init__(self, size: int) -> None:
        import ctypes

        self._memory = ctypes.create_string_buffer(size)
        self.address = ctypes.addressof(self._memory)
        self.view = memoryview(self._memory).cast("B")


# For those that receive at the same time: append and pop are atomic. A switch between two threads may come at any time,
# also between a call and the copy of what it has received.
_spare: deque[_Buffer] = deque()


def _fail() -> None:
    number = _CALLS.errno()
    raise OSError(number, os.strerror(number))  # BlockingIOError and the like, by its number


class _Calls:
    """The C library's functions. Those that a system does not have are not there."""

    errno: Callable[[], int]
    recv: Callable[[int, int, int, int], int]
    send: Callable[[int, bytes, int, int], int]
    open: Callable[[bytes, int], int]
    read: Callable[[int, int, int], int]
    write: Callable[[int, bytes, int], int]
    close: Callable[[int], int]
    accept4: Callable[[int, int, int, int], int]
    epoll_wait: Callable[[int, int, int, int], int]
    epoll_ctl: Callable[[int, int, int, int], int]

    def load(self) -> None:
        import ctypes
        from ctypes import c_char_p, c_int, c_size_t, c_ssize_t, c_void_p

        library = ctypes.PyDLL(None, use_errno=True)
        self.errno = ctypes.get_errno
        self.recv = _declare(library.recv, c_ssize_t, c_int, c_void_p, c_size_t, c_int)
        self.send = _declare(library.send, c_ssize_t, c_int, c_char_p, c_size_t, c_int)
        self.open = _declare(library.open, c_int, c_char_p, c_int)
        self.read = _declare(library.read, c_ssize_t, c_int, c_void_p, c_size_t)
        self.write = _declare(library.write, c_ssize_t, c_int, c_char_p, c_size_t)
        self.close = _declare(library.close, c_int, c_int)
        if HAS_ACCEPT4:
            self.accept4 = _declare(library.accept4, c_int, c_int, c_void_p, c_void_p, c_int)
        if hasattr(select, "epoll"):
            self.epoll_wait = _declare(library.epoll_wait, c_int, c_int, c_void_p, c_int, c_int)
            self.epoll_ctl = _declare(library.epoll_ctl, c_int, c_int, c_int, c_int, c_void_p)


_CALLS = _Calls()


def _declare(function: ctypes._NamedFuncPointer, result: type, *arguments: type) -> Callable[..., int]:
    function.restype = result
    function.argtypes = arguments
    return function


def _try() -> bool:
    """Whether the calls do here what they are to do."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        try:
            recv(ours, 10)
            return False
        except BlockingIOError:
            pass
        if send(theirs, b"a\0b") != 3:
            return False
        if HAS_ACCEPT4:
            try:
                Acceptor(ours)()
            except OSError as exc:  # a filter of system calls may know accept(2) alone
                if exc.errno in {errno.ENOSYS, errno.EPERM}:
                    return False
        if hasattr(select, "epoll"):
            with select.epoll() as usual:
                epoll = Epoll(usual)
                epoll.register(ours.fileno(), select.EPOLLIN)
                epoll.register(theirs.fileno(), select.EPOLLOUT)
                if len(epoll.look()) != 2 or sorted(epoll.look()) != sorted(usual.poll(0)):
                    return False
        return recv(ours, 10) == b"a\0b"
