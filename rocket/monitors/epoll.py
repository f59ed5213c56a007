"""EpollMonitor: epoll(7), Linux."""

import select
from typing import ClassVar, Optional

from rocket import gil
from rocket.monitors.base import LazyMonitor, reason_not_to_open


class EpollMonitor(LazyMonitor):
    """Watch any number of descriptors; the cost of a poll grows with those that are ready only.

    Disarm before closing: the kernel forgets a closed descriptor by itself only if no other
    process has inherited it, and else reports it for ever.
    """

    name: ClassVar[str] = "epoll"
    concurrent: ClassVar[bool] = True

    def __init__(self) -> None:
        self._epoll = select.epoll()  # close-on-exec
        self._kept: Optional[gil.Epoll] = None  # the same, by calls that keep the GIL
        super().__init__()

    @classmethod
    def unavailable(cls) -> Optional[str]:
        return reason_not_to_open(select, "epoll")

    def _wait(self, timeout: Optional[float]) -> list[tuple[int, int]]:
        if self._keeps_gil:
            ready = self._keeping().look()
            if ready or timeout == 0:
                return ready
        return self._epoll.poll(timeout)

    def _watch(self, fd: int, events: int, before: int) -> None:
        epoll = self._keeping() if self._keeps_gil else self._epoll
        # Both errors mean that the number was closed, and used again, without a disarm.
        if before:
            try:
                epoll.modify(fd, events)
            except FileNotFoundError:
                epoll.register(fd, events)
        else:
            try:
                epoll.register(fd, events)
            except FileExistsError:
                epoll.modify(fd, events)

    def _unwatch(self, fd: int, before: int) -> None:
        (self._keeping() if self._keeps_gil else self._epoll).unregister(fd)

    def _keeping(self) -> gil.Epoll:
        kept = self._kept
        if kept is None:
            kept = self._kept = gil.Epoll(self._epoll)
        return kept

    def _release(self) -> None:
        self._epoll.close()
