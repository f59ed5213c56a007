"""One measurement under load: requests/s, latency, CPU; by our generator or by wrk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rocket.bench import wrk
from rocket.bench.load import LoadSpec, run_load
from rocket.bench.measure import Cost

DISTURBED = 0.25  # of a CPU, taken by other programs
RETAKES = 2


@dataclass
class Sample:
    """What one round found. Seconds."""

    rate: float  # answers/s
    p50: float
    p99: float
    cpu: float  # of the server, for each answer
    errors: dict[str, int]
    generator_cpu: float  # of one CPU; nan with wrk
    other_cpu: float  # of one CPU: what neither server nor generator took
    bytes_received: int = 0
    seconds: float = 0.0
    tls: str = ""  # what was agreed on; wrk does not say


def take_once(spec: LoadSpec, pid: int, by_wrk: bool = False) -> Sample:
    """Make the load and measure the server *pid* meanwhile. Raises LoadError."""
    cost = Cost(pid)
    if by_wrk:
        found = wrk.run_wrk(spec, cost.begin, cost.end)
        seconds = found.requests / found.rate if found.rate else spec.seconds
        cpu = _per_request(cost, found.requests)
        none = float("nan")
        return Sample(found.rate, found.p50, found.p99, cpu, found.errors, none, none, seconds=seconds)
    result = run_load(spec, on_begin=cost.begin, on_end=cost.end)
    return Sample(
        rate=result.rate,
        p50=result.quantile(0.5),
        p99=result.quantile(0.99),
        cpu=_per_request(cost, result.requests),
        errors=result.errors,
        generator_cpu=result.generator_cpu,
        other_cpu=max(0.0, cost.host / result.seconds - cost.seconds / result.seconds - result.generator_cpu),
        bytes_received=result.bytes_received,
        seconds=result.seconds,
        tls=result.tls,
    )


def _per_request(cost: Cost, requests: int) -> float:
    """Return the server's CPU time for each of *requests*; nan where the system's clock has not seen any (10 ms)."""
    return cost.seconds / requests if requests and cost.seconds else float("nan")


def take(
    spec: LoadSpec, pid: int, *, by_wrk: bool = False, once: Callable[[LoadSpec, int, bool], Sample] = take_once
) -> Sample:
    """Make the load and measure the server *pid* meanwhile. Raises LoadError.

    Where another program took a quarter of a CPU meanwhile it is done again, at most twice, and the sample that was
    disturbed least is returned.
    """
    best = once(spec, pid, by_wrk)
    for _ in range(RETAKES):
        if not best.other_cpu > DISTURBED:  # nan: nobody knows
            break
        best = min(best, once(spec, pid, by_wrk), key=lambda sample: sample.other_cpu)
    return best


def collect(into: dict[str, list[object]], sample: Sample) -> None:
    """Append what a report keeps of *sample* to its lists."""
    for name in ("rate", "p50", "p99", "cpu", "errors", "generator_cpu", "other_cpu"):
        into.setdefault(name, []).append(getattr(sample, name))
