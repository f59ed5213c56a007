"""The policy of a fixed number of threads."""

from __future__ import annotations

from typing import Optional

from rocket.errors import ConfigError
from rocket.pools.policy import Readings, ScalingPolicy


class FixedPolicy(ScalingPolicy):
    """Always *n* workers; without *n*, max_threads. The control group of every comparison."""

    pulse = None

    def __init__(self, n: Optional[int] = None) -> None:
        if n is not None and n < 1:
            raise ConfigError(f"scaling: fixed needs at least 1 thread, not {n}")
        self.n = n
        self.reason = "fixed"

    def target(self, readings: Readings) -> int:
        return readings.max if self.n is None else self.n
