"""Rounds: each step in turn, and again, so that the machine's drift hits all alike. Bounded in time, can be ended."""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Callable, Optional, Protocol

from rocket.bench.load import LoadError
from rocket.bench.processes import ServerFailed
from rocket.errors import ConfigError

GIVE_UP = 2  # failures in a row, after which a step is left out


@dataclass
class Step:
    """One thing to measure in each round: *run* is called with the round's number.

    Round 0 is the warm-up: its times do not count, because the first run reads files that are not in memory yet, and
    the processor may still be slow.
    """

    name: str
    run: Callable[[int], Optional[str]]  # returns a line about what it found
    seconds: float  # that it will take, roughly
    failures: int = 0


class Watcher(Protocol):
    """What is told of the progress."""

    def begin(self, steps: int) -> None: ...
    def step(self, name: str) -> None: ...
    def found(self, line: str) -> None: ...
    def problem(self, line: str) -> None: ...


@dataclass
class Outcome:
    """How it ended."""

    rounds: int = 0  # that are complete, without the warm-up
    ended: str = ""  # why not all of them are: "interrupted", or "the budget of 60 s was used up"
    problems: list[str] = field(default_factory=list)


def check_times(seconds: float, warmup: float, rounds: int, options: str) -> None:
    """Raise ConfigError if one of them cannot be. *options* are further ones for the server, as in a shell."""
    if not 0 < seconds < math.inf:
        raise ConfigError(f"seconds ({seconds}) must be above 0")
    if not 0 <= warmup < math.inf:
        raise ConfigError(f"warmup ({warmup}) must not be below 0")
    if rounds < 1:
        raise ConfigError(f"rounds ({rounds}) must be above 0")
    try:
        shlex.split(options)
    except ValueError as exc:
        raise ConfigError(f"options ({options}): {exc}") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question after the one of *known* that *name* resembles; nothing if it resembles none."""
    near = get_close_matches(name.lower(), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def estimate(steps: Sequence[Step], rounds: int) -> float:
    """Return the seconds that it will take, roughly."""
    return sum(step.seconds for step in steps) * (rounds + 1)


def affordable(steps: Sequence[Step], rounds: int, budget: Optional[float]) -> int:
    """Return how many rounds, at most *rounds* and at least one, fit into *budget* seconds."""
    if budget is None:
        return rounds
    while rounds > 1 and estimate(steps, rounds) > budget:
        rounds -= 1
    return rounds


def run_rounds(steps: Sequence[Step], rounds: int, watcher: Watcher, *, budget: Optional[float] = None) -> Outcome:
    """Run all *steps* in turn, and that *rounds* times after the warm-up.

    Ctrl-C and SIGTERM end it early, and so does the budget, in seconds; what was found until then stands. A step that
    fails twice in a row is left out from then on.
    """
    outcome = Outcome()
    until = None if budget is None else time.monotonic() + budget
    watcher.begin(len(steps) * (rounds + 1))
    try:
        with stopped_by_signals():
            for number in range(rounds + 1):
                for step in steps:
                    if step.failures >= GIVE_UP:
                        watcher.step(f"left out: {step.name}")
                        continue
                    if until is not None and time.monotonic() + step.seconds > until:
                        outcome.ended = f"the budget of {budget:g} s was used up"
                        return outcome
                    watcher.step(f"{'warm-up' if not number else f'round {number} of {rounds}'}: {step.name}")
                    _try(step, number, watcher, outcome)
                outcome.rounds = number
    except KeyboardInterrupt:
        outcome.ended = "interrupted"
    return outcome


def _try(step: Step, number: int, watcher: Watcher, outcome: Outcome) -> None:
    began = time.monotonic()
    try:
        found = step.run(number)
    except (ServerFailed, LoadError) as exc:
        step.failures += 1
        line = f"{step.name}: {exc}"
        if line not in outcome.problems:
            outcome.problems.append(line)
            watcher.problem(line)
    else:
        step.failures = 0
        if found:
            watcher.found(f"{step.name}: {found}")
    finally:
        step.seconds = max(step.seconds, time.monotonic() - began)  # what the budget must have room for the next time


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt in the block, as SIGINT does: to end what was started.

    Not outside the main thread, which alone may set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # What is ignored stays so: SIGHUP under nohup.
    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
