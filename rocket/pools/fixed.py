"""The policy of a fixed number of threads."""

from __future__ import annotations

from typing import Optional

from rocket.errors import ConfigError
from rocket.pools.policy import Readings, ScalingPolicy


class FixedPolicy(ScalingPolicy):
    """Always *n* workers; without *n*, max_threads. The control group of every comparison."""

    pulse = None

    def __init__(self, n: Optional[int] = None) -> None:
        if n is not None and (not isinstance(n, int) or n < 1):
            raise ConfigError(f"scaling: fixed needs a whole number of threads, at least 1, not {n}")
        self.n = n
        self.reason = "fixed"

    def target(self, readings: Readings) -> int:
        return readings.max if self.n is None else self.n
