"""What the pool keeps of each of its threads, and what they add up to."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

if TYPE_CHECKING:
    from rocket.connection import Connection

HAS_CPU_CLOCKS = hasattr(time, "pthread_getcpuclockid")


class Slot:
    """One thread of the pool, and what it is doing. Written by its thread alone, read by the controller."""

    __slots__ = (
        "blocked",
        "clock_id",
        "connection",
        "cpu",
        "cpu_done",
        "finished",
        "idle_since",
        "retired",
        "serve",
        "since",
        "sleep",
        "thread",
        "told_of",
        "wall",
    )

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        self.serve = serve
        self.sleep = threading.Lock()  # held: whoever releases it wakes the thread
        self.sleep.acquire()
        self.thread: Optional[threading.Thread] = None
        self.connection: Optional[Connection] = None  # being served
        self.since = 0.0  # monotonic s: when its turn began
        self.finished = 0  # turns
        self.told_of = 0.0  # monotonic s: *since* of the turn whose stack was logged last; the controller's
        self.wall = 0.0  # s, sum of the finished turns
        self.clock_id: Optional[int] = None  # the thread's CPU clock, once it runs and if the host has one
        self.cpu = 0.0  # s of CPU at the last look; of who looks
        self.cpu_done = 0.0  # s, without the turn that was going on then; the controller's
        self.blocked = False  # its turn does not count as running; written under the pool's lock
        self.idle_since = 0.0  # monotonic s: written under the pool's lock
        self.retired = False  # written under the pool's lock

    def find_cpu_clock(self) -> None:
        """Keep the thread's CPU clock. By the thread itself: pthread_getcpuclockid(3) may crash on one that is gone."""
        if HAS_CPU_CLOCKS:
            self.clock_id = time.pthread_getcpuclockid(threading.get_ident())

    def look_at_cpu(self) -> None:
        """Read that clock: 0.6 us, without letting the GIL go. Any thread."""
        if self.clock_id is not None:
            try:
                self.cpu = time.clock_gettime(self.clock_id)
            except OSError:
                pass  # EINVAL: it has just ended


class Counts(NamedTuple):
    """A moment's figures of the pool."""

    threads: int
    goal: int
    awake: int
    busy: int
    stuck: int
    queued: int
    oldest: float  # s
    finished: int  # turns, since the pool was made
    wall: float  # s, of those and of the turns in progress
    turn_wall: float  # s, of those alone
    last_turn: float  # monotonic s: when one began or ended
