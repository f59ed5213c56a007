"""What is tried, and what was measured: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

ADAPTIVE = "adaptive"


@dataclass(frozen=True)
class Setting:
    """The options that are tuned."""

    min_threads: int
    max_threads: int
    scaling: str = ADAPTIVE
    monitor: str = "auto"

    def options(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "min_threads": self.min_threads,
            "max_threads": self.max_threads,
            "scaling": self.scaling,
            "monitor": self.monitor,
        }

    def __str__(self) -> str:
        threads = str(self.max_threads) if self.scaling == "fixed" else f"{self.min_threads}:{self.max_threads}"
        return f"{self.scaling} {threads}" + ("" if self.monitor == "auto" else f" {self.monitor}")


def fixed(threads: int, monitor: str = "auto") -> Setting:
    """Return the setting of exactly so many threads."""
    return Setting(threads, threads, "fixed", monitor)


@dataclass(frozen=True)
class Sample:
    """One measurement: so many clients, or so many requests/s, for some seconds. CPU in cores."""

    setting: Setting
    connections: int
    seconds: float
    requests: int  # answered well
    p50: float  # s; nan without requests
    p99: float  # s
    worker_cpu: float  # cores that the workers used
    process_cpu: float  # cores that the whole process used
    busy: float  # workers at work, on average
    turn: float  # s that a worker was at a request, on average
    threads: int  # at the end
    idle_cpu: Optional[float]  # cores of the host that nobody used
    generator_cpu: float  # of a core
    rss: Optional[int] = None  # bytes at the end
    mem_free: Optional[float] = None  # share of the memory
    rate_asked: Optional[float] = None  # requests/s that were to be sent; None: as fast as the answers came
    sent: int = 0  # with a rate: in the same seconds
    unsent: int = 0  # of those that should have been sent
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    @property
    def rate_sent(self) -> Optional[float]:
        """Requests sent per second, if there was a rate."""
        return None if self.rate_asked is None else self.sent / self.seconds

    @property
    def latency(self) -> float:
        """Seconds from request to answer, on average, as the clients have it (Little's law; a closed loop)."""
        return self.connections / self.rate if self.requests else float("inf")

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def others(self, cpus: float) -> Optional[float]:
        """Return the cores that neither the server nor the load has used, of *cpus*; None if it cannot be known."""
        if self.idle_cpu is None:
            return None
        return max(0.0, cpus - self.idle_cpu - self.process_cpu - self.generator_cpu)

    @property
    def cpu_per_request(self) -> float:
        """Seconds of CPU that a request takes of the workers."""
        return self.worker_cpu / self.rate if self.requests else float("nan")


@dataclass(frozen=True)
class Surroundings:
    """What the application may use."""

    cpus: float
    gil: bool
    memory: Optional[int] = None  # bytes
    monitor: str = "epoll"  # that `auto` takes


def ms(seconds: float) -> str:
    """Return *seconds* in milliseconds, with about three digits."""
    value = seconds * 1e3
    return f"{value:.3g} ms" if value < 100 else f"{value:,.0f} ms"
