"""The monitors beside each other: Rocket with each of them, over idle connections times active ones.

Each round starts a server anew for each monitor and number of idle connections, so that rounds are independent: what
the place in memory or the order of accepting did to one of them, it did not do to the next. Then:

* a load of 64 connections, to be warm, and the resident memory before
* the idle connections, which come from processes of their own, and the resident memory after
* for each number of active connections, closed loop: requests/s, p50, p99, CPU time of the server for each request
* *wake latency*: from the call of send until the answer has been read, on one connection that sends 200 requests/s
  at constant intervals: in between, the server sleeps in its monitor's call. It has in it the system's waking of the
  server, the call's return, Rocket, a trivial application and the way back.

In the warm-up round the system calls are counted, and no times taken.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from rocket.bench import wrk
from rocket.bench.crowd import Crowd
from rocket.bench.limits import raise_open_files
from rocket.bench.load import LoadSpec, run_load
from rocket.bench.measure import call_counter, counted_calls, machine, resident_bytes
from rocket.bench.processes import Served, rocket_command
from rocket.bench.report import FORMAT, Report
from rocket.bench.rounds import Step, Watcher, affordable, check_times, did_you_mean, estimate, run_rounds
from rocket.bench.sample import collect, take
from rocket.errors import ConfigError
from rocket.monitors import MONITORS, available

IDLE = (0, 100, 500, 1000, 5000, 10_000)
ACTIVE = (1, 16, 64)
WARM = 64  # connections of the load before anything is measured
WARM_SECONDS = 0.3
WAKE_RATE = 200.0  # requests/s: 5 ms apart, for a server that needs 0.1 ms
SERVER_SPARE = 100  # descriptors that a server has for itself, or keeps free
START_SECONDS = 0.8  # what a server, the warm load and their ends take, roughly
LOAD_SECONDS = 0.15  # what the start of a generator's process takes, roughly
IDLE_SECONDS = 0.00012  # what an idle connection takes to connect, roughly


@dataclass(frozen=True)
class Plan:
    """What to measure. Raises ConfigError for what cannot be."""

    monitors: tuple[str, ...] = ()  # none: all that the host has
    idle: tuple[int, ...] = IDLE
    active: tuple[int, ...] = ACTIVE
    seconds: float = 0.5  # of each load
    warmup: float = 0.15  # before them
    rounds: int = 5
    options: str = ""  # further ones for the server
    wrk: bool = False

    def __post_init__(self) -> None:
        here = available()
        for name in self.monitors:
            if ":" not in name and here.get(name, "there is no such monitor") is not None:
                usable = ", ".join(each for each, reason in here.items() if reason is None)
                reason = here.get(name, f"there is no such monitor{did_you_mean(name, here)}")
                raise ConfigError(f"monitor {name!r}: {reason}; this host has {usable}")
        for what, numbers, least in (("idle", self.idle, 0), ("active", self.active, 1)):
            if not numbers:
                raise ConfigError(f"{what} is empty")
            for number in numbers:
                if number < least:
                    raise ConfigError(f"{what} ({number}) must be at least {least}")
        check_times(self.seconds, self.warmup, self.rounds, self.options)
        wrk.check(self.wrk)

    @property
    def names(self) -> tuple[str, ...]:
        """The monitors to be measured."""
        return self.monitors or tuple(name for name, reason in available().items() if reason is None)


def _why(name: str, limit: int) -> str:
    """Return why the server takes no more than *limit* connections."""
    last = MONITORS[name].max_fd if name in MONITORS else None
    return f"ends at {last + 1:,} descriptors" if last is not None else f"at most {limit:,} connections"


class Comparison:
    """Measures a plan. `steps` says what there is to do, `run` does it and returns the report."""

    def __init__(self, plan: Plan, *, command: str = "", python: str = sys.executable) -> None:
        self.plan = plan
        self._python = python
        self._calls_by = call_counter()
        self._cells: dict[tuple[str, int, int], dict[str, Any]] = {}
        self._servers: dict[tuple[str, int], dict[str, Any]] = {}
        self._left_out: list[dict[str, Any]] = []
        self._command = command
        beside = max(*plan.active, WARM) + SERVER_SPARE
        reasons = {idle: raise_open_files(idle + beside) for idle in plan.idle}
        self.refused = [f"{idle:,} idle connections are left out: {why}" for idle, why in reasons.items() if why]
        self.steps = [self._step(name, idle) for idle in plan.idle if not reasons[idle] for name in plan.names]

    def _step(self, name: str, idle: int) -> Step:
        load = self.plan.warmup + self.plan.seconds + LOAD_SECONDS
        seconds = START_SECONDS + idle * IDLE_SECONDS + (len(self.plan.active) + 1) * load
        return Step(f"{name}, {idle:,} idle", lambda number: self._measure(name, idle, number), seconds)

    def seconds(self, rounds: int) -> float:
        """Return how long *rounds* will take, roughly."""
        return estimate(self.steps, rounds)

    def run(self, watcher: Watcher, *, budget: Optional[float] = None) -> Report:
        """Measure, and return what was found, also when it was interrupted."""
        facts = machine()
        rounds = affordable(self.steps, self.plan.rounds, budget)
        outcome = run_rounds(self.steps, rounds, watcher, budget=budget)
        return {
            "kind": "monitors",
            "format": FORMAT,
            "command": self._command,
            "machine": facts,
            "plan": {**asdict(self.plan), "monitors": self.plan.names},
            "generator": wrk.version() if self.plan.wrk else "rocket.bench.load",
            "calls_by": self._calls_by,
            "rounds": outcome.rounds,
            "ended": outcome.ended,
            "problems": [*self.refused, *outcome.problems],
            "left_out": self._left_out,
            "cells": [cell for cell in self._cells.values() if cell.get("rate")],
            "servers": [server for server in self._servers.values() if server.get("wake_p50")],
        }

    # ------------------------------------------------------------------ a step

    def _measure(self, name: str, idle: int, number: int) -> str:
        """Measure one monitor beside *idle* connections, once."""
        options = ["--monitor", name, "--keep-alive", "3600", *shlex.split(self.plan.options)]
        with Served(rocket_command("hello", *options, python=self._python)) as server:
            fitting = self._fitting(name, idle, server.limit)
            if not fitting:
                return "left out"
            run_load(self._load(server.port, WARM, seconds=WARM_SECONDS))
            before = resident_bytes(server.pid)
            with Crowd(server.port, idle) as crowd:
                memory = (resident_bytes(server.pid) - before) / idle if idle else float("nan")
                if number:
                    line = self._take_times(name, idle, fitting, server)
                    self._servers[name, idle]["memory"].append(memory)
                else:
                    line = self._count_calls(name, idle, fitting, server)
                gone = idle - crowd.still_open()
                if gone:
                    line += f"; {gone:,} of the idle connections were closed meanwhile"
        return line

    def _fitting(self, name: str, idle: int, limit: Optional[int]) -> Sequence[int]:
        """Return which numbers of active connections the server can have beside the idle ones, and note the others."""
        if limit is None:
            return self.plan.active
        fitting = [active for active in self.plan.active if idle + active < limit]
        if idle and idle + WARM >= limit:
            fitting = []
        without = [active for active in self.plan.active if active not in fitting]
        note = {"monitor": name, "idle": idle, "active": without, "why": _why(name, limit)}
        if without and note not in self._left_out:
            self._left_out.append(note)
        return fitting

    def _load(self, port: int, connections: int, *, seconds: float, rate: Optional[float] = None) -> LoadSpec:
        warmup = min(self.plan.warmup, seconds)
        return LoadSpec(
            port=port, connections=connections, seconds=seconds, warmup=warmup, rate=rate, from_sent=rate is not None
        )

    def _take_times(self, name: str, idle: int, actives: Sequence[int], server: Served) -> str:
        rates = []
        for active in actives:
            sample = take(self._load(server.port, active, seconds=self.plan.seconds), server.pid, by_wrk=self.plan.wrk)
            cell = self._cells.setdefault((name, idle, active), {"monitor": name, "idle": idle, "active": active})
            collect(cell, sample)
            rates.append(f"{sample.rate:,.0f}")
        wake = run_load(self._load(server.port, 1, seconds=self.plan.seconds, rate=WAKE_RATE))
        found = self._servers.setdefault((name, idle), {"monitor": name, "idle": idle, "memory": []})
        found.setdefault("wake_p50", []).append(wake.quantile(0.5))
        found.setdefault("wake_p99", []).append(wake.quantile(0.99))
        return f"{', '.join(rates)} requests/s, wake {wake.quantile(0.5) * 1e6:,.0f} us"

    def _count_calls(self, name: str, idle: int, actives: Sequence[int], server: Served) -> str:
        if self._calls_by is None:
            return "warm"
        counted = []
        for active in actives:
            spec = LoadSpec(port=server.port, connections=active, seconds=self.plan.seconds, warmup=0.0)
            with counted_calls(server.pid, self._calls_by) as calls:
                result = run_load(spec)
            cell = self._cells.setdefault((name, idle, active), {"monitor": name, "idle": idle, "active": active})
            # A request in flight at the end was counted by the tool and not by the load: one per connection.
            requests = result.requests + result.failed + active
            if calls.total and result.requests:
                cell["calls"] = calls.total / requests
                counted.append(f"{cell['calls']:.2f}")
        return f"{', '.join(counted) or 'no'} system calls per request"
