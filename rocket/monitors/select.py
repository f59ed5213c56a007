"""SelectMonitor: select(2), every system."""

import errno
import select
from typing import ClassVar, Optional

from rocket.errors import MonitorFull
from rocket.monitors.base import READ, WRITE, LazyMonitor, is_closed


def _fd_setsize() -> int:
    """Return the size of select's bit field. Python does not tell; it refuses what is beyond it.

    1024 on Linux, FreeBSD and OpenBSD, but 256 on NetBSD.
    """
    size = 64
    while size < 1 << 20:
        try:
            select.select([size], [], [], 0)
        except ValueError:
            break
        except OSError:
            pass  # no such descriptor is open, but it would fit
        size *= 2
    return size


class SelectMonitor(LazyMonitor):
    """Watch descriptors below FD_SETSIZE; the cost of a poll grows with all that are watched."""

    name: ClassVar[str] = "select"
    max_fd: ClassVar[Optional[int]] = _fd_setsize() - 1

    def __init__(self) -> None:
        self._readers: set[int] = set()
        self._writers: set[int] = set()
        super().__init__()

    def _wait(self, timeout: Optional[float]) -> list[tuple[int, int]]:
        try:
            readable, writable, _ = select.select(self._readers, self._writers, (), timeout)
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            # Somebody closed a descriptor that is watched. It must not stop the others: report it and be rid of it.
            return [(fd, READ) for fd in self._readers | self._writers if is_closed(fd)]
        if not writable:
            return [(fd, READ) for fd in readable]
        events = dict.fromkeys(readable, READ)
        for fd in writable:
            events[fd] = events.get(fd, 0) | WRITE
        return list(events.items())

    def _watch(self, fd: int, events: int, before: int) -> None:
        if self.max_fd is not None and fd > self.max_fd:
            raise MonitorFull(
                f"select cannot watch descriptor {fd}: FD_SETSIZE is {self.max_fd + 1}; use epoll, kqueue or poll"
            )
        (self._readers.add if events & READ else self._readers.discard)(fd)
        (self._writers.add if events & WRITE else self._writers.discard)(fd)

    def _unwatch(self, fd: int, before: int) -> None:
        self._readers.discard(fd)
        self._writers.discard(fd)

    def _release(self) -> None:
        pass  # select(2) keeps nothing in the kernel
