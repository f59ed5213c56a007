"""A model of the pool in virtual time, to try policies without traffic. No threads, no clocks: always the same result.

::

    from rocket.pools.simulator import Workload, best_fixed, cpu, io, poisson, simulate

    def request(time, random):  # a tenth waits 200 ms for the database
        return (cpu(0.001), io(0.2)) if random.random() < 0.1 else (cpu(0.001),)

    mine = Workload("mine", lambda: poisson(250, request, seconds=20, seed=1))
    print(simulate(MyPolicy(), mine), best_fixed(mine), sep="\\n")

The model: requests wait in one queue for as many workers as the goal allows. Their CPU phases share one core (the
GIL) or *cpus* of them evenly, less what switching costs; their I/O phases only take time. The policy is asked at
its pace, with exact readings; new threads come a millisecond later. There are no system calls, no hand-overs, and
clients that do not react to how they are served: compare policies by it, do not predict figures.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional, Union

from rocket.pools.fixed import FixedPolicy
from rocket.pools.policy import Readings, ScalingPolicy, interval_of, pulse_of

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)  # what `best_fixed` tries
SPAWN = 0.001  # s: to start threads
SPAWN_EACH = 0.0001  # s: for each of them, on top
SWITCH = 0.005  # s: the GIL's switch interval
STUCK = 1.0  # s: as in the pool
QUIET_LATENESS = 0.0002  # s: what a thread waits for its turn on a quiet host
AS_GOOD = 0.995  # of the highest throughput: what differs less is decided by the latency


class Phase(NamedTuple):
    """A part of a request: it computes, or it waits."""

    computes: bool
    seconds: float


def cpu(seconds: float) -> Phase:
    """Compute for *seconds*."""
    return Phase(True, seconds)


def io(seconds: float) -> Phase:
    """Wait for something outside of the process for *seconds*."""
    return Phase(False, seconds)


Request = Sequence[Phase]
Arrivals = Iterator[tuple[float, Request]]  # in order of time (s)


def poisson(
    rate: Union[float, Callable[[float], float]],
    request: Callable[[float, random.Random], Request],
    *,
    seconds: float,
    seed: int,
) -> Arrivals:
    """Yield requests that come independently of each other, *rate* a second (or *rate(time)*), until *seconds*.

    *request(time, random)* says what one does; its only chance is *random*, so that all policies get the same.
    """
    chance = random.Random(seed)
    now = 0.0
    while True:
        now += chance.expovariate(rate(now) if callable(rate) else rate)
        if now > seconds:
            return
        yield now, request(now, chance)


@dataclass(frozen=True)
class Workload:
    """What is to be served, and on what. *arrivals* returns a new iterator each time it is called."""

    name: str
    arrivals: Callable[[], Arrivals]
    about: str = ""
    seconds: float = 20.0
    gil: bool = True
    cpus: float = 2.0
    hogs: int = 0
    """Threads outside of the pool that compute all the time."""
    contention: float = 0.005
    """What each further thread that computes costs the others, as a share of the throughput."""
    share: float = 1.0
    """Of the CPUs, what the neighbours leave."""


class Sample(NamedTuple):
    """The pool at a moment when the policy was asked."""

    time: float
    goal: int
    busy: int
    queued: int


@dataclass
class Result:
    """What came of it. Latencies count from the arrival to the end, of the requests that were finished."""

    policy: str
    workload: str
    seconds: float
    latencies: list[tuple[float, float]] = field(default_factory=list)  # (time of arrival, s)
    samples: list[Sample] = field(default_factory=list)
    left: int = 0  # still queued at the end
    changes: int = 0  # of the goal
    highest: int = 0  # goal
    thread_seconds: float = 0.0

    @property
    def throughput(self) -> float:
        """Requests finished per second."""
        return len(self.latencies) / self.seconds

    @property
    def threads(self) -> float:
        """How many there were on average."""
        return self.thread_seconds / self.seconds

    def latency(self, share: float, since: float = 0.0) -> float:
        """Return the seconds within which *share* (0.99, say) of those that came after *since* were served."""
        seconds = sorted(latency for time, latency in self.latencies if time >= since)
        return seconds[min(len(seconds) - 1, int(share * len(seconds)))] if seconds else math.inf

    def __str__(self) -> str:
        p50, p99 = self.latency(0.5) * 1e3, self.latency(0.99) * 1e3
        return (
            f"{self.policy}: {self.throughput:.0f}/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
            f"{self.threads:.1f} threads (at most {self.highest}), {self.changes} changes"
        )


def simulate(
    policy: ScalingPolicy,
    workload: Workload,
    *,
    min_threads: int = 2,
    max_threads: int = 128,
    start: Optional[int] = None,
    name: str = "",
) -> Result:
    """Serve *workload* with a pool that *policy* sizes, from *start* (or *min_threads*) threads on.

    A policy keeps what it has learned: take a new one each time. What it raises is passed on, and TypeError if
    it answers with no int: a server would go on with the goal that there was.
    """
    return _Simulation(policy, workload, (min_threads, max_threads), start or min_threads, name).run()


def best_fixed(workload: Workload, sizes: Iterable[int] = SIZES) -> Result:
    """Return the result of the fixed size that serves *workload* best: most throughput, then the lowest p99."""
    results = [
        simulate(FixedPolicy(n), workload, min_threads=n, max_threads=n, name=f"fixed:{n}") for n in sorted(sizes)
    ]
    most = max(result.throughput for result in results)
    return min((r for r in results if r.throughput >= AS_GOOD * most), key=lambda result: result.latency(0.99))


def table(best: Result, results: Sequence[Result]) -> str:
    """Return a text that compares *results* with the *best* fixed size."""
    rows = [("policy", "per s", "of best", "p50 ms", "p99 ms", "of best", "threads", "most", "changes", "left")]
    for result in (best, *results):
        p50, p99 = result.latency(0.5), result.latency(0.99)
        rows.append(
            (
                result.policy,
                f"{result.throughput:.0f}",
                f"{result.throughput / best.throughput:.2f}" if best.latencies else "-",
                f"{p50 * 1e3:.0f}",
                f"{p99 * 1e3:.0f}",
                f"{p99 / best.latency(0.99):.2f}",
                f"{result.threads:.1f}",
                f"{result.highest}",
                f"{result.changes}",
                f"{result.left}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
        for row in rows
    )


class _Job:
    """A request on its way."""

    __slots__ = ("arrived", "burst", "cpu", "phases", "started")

    def __init__(self, arrived: float, phases: Request) -> None:
        self.arrived = arrived
        self.started = 0.0
        self.phases = deque(phases)
        bursts = [seconds for computes, seconds in phases if computes]
        self.cpu = sum(bursts)
        self.burst = self.cpu / len(bursts) if bursts else 0.0  # s: how long it computes at a time


@dataclass
class _Window:
    """What is summed up from one question to the next."""

    since: float
    busy_max: int
    arrived: int = 0
    started: int = 0
    finished: int = 0
    busy: float = 0.0  # s, of all workers
    wall: float = 0.0
    turn_cpu: float = 0.0
    cpu: float = 0.0
    proc_cpu: float = 0.0


class _Simulation:
    """Processor sharing in virtual service time: one heap of CPU phases by the service at which they end.

    While n threads compute, each gets `_rate` of a core, and *_service* grows at that rate: a phase of s seconds that
    begins at service v ends at v + s, whatever comes and goes meanwhile. So an event costs O(log n).
    """

    def __init__(
        self, policy: ScalingPolicy, workload: Workload, bounds: tuple[int, int], start: int, name: str
    ) -> None:
        self.policy = policy
        self.load = workload
        self.least, self.most = bounds
        self.now = 0.0
        self.goal = self.threads = start
        self.busy = 0
        self.queue: deque[_Job] = deque()
        self.serving: set[_Job] = set()
        self.last_turn = 0.0  # s: when one began or ended
        self._service = 0.0
        self._computing: list[tuple[float, int, _Job]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0  # ties are decided by age
        self._asked = 0.0
        self._pulse_due = False
        self._window = _Window(0.0, 0)
        self.result = Result(name or type(policy).__name__, workload.name, workload.seconds, highest=start)

    def run(self) -> Result:
        end = self.load.seconds
        arrivals = self.load.arrivals()
        coming = next(arrivals, None)
        self._at(interval_of(self.policy), self._tick)
        while True:
            computed = self._next_computed()
            event = self._events[0][0] if self._events else math.inf
            arrival = coming[0] if coming else math.inf
            now = min(computed, event, arrival)
            if now > end:
                break
            self._advance(now)
            if coming is not None and now == arrival:
                self._window.arrived += 1
                self.queue.append(_Job(*coming))
                coming = next(arrivals, None)
                self._dispatch()
            elif now == computed:
                self._go_on(heapq.heappop(self._computing)[2])
            else:
                heapq.heappop(self._events)[2]()
        self._advance(end)
        self.result.left = len(self.queue)
        return self.result

    # ------------------------------------------------------------------ time

    def _at(self, time: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, what))

    def _rate(self) -> float:
        """The cores that each thread gets that computes."""
        load = self.load
        n = len(self._computing) + load.hogs
        if not n:
            return 0.0
        efficiency = load.share / (1 + load.contention * (n - 1))
        return efficiency / n if load.gil else min(1.0, load.cpus / n) * efficiency

    def _next_computed(self) -> float:
        if not self._computing:
            return math.inf
        return self.now + max(0.0, self._computing[0][0] - self._service) / self._rate()

    def _advance(self, time: float) -> None:
        dt = time - self.now
        if dt <= 0:
            return
        load, window, n = self.load, self._window, len(self._computing)
        self._service += self._rate() * dt
        if n or load.hogs:
            used = min(1.0 if load.gil else load.cpus, n + load.hogs) * load.share * dt  # switching is CPU, too
            window.proc_cpu += used
            window.cpu += used * n / (n + load.hogs)
        window.busy += self.busy * dt
        self.result.thread_seconds += self.threads * dt
        self.now = time

    # ------------------------------------------------------------------ requests

    def _dispatch(self) -> None:
        window = self._window
        while self.queue and self.busy < min(self.goal, self.threads):
            job = self.queue.popleft()
            self.busy += 1
            self.serving.add(job)
            job.started = self.last_turn = self.now
            window.started += 1
            window.busy_max = max(window.busy_max, self.busy)
            self._begin(job)
        if self.queue and not self._pulse_due:
            self._pulse_due = True
            self._at(max(self.now, self._asked + pulse_of(self.policy)), self._pulse)

    def _begin(self, job: _Job) -> None:
        """Begin the next phase of *job*, or end it."""
        if not job.phases:
            self._finish(job)
            return
        computes, seconds = job.phases[0]
        if computes:
            self._number += 1
            heapq.heappush(self._computing, (self._service + seconds, self._number, job))
        else:
            self._at(self.now + seconds, lambda: self._go_on(job))

    def _go_on(self, job: _Job) -> None:
        job.phases.popleft()
        self._begin(job)

    def _finish(self, job: _Job) -> None:
        window = self._window
        self.busy -= 1
        self.serving.discard(job)
        self.last_turn = self.now
        window.finished += 1
        window.wall += self.now - job.started
        window.turn_cpu += job.cpu
        self.result.latencies.append((job.arrived, self.now - job.arrived))
        self._dispatch()

    # ------------------------------------------------------------------ the controller

    def _tick(self) -> None:
        self._ask()
        self._at(self.now + interval_of(self.policy), self._tick)

    def _pulse(self) -> None:
        self._pulse_due = False
        self._ask()

    def _ask(self) -> None:
        if self.now <= self._asked:
            return
        self._asked = self.now
        self.result.samples.append(Sample(self.now, self.goal, self.busy, len(self.queue)))
        wanted = self.policy.target(self._readings())
        if not isinstance(wanted, int) or isinstance(wanted, bool):
            raise TypeError(f"target() returned {wanted!r}, not an int")
        goal = max(self.least, min(self.most, wanted))
        if goal != self.goal:
            if goal > self.threads:
                self._at(self.now + SPAWN + SPAWN_EACH * (goal - self.threads), lambda: self._spawn(goal))
            else:
                self.threads = max(goal, self.busy)  # at once: the worst case for churn
            self.goal = goal
            self.result.changes += 1
            self.result.highest = max(self.result.highest, goal)
        self._window = _Window(self.now, self.busy)
        self._dispatch()

    def _spawn(self, goal: int) -> None:
        self.threads = max(self.threads, min(goal, self.goal))
        self._dispatch()

    def _readings(self) -> Readings:
        load, window = self.load, self._window
        dt = self.now - window.since
        ages = sorted((self.now - job.started for job in self.serving), reverse=True)
        return Readings(
            now=self.now,
            dt=dt,
            goal=self.goal,
            threads=self.threads,
            busy=self.busy,
            busy_avg=window.busy / dt,
            busy_max=window.busy_max,
            stuck=sum(age > STUCK for age in ages),
            queued=len(self.queue),
            oldest=self.now - self.queue[0].arrived if self.queue else 0.0,
            arrived=window.arrived,
            started=window.started,
            finished=window.finished,
            wall=window.wall,
            lateness=self._lateness(),
            gil=load.gil,
            min=self.least,
            max=self.most,
            ages=tuple(ages),
            since_start=self.now - self.last_turn,
            turn_cpu=window.turn_cpu,
            cpu=window.cpu / dt,
            proc_cpu=window.proc_cpu / dt,
            cpus=load.cpus,
            switch=SWITCH,
            host_cpu=min(1.0, window.proc_cpu / dt / load.cpus + 1 - load.share),
            load1=0.0,
            mem_free=1.0,
            swap_free=1.0,
            throttled=0.0,
        )

    def _lateness(self) -> float:
        """How late the controller wakes: who computes keeps the GIL for a burst, or for the switch interval."""
        load = self.load
        n = len(self._computing)
        if not n and not load.hogs:
            return QUIET_LATENESS
        if not load.gil:
            return QUIET_LATENESS + 0.001 * max(0.0, n + load.hogs - load.cpus * load.share)
        burst = self._computing[0][2].burst if self._computing else 0.0
        return (min(SWITCH, max(QUIET_LATENESS, burst)) * n + SWITCH * load.hogs) / load.share
