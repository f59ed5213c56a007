"""The policy of stalls: one thread more when nothing moves."""

from __future__ import annotations

import math

from rocket.errors import ConfigError
from rocket.pools.policy import Readings, ScalingPolicy

FULL = 0.9  # of what the workers can use of the CPUs
FIRST_PAUSE = 0.025  # s: after a thread was added, per CPU's worth of them
LONGEST_PAUSE = 0.25  # s


class StallPolicy(ScalingPolicy):
    """Add a thread when work waits and none was begun for *limit* seconds; give one back after *idle* seconds.

    The rule of MariaDB's thread pool and .NET's gate thread, joined with the age of the queue's head: a
    trickle of short requests would hide the long wait of the others. The pause between two additions
    grows with the pool, and longer still when the CPU is full, so it is safe under overload. A step in the
    load is followed slowly, in seconds.
    """

    pulse = 0.025

    def __init__(self, limit: float = 0.05, idle: float = 20.0) -> None:
        if limit <= 0 or idle <= 0:
            raise ConfigError(f"scaling: stall needs a limit and an idle of more than 0 s, not {limit} and {idle}")
        self.limit = limit
        self.idle = idle
        self._added = -math.inf  # monotonic s
        self._needed = -math.inf  # monotonic s: when all were busy

    def target(self, readings: Readings) -> int:
        r = readings
        if self._needed == -math.inf or r.busy_max >= r.goal:
            self._needed = r.now
        if r.queued and r.busy >= r.goal and (r.since_start > self.limit or r.oldest > 4 * self.limit):
            if r.now - self._added >= self._pause(r):
                self._added = self._needed = r.now
                self.reason = f"{r.queued} wait, the first for {r.oldest * 1e3:.0f} ms"
                return r.goal + 1
        elif not r.queued and r.now - self._needed >= self.idle:
            self._needed = r.now - self.idle + 1.0
            self.reason = f"not all were busy for {self.idle:g} s"
            return r.goal - 1
        return r.goal

    def _pause(self, r: Readings) -> float:
        """Seconds from one addition to the next."""
        cap = 1 if r.gil else math.ceil(r.cpus)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * (1 + (r.goal - r.min) / max(1, cap)))
        return max(pause, self.limit * r.goal) if r.cpu > FULL * cap else pause
