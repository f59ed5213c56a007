"""The classic policy: the length and the age of the queue."""

from __future__ import annotations

from rocket.errors import ConfigError
from rocket.pools.policy import Readings, ScalingPolicy


class QueuePolicy(ScalingPolicy):
    """Grow while ready connections wait, shrink slowly when none does.

    Rocket 1's rule looked at the queue's length alone: a short queue behind stuck workers never
    grew, and the pool shrank as fast as select() returned. Here the age of the queue's head counts,
    growth at most doubles the goal per look, and shrinking stops at the peak in use.

    *age* is how long (s) the head may wait, *cool* how long (s) after growing no thread is given up.
    It knows no CPU: under more CPU-bound work than the host can do it goes to max_threads.
    """

    def __init__(self, age: float = 0.005, cool: float = 5.0) -> None:
        if age < 0 or cool < 0:
            raise ConfigError(f"scaling: queue needs an age and a cool of at least 0 s, not {age} and {cool}")
        self.age = age
        self.cool = cool
        self._may_shrink = 0.0  # monotonic s

    def target(self, readings: Readings) -> int:
        r = readings
        if r.queued and r.busy >= r.goal and r.oldest > self.age:
            self._may_shrink = r.now + self.cool
            self.reason = f"queue {r.queued} long, {r.oldest * 1e3:.0f} ms > {self.age * 1e3:g} ms"
            return r.goal + min(r.queued, r.goal)
        if not r.queued and r.busy_max < r.goal and r.now >= self._may_shrink:
            self._may_shrink = r.now + 1.0
            self.reason = f"at most {r.busy_max} busy, nothing waits"
            return r.goal - max(1, (r.goal - r.busy_max) // 8)
        return r.goal
