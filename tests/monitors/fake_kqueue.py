"""kqueue(2) for hosts without it: `kqueue`, `kevent` and the KQ_ constants of FreeBSD, over poll(2).

To be passed in where Python's `select` would be. What it keeps of the real thing (FreeBSD's kqueue(2)):

* a knote for each pair of descriptor and filter; adding it twice modifies it;
* level-triggered, EV_ONESHOT, EV_ENABLE and EV_DISABLE; EV_EOF on hang-up and half-close; `data` tells how much;
* changes are made one by one; the first error ends the call (ENOENT, EBADF), or is an EV_ERROR event if there is room;
* a change by one thread reaches the wait of another;
* closing a descriptor removes its knotes, and a new file under its number does not inherit them;
* more ready than asked for: who was reported goes to the end.

Not emulated: EV_CLEAR and EV_DISPATCH, other filters, several threads that wait at once.
"""

import errno
import os
import select
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterable
from fcntl import ioctl
from termios import FIONREAD
from typing import Optional

KQ_FILTER_READ = -1
KQ_FILTER_WRITE = -2
KQ_EV_ADD = 0x0001
KQ_EV_DELETE = 0x0002
KQ_EV_ENABLE = 0x0004
KQ_EV_DISABLE = 0x0008
KQ_EV_ONESHOT = 0x0010
KQ_EV_ERROR = 0x4000
KQ_EV_EOF = 0x8000

HALF_CLOSED = getattr(select, "POLLRDHUP", 0)
HUNG_UP = select.POLLHUP | select.POLLERR


class kevent:
    """An event, or a change."""

    def __init__(  # noqa: PLR0917 (as in Python's select)
        self,
        ident: int,
        filter: int = KQ_FILTER_READ,
        flags: int = KQ_EV_ADD,
        fflags: int = 0,
        data: int = 0,
        udata: int = 0,
    ) -> None:
        self.ident, self.filter, self.flags = ident, filter, flags
        self.fflags, self.data, self.udata = fflags, data, udata

    def __repr__(self) -> str:
        return f"<kevent ident={self.ident} filter={self.filter} flags={self.flags:#x} data={self.data}>"


class Knote:
    """A filter on an open file, which is known by more than its number."""

    def __init__(self, file: tuple[int, int]) -> None:
        self.file = file
        self.enabled = True
        self.oneshot = False
        self.udata = 0


class kqueue:
    """A kernel event queue. `control` may be called by any thread, but only one may wait."""

    def __init__(self) -> None:
        self.closed = False
        self._knotes: dict[tuple[int, int], Knote] = {}  # (fd, filter); guarded by lock
        self._lock = threading.Lock()
        self._changed, self._change = os.pipe()  # a byte: look at the knotes again
        os.set_blocking(self._changed, False)
        os.set_blocking(self._change, False)

    def fileno(self) -> int:
        return self._changed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._changed)
            os.close(self._change)

    def control(
        self, changelist: Optional[Iterable[kevent]], maxevents: int, timeout: Optional[float] = None, /
    ) -> list[kevent]:
        if self.closed:
            raise ValueError("I/O operation on closed kqueue object")
        if maxevents < 0:
            raise ValueError(f"Length of eventlist must be 0 or positive, got {maxevents}")
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must be positive or None")
        errors = self._apply(list(changelist or ()), maxevents)
        if errors or not maxevents:
            return errors
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ready = self._look(maxevents, None if deadline is None else max(deadline - time.monotonic(), 0))
            if ready or (deadline is not None and time.monotonic() >= deadline):
                return ready

    def _apply(self, changes: list[kevent], room: int) -> list[kevent]:
        errors: list[kevent] = []
        try:
            for change in changes:
                number = self._apply_one(change)
                if number and len(errors) < room:
                    errors.append(kevent(change.ident, change.filter, KQ_EV_ERROR, data=number, udata=change.udata))
                elif number:
                    raise OSError(number, os.strerror(number))
        finally:
            if changes:
                try:
                    os.write(self._change, b"!")
                except BlockingIOError:
                    pass  # it is full of bytes that say the same
        return errors

    def _apply_one(self, change: kevent) -> int:
        """Make *change*; return an errno or 0."""
        if change.filter not in (KQ_FILTER_READ, KQ_FILTER_WRITE):
            return errno.EINVAL
        key = change.ident, change.filter
        file = identify(change.ident)
        with self._lock:
            knote = self._knotes.get(key)
            if knote is not None and knote.file != file:
                del self._knotes[key]
                knote = None
            if file is None:
                return errno.EBADF
            if change.flags & KQ_EV_ADD:
                if knote is None:
                    knote = self._knotes[key] = Knote(file)
                knote.oneshot = bool(change.flags & KQ_EV_ONESHOT)
                knote.udata = change.udata
                knote.enabled = True
            if knote is None:
                return errno.ENOENT
            if change.flags & KQ_EV_DELETE:
                del self._knotes[key]
            if change.flags & KQ_EV_ENABLE:
                knote.enabled = True
            if change.flags & KQ_EV_DISABLE:
                knote.enabled = False
        return 0

    def _look(self, maxevents: int, timeout: Optional[float]) -> list[kevent]:
        """Wait until a descriptor is ready, a knote is changed, or the time is up."""
        poll = select.poll()
        poll.register(self._changed, select.POLLIN)
        masks: dict[int, int] = {}
        with self._lock:
            for (fd, filter), knote in list(self._knotes.items()):
                if knote.file != identify(fd):
                    del self._knotes[fd, filter]
                elif knote.enabled:
                    wanted = select.POLLIN | HALF_CLOSED if filter == KQ_FILTER_READ else select.POLLOUT
                    masks[fd] = masks.get(fd, 0) | wanted
        for fd, mask in masks.items():
            poll.register(fd, mask)
        fired = dict(poll.poll(None if timeout is None else timeout * 1000))
        if fired.pop(self._changed, 0):
            try:
                os.read(self._changed, 4096)
            except BlockingIOError:
                pass
        return self._deliver(fired, maxevents)

    def _deliver(self, fired: dict[int, int], maxevents: int) -> list[kevent]:
        ready: list[kevent] = []
        with self._lock:
            for (fd, filter), knote in list(self._knotes.items()):
                if len(ready) == maxevents:
                    break
                bits = fired.get(fd, 0)
                wanted = select.POLLIN | HALF_CLOSED if filter == KQ_FILTER_READ else select.POLLOUT
                if not knote.enabled or not bits & (wanted | HUNG_UP) or knote.file != identify(fd):
                    continue
                eof = bits & (HUNG_UP | (HALF_CLOSED if filter == KQ_FILTER_READ else 0))
                flags = KQ_EV_ADD | (KQ_EV_EOF if eof else 0) | (KQ_EV_ONESHOT if knote.oneshot else 0)
                ready.append(kevent(fd, filter, flags, data=amount(fd, filter), udata=knote.udata))
                del self._knotes[fd, filter]
                if not knote.oneshot:
                    self._knotes[fd, filter] = knote  # at the end
        return ready


def identify(fd: int) -> Optional[tuple[int, int]]:
    """What file *fd* is, or None if it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def amount(fd: int, filter: int) -> int:
    """How many bytes can be read; or written, roughly."""
    try:
        if filter == KQ_FILTER_READ:
            (count,) = struct.unpack("i", ioctl(fd, FIONREAD, b"\0" * 4))
            return int(count)
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            with socket.socket(fileno=os.dup(fd)) as sock:
                return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return select.PIPE_BUF
    except OSError:
        return 0
