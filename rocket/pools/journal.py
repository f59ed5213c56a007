"""What the log says about the pool's size: each decision with its reason, but no more lines than one can read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from rocket.pools.policy import Readings
    from rocket.pools.slot import Counts

log = logging.getLogger("rocket.pool")

PAUSE = 1.0  # s: between two lines about changes; what comes in between is told in one
AGE = 1.0  # s: what the head of the queue waits before the pool counts as too small
PINNED = 5.0  # s: that this goes on, before it is told
REPEAT = 60.0  # s
STACKS = 5  # that are shown


class Journal:
    """Tell what was decided. Not thread-safe: the controller's."""

    def __init__(self) -> None:
        self._told_at = -PAUSE  # monotonic s
        self._from: Optional[int] = None  # the goal before the changes that are not told yet
        self._steps = 0
        self._last: Optional[tuple[Readings, int, str]] = None
        self._pinned_since: Optional[float] = None
        self._pinned_told_at = -REPEAT

    @property
    def pending(self) -> bool:
        """Whether there is something that `tend` will tell."""
        return self._last is not None

    def changed(self, readings: Readings, goal: int, reason: str) -> None:
        """Note that the goal has become *goal*."""
        if self._from is None:
            self._from = readings.goal
        self._steps += 1
        self._last = readings, goal, reason
        self.tend(readings.now)

    def tend(self, now: float) -> None:
        """Tell of the changes, if that was long enough ago."""
        if self._last is None or now - self._told_at < PAUSE:
            return
        readings, goal, reason = self._last
        steps = f" in {self._steps} steps" if self._steps > 1 else ""
        log.info("pool %s -> %s%s: %s (%s)", self._from, goal, steps, reason, describe(readings))
        self._told_at, self._from, self._last, self._steps = now, None, None, 0

    def look_at(self, counts: Counts, most: int, now: float, reason: str, stacks: Callable[[], list[str]]) -> None:
        """Warn when work waits and nobody is free to take it for long: the pool may not grow, or will not."""
        if not counts.queued or counts.oldest < AGE or counts.busy < counts.goal:
            self._pinned_since = None
            return
        if self._pinned_since is None:
            self._pinned_since = now
        if now - self._pinned_since < PINNED or now - self._pinned_told_at < REPEAT:
            return
        self._pinned_told_at = now
        if counts.goal < most:
            log.info(
                "pool stays at %s of %s: %s; %s requests wait, the first for %.1f s",
                counts.goal, most, reason or "policy", counts.queued, counts.oldest,
            )  # fmt: skip
            return
        found = stacks()
        log.warning(
            "all %s threads (max_threads) are busy, and %s requests wait, the first for %.1f s; they are at%s:\n%s",
            most, counts.queued, counts.oldest,
            f" ({STACKS} of {len(found)})" if len(found) > STACKS else "",
            "\n".join(found[:STACKS]) or "nothing that takes long",
        )  # fmt: skip


def describe(r: Readings) -> str:
    """Return the readings that decisions follow from, for the log."""
    turn = f", turns of {r.wall / r.finished * 1e3:.1f} ms" if r.finished else ""
    stuck = f", {r.stuck} stuck" if r.stuck else ""
    return (
        f"busy {r.busy} of {r.goal}{stuck}, queued {r.queued}, oldest {r.oldest * 1e3:.0f} ms{turn}, "
        f"workers' CPU {r.cpu:.2f} of {1 if r.gil else r.cpus:g} cores, late {r.lateness * 1e3:.1f} ms"
    )
