"""KqueueMonitor: kqueue(2), the BSDs and macOS."""

import select
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar, Optional, Protocol, cast

from rocket.monitors.base import READ, WRITE, LazyMonitor, reason_not_to_open

MAX_EVENTS = 256  # a poll; those beyond wait for the next one


class Kevent(Protocol):
    """An event, or the change of a filter."""

    ident: int
    filter: int


class Kqueue(Protocol):
    """A kernel event queue."""

    def control(
        self, changelist: Optional[Iterable[Kevent]], maxevents: int, timeout: Optional[float] = None, /
    ) -> Sequence[Kevent]: ...

    def close(self) -> None: ...


class KqueueModule(Protocol):
    """What this file needs of Python's `select`, which has it on the BSDs only."""

    KQ_FILTER_READ: int
    KQ_FILTER_WRITE: int
    KQ_EV_ADD: int
    KQ_EV_DELETE: int

    def kqueue(self) -> Kqueue: ...

    def kevent(self, ident: int, filter: int = ..., flags: int = ..., /) -> Kevent: ...


# cast: the type checker's host has no kqueue, perhaps.
SELECT = cast(KqueueModule, select)


class KqueueMonitor(LazyMonitor):
    """Watch any number of descriptors; the cost of a poll grows with those that are ready only."""

    name: ClassVar[str] = "kqueue"
    concurrent: ClassVar[bool] = True

    def __init__(self, *, module: KqueueModule = SELECT) -> None:
        self._module = module
        self._filters = {READ: module.KQ_FILTER_READ, WRITE: module.KQ_FILTER_WRITE}
        self._read_filter = module.KQ_FILTER_READ
        self._kqueue = module.kqueue()  # close-on-exec, and not inherited by fork
        super().__init__()

    @classmethod
    def unavailable(cls) -> Optional[str]:
        return reason_not_to_open(select, "kqueue")

    def _wait(self, timeout: Optional[float]) -> Collection[tuple[int, int]]:
        events: dict[int, int] = {}  # reading and writing are filters of their own, and come one by one
        for kevent in self._kqueue.control(None, MAX_EVENTS, timeout):
            fd = kevent.ident
            events[fd] = events.get(fd, 0) | (READ if kevent.filter == self._read_filter else WRITE)
        return events.items()

    def _watch(self, fd: int, events: int, before: int) -> None:
        # Also what was there before: adding twice is harmless, and closing the descriptor took it away.
        self._change(fd, events, self._module.KQ_EV_ADD)
        self._unwatch(fd, before & ~events)

    def _unwatch(self, fd: int, before: int) -> None:
        try:
            self._change(fd, before, self._module.KQ_EV_DELETE)
        except FileNotFoundError:
            pass  # it went when the descriptor was closed

    def _change(self, fd: int, events: int, flags: int) -> None:
        for event, filter in self._filters.items():
            if events & event:
                # One by one: after an error the kernel does not look at the rest.
                self._kqueue.control([self._module.kevent(fd, filter, flags)], 0, 0)

    def _release(self) -> None:
        self._kqueue.close()
