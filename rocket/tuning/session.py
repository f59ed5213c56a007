"""Spend the budget: a sweep of rising concurrency, a comparison in interleaved rounds, rising rates."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Callable, Optional, Protocol

from rocket.tuning import knee as knees
from rocket.tuning.candidates import candidates, needed
from rocket.tuning.limits import MEMORY_LEFT, Limit, diagnose, memory_per_thread
from rocket.tuning.samples import ADAPTIVE, Sample, Setting, Surroundings, ms
from rocket.tuning.verdict import ROUNDS, Verdict, decide, rate, undecided

SWEEP, COMPARE, AGAIN = 0.35, 0.85, 0.93  # of the budget are spent when these are done
SHORTEST, LONGEST = 0.4, 3.0  # s of a measurement
ONE_BY_ONE = 3  # requests of a client that a round of the comparison has time for, if they are slow
OVERHEAD = 0.8  # s: warm-up, and the start of the generator, until it is known how long they take here
MOST_ROUNDS = 9
RATES = (0.5, 0.75, 0.9)  # of what the choice can do
NEIGHBOURS = 0.2  # of the host's CPUs: others that use more spoil the figures
FEW = 10  # requests, of which a measurement says little


class Measure(Protocol):
    """`Driver.measure`."""

    def __call__(
        self,
        setting: Setting,
        connections: int,
        seconds: float,
        rate: Optional[float] = None,
        *,
        afresh: bool = True,
    ) -> Sample: ...


@dataclass
class Outcome:
    """What is known so far. Grows while the session goes on, so that an interrupted one has it, too."""

    now: Setting  # what the options say already
    where: Surroundings
    clients: int  # at most
    sweep: list[Sample] = field(default_factory=list)
    rounds: dict[Setting, list[Sample]] = field(default_factory=dict)
    rates: list[Sample] = field(default_factory=list)
    idle: int = 0  # connections beside
    most_threads: int = 0  # that memory allows
    notes: list[str] = field(default_factory=list)
    complete: bool = False
    seconds: float = 0.0  # that it took

    @property
    def load(self) -> int:
        """The clients to compare with: as many as were asked for, or as the application could bear."""
        return max((s.connections for s in self.sweep if s.failed <= s.requests), default=self.clients)

    @property
    def knee(self) -> Optional[Sample]:
        return knees.knee(self.sweep) if self.sweep else None

    @property
    def knee_is_last(self) -> bool:
        """Whether the knee is at the last point that was measured, so that it may be further on."""
        return bool(self.sweep) and self.knee is self.sweep[-1]

    @property
    def limit(self) -> Optional[Limit]:
        return diagnose(self.sweep, self.where) if self.sweep else None

    @property
    def verdict(self) -> Verdict:
        return decide(self.rounds, self.now)


def least_budget(clients: int) -> tuple[int, str]:
    """Return the fewest seconds that tell something of up to *clients* clients, and what they are for."""
    levels, each = len(knees.levels(clients)), SHORTEST + OVERHEAD
    why = (
        f"{levels} steps up to {clients:,} clients and {ROUNDS} rounds of 2 settings, {each:.1f} s each with their "
        "start, and then the rising rates"
    )
    return math.ceil((levels + 2 * ROUNDS) * each / COMPARE), why


class Session:
    """Measure within *budget* seconds; `run` fills the *outcome*. *tell* gets a line for each step."""

    def __init__(
        self,
        measure: Measure,
        outcome: Outcome,
        *,
        budget: float,
        tell: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._measure = measure
        self.outcome = outcome
        self._budget = budget
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self._overhead = OVERHEAD
        self._shortest = SHORTEST

    def run(self) -> None:
        """Do it all. What it raises, KeyboardInterrupt among it, leaves what is known in the outcome."""
        try:
            self._sweep()
            if any(sample.requests for sample in self.outcome.sweep):
                self._compare()
                self._raise_rates()
                self.outcome.complete = True
        finally:
            self.outcome.seconds = self._clock() - self._began
            self._warn()

    # ------------------------------------------------------------------ the phases

    def _sweep(self) -> None:
        """Rising concurrency with a thread for each client, so that the curve is the application's, not the pool's."""
        outcome, now = self.outcome, self.outcome.now
        ample = replace(now, max_threads=max(now.max_threads, outcome.clients), scaling=ADAPTIVE)
        levels = knees.levels(outcome.clients)
        self._tell(f"rising concurrency, {ample}:")
        for done, clients in enumerate(levels):
            seconds = self._share(SWEEP, len(levels) - done)
            if seconds is None:
                outcome.notes.append(f"the budget of {self._budget:g} s ended the sweep at {levels[done - 1]} clients")
                break
            sample = self._timed(ample, clients, seconds, afresh=done == 0)
            outcome.sweep.append(sample)
            self._tell(f"  {clients:4} client{'s' if clients > 1 else ''}: {_line(sample)}")
            if sample.mem_free is not None and sample.mem_free < MEMORY_LEFT:
                outcome.notes.append(
                    f"the sweep ended at {clients} clients: {sample.mem_free:.0%} of the memory is free"
                )
                break
            if sample.failed > sample.requests:
                outcome.notes.append(f"the sweep ended at {clients} clients: most requests failed")
                break

    def _compare(self) -> None:
        """The settings that may be best, in turn, so that what disturbs one disturbs all."""
        outcome = self.outcome
        limit, bend = outcome.limit, outcome.knee
        assert limit is not None
        assert bend is not None
        outcome.most_threads = affordable(outcome.sweep, outcome.where)
        threads = needed(limit, bend.connections, outcome.load)
        settings = candidates(outcome.now, threads, at_most=outcome.most_threads)
        if outcome.idle:
            others = [name for name in ("auto", "poll") if name != outcome.now.monitor]
            settings[2:2] = [replace(outcome.now, monitor=name) for name in others]
        alone = knees.service_time(outcome.sweep)
        self._shortest = max(SHORTEST, min(2 * LONGEST, ONE_BY_ONE * alone))
        while len(settings) > 2 and (self._share(COMPARE, ROUNDS * len(settings)) or 0.0) <= self._shortest:
            dropped = settings.pop()
            outcome.notes.append(f"not compared, for want of time: {dropped}")
        self._tell(f"comparison with {outcome.load} clients: {', '.join(map(str, settings))}")
        turn = 0
        while turn < ROUNDS or self._again(turn):
            order = settings[turn % len(settings) :] + settings[: turn % len(settings)]
            for done, setting in enumerate(order):
                left = max(1, ROUNDS - turn) * len(settings) - done
                seconds = self._share(COMPARE if turn < ROUNDS else AGAIN, left)
                if seconds is None:
                    return
                sample = self._timed(setting, outcome.load, between_answers(seconds, alone))
                outcome.rounds.setdefault(setting, []).append(sample)
                self._tell(f"  round {turn + 1}, {setting}: {_line(sample)}")
            turn += 1

    def _again(self, turn: int) -> bool:
        """Whether another round may decide what could not be told yet."""
        spent = self._clock() - self._began
        return turn < MOST_ROUNDS and spent < AGAIN * self._budget and undecided(self.outcome.rounds, self.outcome.now)

    def _raise_rates(self) -> None:
        """Requests at a constant rate, whatever the server does: what latency does below the limit."""
        outcome = self.outcome
        choice = outcome.verdict.choice
        if choice not in outcome.rounds:
            return
        most = rate(outcome.rounds[choice])
        if not most:
            return
        for done, share in enumerate(RATES):
            seconds = self._share(1.0, len(RATES) - done)
            if seconds is None:
                outcome.notes.append("the budget ended before the rising rates were done")
                return
            if done == 0:
                self._tell(f"rising rate, {choice}:")
            sample = self._timed(choice, outcome.load, seconds, most * share, afresh=done == 0)
            outcome.rates.append(sample)
            self._tell(f"  {most * share:,.0f}/s due, {sample.rate_sent or 0.0:,.0f}/s sent: {_line(sample)}")

    # ------------------------------------------------------------------ time

    def _share(self, until: float, parts: int) -> Optional[float]:
        """Return the seconds of a measurement if *parts* of them shall end when *until* of the budget is spent."""
        left = until * self._budget - (self._clock() - self._began)
        seconds = left / parts - self._overhead
        whole = self._budget - (self._clock() - self._began) - self._overhead
        if whole < SHORTEST:
            return None
        return max(SHORTEST, min(max(LONGEST, self._shortest), seconds))

    def _timed(
        self, setting: Setting, connections: int, seconds: float, rate: Optional[float] = None, *, afresh: bool = True
    ) -> Sample:
        began = self._clock()
        sample = self._measure(setting, connections, seconds, rate, afresh=afresh)
        self._overhead += (self._clock() - began - seconds - self._overhead) / 4
        return sample

    def _warn(self) -> None:
        outcome = self.outcome
        samples = [*outcome.sweep, *(sample for each in outcome.rounds.values() for sample in each), *outcome.rates]
        if samples and not any(sample.requests or sample.failed for sample in samples):
            longest = max(sample.seconds for sample in samples)
            outcome.notes.append(
                f"no request was answered in any measurement, of up to {longest:.1f} s each: either a request takes "
                "longer, then a longer --budget tells more, or the application hangs once it has had some"
            )
        elif any(sample.requests < FEW for sample in samples):
            outcome.notes.append(f"some measurements had fewer than {FEW} requests: a longer --budget tells more")
        busy = [others for sample in samples for others in [sample.others(outcome.where.cpus)] if others is not None]
        if busy and median(busy) > NEIGHBOURS * outcome.where.cpus:
            outcome.notes.append(
                f"others used {median(busy):.1f} of the host's {outcome.where.cpus:g} CPUs meanwhile: repeat it "
                "on a quiet machine before you trust it"
            )
        failed: dict[str, int] = {}
        for sample in samples:
            for kind, count in sample.errors.items():
                failed[kind] = failed.get(kind, 0) + count
        if failed:
            kinds = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(failed.items()))
            outcome.notes.append(f"requests that failed, and are in no figure ({kinds})")


def between_answers(seconds: float, each: float) -> float:
    """Return *seconds* or less: a time after which no answers are due, if one takes *each* seconds and there are few.

    Clients that begin together, and wait for the same time, are answered together: whether the last of three such heaps
    has just come, or just not, would be a difference of a third between settings that are equal.
    """
    if not FEW * each > seconds >= 1.5 * each:
        return seconds
    return (math.floor(seconds / each - 0.5) + 0.5) * each


def affordable(sweep: Sequence[Sample], where: Surroundings) -> int:
    """Return how many threads the memory allows, by what a thread more has cost in the *sweep*."""
    each, last = memory_per_thread(sweep), max(sweep, key=lambda sample: sample.threads)
    if not each or where.memory is None or last.mem_free is None:
        return 1 << 15
    room = max(0.0, last.mem_free - MEMORY_LEFT) * where.memory
    return max(1, last.threads + int(room / each))


def _line(sample: Sample) -> str:
    return (
        f"{sample.rate:,.0f} requests/s, p99 {ms(sample.p99)}, workers' CPU {sample.worker_cpu:.2f}"
        + (f", {sample.failed:,} failed" if sample.failed else "")
        + (f", {sample.unsent:,} not sent in time" if sample.unsent else "")
    )
