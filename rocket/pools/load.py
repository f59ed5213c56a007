"""The policy of the whole host: its CPUs, its load average, its memory."""

from __future__ import annotations

import math

from rocket.errors import ConfigError
from rocket.pools.policy import Readings, ScalingPolicy

BUSY_CPU = 0.85  # of what the process can use: more threads would only wait for it
BUSY_HOST = 0.90  # of all CPUs
BUSY_LOAD = 1.5  # tasks per CPU
CALM_TICKS = 5  # questions in a row that find the pool half idle, before it shrinks


class LoadPolicy(ScalingPolicy):
    """Grow by half while work waits and the host is not hot; shrink when half of the workers are idle.

    For hosts that are shared: it leaves the CPU to others. It asks psutil, and once a second only, so a
    step in the load is followed within seconds, not milliseconds; the load average lags a minute, and
    counts what waits for disks. *memory* is the share of memory that is to stay free.
    """

    interval = 1.0
    pulse = None
    needs = frozenset({"host_cpu", "load1", "mem_free"})

    def __init__(self, memory: float = 0.10) -> None:
        if not 0 <= memory < 1:
            raise ConfigError(f"scaling: load needs a share of memory from 0 to below 1, not {memory}")
        self.memory = memory
        self._calm = 0  # questions in a row

    def target(self, readings: Readings) -> int:
        r = readings
        used = r.busy_avg / max(1, r.goal)
        calm = used < 0.5 and not r.queued
        self._calm = self._calm + 1 if calm else 0
        if r.mem_free is not None and r.mem_free < self.memory:
            self.reason = f"{r.mem_free:.0%} of the memory is free"
            return r.goal - max(1, r.goal // 10)
        if r.queued:
            hot = self._hot(r)
            if hot:
                self.reason = hot
                return r.goal
            self.reason = f"{r.queued} wait, {used:.0%} of the workers are busy"
            return r.goal + max(1, math.ceil(r.goal / 2))
        if self._calm >= CALM_TICKS:
            spare = r.goal - max(r.busy_max, math.ceil(2 * r.busy_avg))
            if spare > 0:
                self.reason = f"only {used:.0%} of the workers are busy"
                return r.goal - max(1, spare // 8)
        return r.goal

    @staticmethod
    def _hot(r: Readings) -> str:
        """Return why no thread is to be added; "" if one may be."""
        cap = 1.0 if r.gil else r.cpus
        if r.cpu > BUSY_CPU * cap:
            return f"the workers use {r.cpu:.2f} of {cap:g} cores"
        if r.host_cpu is not None and r.host_cpu > BUSY_HOST:
            return f"the host's CPUs are {r.host_cpu:.0%} busy"
        if r.load1 is not None and r.load1 > BUSY_LOAD * r.cpus:
            return f"the load average is {r.load1:.1f} on {r.cpus:g} CPUs"
        return ""
