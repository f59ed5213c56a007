"""The scaling policies' side of the pool: what they are told, and what they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Optional

DEAR = frozenset({"host_cpu", "load1", "mem_free", "swap_free", "rss", "throttled"})
"""The readings that a policy only gets if its `needs` names them."""


INTERVAL = 0.25  # s: between two questions to a policy that does not say
LONGEST_INTERVAL = 60.0  # s


def interval_of(policy: object) -> float:
    """Return the seconds between two questions to *policy*; it need not inherit from `ScalingPolicy`."""
    return _seconds(getattr(policy, "interval", INTERVAL), INTERVAL)


def pulse_of(policy: object) -> float:
    """Return the same while work waits."""
    return _seconds(getattr(policy, "pulse", None), interval_of(policy))


def _seconds(value: object, default: float) -> float:
    """Return *value* if one can wait that long: policies are other people's."""
    return float(value) if isinstance(value, (int, float)) and 0 < value <= LONGEST_INTERVAL else default


@dataclass(frozen=True)
class Readings:
    """What the controller has measured since it asked last.

    Times in seconds, of the monotonic clock; *dt* varies, so formulas must use it. "Busy" is a worker
    that is serving; one that polls or sleeps is not. CPU use is in cores: 0.5 is half of one CPU's time.
    """

    now: float  #: when these were taken
    dt: float  #: since the readings before
    goal: int  #: how many workers may be active now
    threads: int  #: live worker threads
    busy: int  #: workers serving now
    busy_avg: float  #: mean of busy over dt
    busy_max: int  #: peak of busy over dt, as sampled
    stuck: int  #: busy workers whose connection has been served for longer than a second
    queued: int  #: ready connections that wait now
    oldest: float  #: how long the head of the queue has waited; 0.0 if there is none
    arrived: int  #: connections queued over dt
    started: int  #: turns begun over dt
    finished: int  #: turns finished over dt
    wall: float  #: sum of the wall time of those
    lateness: float  #: how late the controller itself woke, on average: it waited for the GIL or a CPU
    gil: bool  #: whether the GIL is on now
    min: int  #: min_threads
    max: int  #: max_threads
    ages: tuple[float, ...] = ()  #: for how long each busy worker has been at its turn by now, longest first
    since_start: float = 0.0  #: since a worker last began or finished a turn
    turn_cpu: float = 0.0  #: CPU time of the turns finished over dt, with their share of polling
    cpu: float = 0.0  #: cores that the worker threads used over dt
    proc_cpu: float = 0.0  #: cores that the whole process used over dt
    cpus: float = 1.0  #: CPUs that the process may use: its affinity, and the quotas of its cgroups
    switch: float = 0.005  #: the GIL's switch interval
    host_cpu: Optional[float] = None  #: dear; share of the host's CPUs in use, 0 to 1
    load1: Optional[float] = None  #: dear; load average over a minute: tasks
    mem_free: Optional[float] = None  #: dear; share of the memory that is free, host's or cgroup's, 0 to 1
    swap_free: Optional[float] = None  #: dear; share of the swap space that is free; 1 if there is none
    rss: Optional[int] = None  #: dear; bytes of memory that the process has resident
    throttled: Optional[float] = None  #: dear; share of the time that a cgroup's quota stopped us, 0 to 1


class ScalingPolicy(ABC):
    """Decide how many workers may be active.

    A policy is arithmetic: readings in, a goal out. The pool clamps the goal to min_threads..max_threads,
    starts and retires threads, and keeps the goal in force when `target` raises or returns no int.
    Only one thread calls it, so its state needs no lock. Rules that depend on time use
    `Readings.now` and `Readings.dt`, never a clock: then the simulator can drive them.
    """

    interval: ClassVar[float] = 0.25
    """Seconds between two calls while nothing waits."""

    pulse: ClassVar[Optional[float]] = 0.010
    """Seconds between two calls while work waits; None: as seldom as otherwise."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """The dear readings (`DEAR`) that it wants; they are refreshed once a second at most, and None if not to be had."""

    reason: str = ""
    """Why the last goal is what it is: half a line for the log."""

    @abstractmethod
    def target(self, readings: Readings) -> int:
        """Return the number of workers that may be active."""
