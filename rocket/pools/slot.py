"""A pool's threads: what is kept of each, and what they add up to."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

if TYPE_CHECKING:
    from collections import deque

    from rocket.connection import Connection

log = logging.getLogger("rocket.pool")

STUCK = 1.0  # s: a turn that takes longer counts as stuck
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
    ages: tuple[float, ...] = ()  # s: how long each turn in progress takes by now, longest first


class Past(NamedTuple):
    """What the threads that are gone have done."""

    finished: int  # turns
    wall: float  # s
    cpu: float  # s


class Crew(NamedTuple):
    """The threads of a pool, and what those have done that are gone. Replaced, never changed: any thread may ask it."""

    slots: tuple[Slot, ...] = ()
    past: Past = Past(0, 0.0, 0.0)

    def joined_by(self, slot: Slot) -> Crew:
        return Crew((*self.slots, slot), self.past)

    def left_by(self, slot: Slot) -> Crew:
        if slot not in self.slots:
            return self  # an exception set from outside came just when it had left
        past = self.past
        return Crew(
            tuple(other for other in self.slots if other is not slot),
            Past(past.finished + slot.finished, past.wall + slot.wall, past.cpu + slot.cpu),
        )

    def counts(self, queue: deque[Connection], now: float, *, goal: int, awake: int) -> Counts:
        """Add up what the threads are doing at *now* (monotonic s)."""
        finished, wall = self.past.finished, self.past.wall
        ages = []
        last_turn = 0.0
        for slot in self.slots:
            finished += slot.finished
            wall += slot.wall
            since = slot.since
            last_turn = max(last_turn, since)
            if slot.connection is not None:
                ages.append(max(0.0, now - since))
        try:
            oldest = max(0.0, now - queue[0].since)
        except IndexError:
            oldest = 0.0
        ages.sort(reverse=True)
        return Counts(
            threads=len(self.slots),
            goal=goal,
            awake=awake,
            busy=len(ages),
            stuck=sum(age > STUCK for age in ages),
            queued=len(queue),
            oldest=oldest,
            finished=finished,
            wall=wall + sum(ages),
            turn_wall=wall,
            last_turn=last_turn,
            ages=tuple(ages),
        )

    def cpu_seconds(self) -> Optional[float]:
        """Return the seconds of CPU that all have used so far; None if the host has no CPU clocks of threads."""
        used = self.past.cpu
        for slot in self.slots:
            slot.look_at_cpu()
            used += slot.cpu
        return used if HAS_CPU_CLOCKS else None

    def cpu_times(self, since: float) -> Optional[tuple[float, float]]:
        """Return the seconds of CPU that all have used so far, and those of finished turns. The controller's.

        The second leaves out what turns that began before *since* (monotonic s) and still go on have used from then on.
        None if the host has no CPU clocks of threads.
        """
        used = done = self.past.cpu
        for slot in self.slots:
            began = slot.since
            slot.look_at_cpu()
            if slot.connection is None or began >= since:
                slot.cpu_done = slot.cpu
            used += slot.cpu
            done += slot.cpu_done
        return (used, done) if HAS_CPU_CLOCKS else None

    def stacks(self, now: float, longer_than: float, *, once: bool) -> list[str]:
        """Return, for each thread that is at its turn for *longer_than* s, its name, request, time and stack.

        *now* is monotonic s. With *once*, leave out the turns that were told of before.
        """
        frames = sys._current_frames()
        found = []
        for slot in self.slots:
            connection, thread = slot.connection, slot.thread
            if connection is None or thread is None or now - slot.since < longer_than:
                continue
            if once and slot.told_of == slot.since:
                continue
            slot.told_of = slot.since
            frame = frames.get(thread.ident or -1)
            where = "".join(traceback.format_stack(frame)) if frame is not None else ""
            found.append(f"{thread.name} serves {connection!r} for {now - slot.since:.1f} s, at\n{where}")
        return found


def call_hook(hook: Optional[Callable[[], object]]) -> None:
    """Call a hook of the application's; what it raises, SystemExit too, must not cost a thread, and then the next."""
    if hook is None:
        return
    try:
        hook()
    except BaseException:
        log.exception("the hook %r failed", hook)
