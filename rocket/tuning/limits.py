"""What limits the throughput, and by which evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from rocket.tuning.knee import at_a_time, plateau, service_time
from rocket.tuning.samples import Sample, Surroundings, ms

GENERATOR, GIL, CPU, WAITING, OWN, MEMORY, UNKNOWN = (
    "generator", "gil", "cpu", "waiting", "own", "memory", "unknown",
)  # fmt: skip

FULL = 0.85  # of the CPU that the workers can use. On a shared host nobody gets more of it for long
GENERATOR_FULL = 0.95  # of a core
NATIVE = 1.15  # cores under a GIL: code that lets it go computes, too
SQUEEZED = 0.4  # of that CPU: from here on neighbours may be what keeps it from the rest
HARDLY = 0.1  # of that CPU: who uses less is not kept waiting by neighbours, however many
CPU_LEFT = 0.1  # of the host: less is none
MEMORY_LEFT = 0.1  # of the memory
IN_SERVICE = 0.7  # of the clients: so many have their request served, not waiting for another one's

NAMES = {
    GENERATOR: "the load generator",
    GIL: "the GIL",
    CPU: "the CPU",
    WAITING: "waiting (for a database, a service, a disk)",
    OWN: "a lock or pool of the application, or what is behind it",
    MEMORY: "the memory",
    UNKNOWN: "not to be told",
}


@dataclass(frozen=True)
class Limit:
    """What limits, the sentences that say why it is thought so, and how many requests are at work at a time."""

    kind: str
    evidence: tuple[str, ...]
    at_a_time: float

    @property
    def name(self) -> str:
        return NAMES[self.kind]

    @property
    def computes(self) -> bool:
        """Whether it is a kind that more threads do not help."""
        return self.kind in (GIL, CPU)


def diagnose(sweep: Sequence[Sample], where: Surroundings) -> Limit:
    """Return the limit of a *sweep* of rising concurrency, with threads for all clients."""
    top = plateau(sweep)
    count = at_a_time(sweep)
    alone = service_time(sweep)
    cores = 1.0 if where.gil and top.worker_cpu <= NATIVE else where.cpus
    share = top.worker_cpu / cores
    could = "1 core" if cores == 1 else f"{cores:g} cores"
    used = f"at {top.rate:,.0f} requests/s the workers use {top.worker_cpu:.2f}"
    rest = "" if top.idle_cpu is None else f"; {top.idle_cpu:.1f} of the host's {where.cpus:g} were idle"
    each = f"a request takes {ms(alone)}, {ms(top.cpu_per_request)} of it CPU"

    def found(kind: str, *evidence: str) -> Limit:
        return Limit(kind, evidence, count)

    if not top.requests:
        return found(UNKNOWN, "no request was answered")
    if top.generator_cpu >= GENERATOR_FULL and share < FULL:
        return found(
            GENERATOR,
            f"it uses {top.generator_cpu:.2f} of a core at {top.rate:,.0f} requests/s, the workers only "
            f"{top.worker_cpu:.2f}: the server can do more than can be measured from here",
        )
    if share >= FULL:
        if cores == 1.0 and where.gil and where.cpus > 1:
            return found(
                GIL,
                f"{used} of the 1 core that a process with a GIL can use{rest}",
                each,
                "threads cannot change that; further processes would",
            )
        return found(CPU, f"{used} of {could}", each)
    short = _memory_is_short(sweep)
    if short:
        return found(MEMORY, short)
    full = top.idle_cpu is not None and top.idle_cpu < CPU_LEFT * where.cpus
    squeezed = (
        f"{used} of {could}, and only {top.idle_cpu or 0.0:.2f} of the host's {where.cpus:g} are idle: others take the "
        f"rest, the load generator {top.generator_cpu:.2f} of it",
        each,
    )
    if full and share >= SQUEEZED:
        return found(CPU, *squeezed)
    most = max(sample.connections for sample in sweep)
    if count >= IN_SERVICE * most:
        return found(
            WAITING,
            f"with {most} clients and a thread for each, {count:.0f} requests are at work at a time: none waits for "
            "another",
            f"{each}; the rest it waits for something else",
            f"{used} of {could}; throughput grows with the threads",
        )
    if full and share >= HARDLY:  # a lock it may be, too; but that could be told on a host with CPU to spare only
        return found(CPU, *squeezed)
    return found(
        OWN,
        f"throughput stops at {top.rate:,.0f} requests/s, though the workers use {top.worker_cpu:.2f} of the {could} "
        "that they could, and there is a thread for each client",
        f"{each}; by Little's law {top.rate:,.0f}/s x {ms(alone)} are about {count:.0f} at a time",
    )


def _memory_is_short(sweep: Sequence[Sample]) -> str:
    last = max(sweep, key=lambda sample: sample.connections)
    if last.mem_free is None or last.mem_free >= MEMORY_LEFT:
        return ""
    grown = memory_per_thread(sweep)
    each = "" if grown is None else f"; a thread costs {grown / (1 << 20):.1f} MiB"
    return f"only {last.mem_free:.0%} of the memory is free with {last.threads} threads{each}"


def memory_per_thread(sweep: Sequence[Sample]) -> Optional[float]:
    """Return the bytes that a thread more has cost, between the fewest and the most threads of the *sweep*."""
    known = [sample for sample in sweep if sample.rss is not None]
    if not known:
        return None
    few, many = min(known, key=lambda s: s.threads), max(known, key=lambda s: s.threads)
    if many.threads - few.threads < 4:
        return None
    assert few.rss is not None
    assert many.rss is not None
    return max(0.0, (many.rss - few.rss) / (many.threads - few.threads))
