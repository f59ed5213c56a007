"""Whether threads that compute take the GIL from those that serve.

Two things must be seen. The controller wakes late by half a switch interval or more: somebody keeps the GIL. And a
fifth of what the process has of the CPU is used by turns that go on and on, or by threads that are not the pool's.
Native code that computes without the GIL makes nobody late, as long as there are CPUs for all; short turns do not go
on, however many fill the CPU. To be wrong costs a tenth to a quarter of the requests/s (decisions/0010).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Callable

from rocket.gil import gil_enabled
from rocket.pools.slot import HAS_CPU_CLOCKS

if TYPE_CHECKING:
    from rocket.pools.slot import Crew, Slot

SHARE = 0.2  # of the CPU that the process got: where neighbours rob it that is less than a core
LEAST = 0.1  # of a core
LATE = 0.5  # switch intervals,
LONGEST_INTERVAL = 0.005  # s: of at most this, CPython's own: a longer one says how late others may be, not who it is
SHORTEST_GAP, LONGEST_GAP = 0.03, 0.5  # s between two looks: a rush of less is none; more says nothing of now
LASTING = 0.5  # s that it is taken to go on for once it was seen


class Contention:
    """Tell when threads that compute begin, and cease, to take the GIL: *on_change* gets True, or False.

    Not thread-safe: the controller's, which looks again and again while work may be waiting.
    """

    def __init__(
        self,
        on_change: Callable[[bool], None],
        *,
        process_clock: Callable[[], float] = time.process_time,
        thread_clock: Callable[[], float] = time.thread_time,
        gil: Callable[[], bool] = gil_enabled,
    ) -> None:
        self.present = False
        self._on_change = on_change
        self._process_clock = process_clock
        self._thread_clock = thread_clock
        self._gil = gil
        self._looked_at = 0.0  # monotonic s
        self._seen_at = 0.0  # monotonic s
        self._process = 0.0  # s of CPU at the last look, of all threads
        self._outside = 0.0  # s, without the workers and this thread
        self._turns: dict[Slot, tuple[float, float]] = {}  # slot -> when its turn began, its CPU at the last look

    def look(self, now: float, late: float, crew: Crew) -> None:
        """Look at *crew*; *late* is how late (s) this thread has just woken."""
        if not self.present and late < LATE * min(sys.getswitchinterval(), LONGEST_INTERVAL):
            return  # usually
        if not HAS_CPU_CLOCKS:
            return
        dt = now - self._looked_at
        if dt < SHORTEST_GAP:
            return
        self._looked_at = now
        lasting, process = self._look_at_cpu(crew)
        if dt > LONGEST_GAP:
            return  # it is from the next look on that something can be said
        if lasting > max(SHARE * process, LEAST * dt) and self._gil():
            self._seen_at = now
            self._become(True)
        elif now - self._seen_at > LASTING:
            self._become(False)

    def _become(self, present: bool) -> None:
        if present is not self.present:
            self._on_change(present)
            self.present = present

    def _look_at_cpu(self, crew: Crew) -> tuple[float, float]:
        """Return seconds of CPU since the last look: of outside threads and turns that went on since then; of all."""
        lasting, workers, before = 0.0, crew.past.cpu, self._turns
        turns: dict[Slot, tuple[float, float]] = {}
        for slot in crew.slots:
            began = slot.since
            slot.look_at_cpu()
            workers += slot.cpu
            if slot.connection is not None:
                turns[slot] = began, slot.cpu
                if slot in before and before[slot][0] == began:
                    lasting += slot.cpu - before[slot][1]
        self._turns = turns
        process = self._process_clock()
        outside = process - workers - self._thread_clock()
        lasting += max(0.0, outside - self._outside)
        used = process - self._process
        self._process, self._outside = process, outside
        return lasting, used
