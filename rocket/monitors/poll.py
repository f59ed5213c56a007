"""PollMonitor: poll(2), every POSIX system."""

import math
import select
from typing import ClassVar, Optional

from rocket.monitors.base import LazyMonitor, reason_not_to_open


class PollMonitor(LazyMonitor):
    """Watch any number of descriptors; the cost of a poll grows with all that are watched."""

    name: ClassVar[str] = "poll"

    def __init__(self) -> None:
        self._poll = select.poll()
        super().__init__()

    @classmethod
    def unavailable(cls) -> Optional[str]:
        return reason_not_to_open(select, "poll")

    def _wait(self, timeout: Optional[float]) -> list[tuple[int, int]]:
        # poll(2) counts whole milliseconds. Up, not down: the last fraction of a wait must not become a busy loop.
        return self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))

    def _watch(self, fd: int, events: int, before: int) -> None:
        self._poll.register(fd, events)

    def _unwatch(self, fd: int, before: int) -> None:
        self._poll.unregister(fd)

    def _release(self) -> None:
        pass  # poll(2) keeps nothing in the kernel
