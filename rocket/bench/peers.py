"""Rocket beside other servers: waitress, cheroot, gunicorn's gthread, granian and bjoern, whichever are installed.

Each round starts each server anew for each scenario, in turn. The servers have as many threads as they are given,
Rocket up to as many; the client is `rocket.bench.load` or wrk, on loopback. TLS is not among the scenarios.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Optional

from rocket.bench import wrk
from rocket.bench.crowd import Crowd
from rocket.bench.limits import raise_open_files
from rocket.bench.load import LoadError, LoadSpec
from rocket.bench.measure import machine, resident_bytes
from rocket.bench.processes import Served, ServerFailed, free_port, rocket_command
from rocket.bench.report import FORMAT, Report
from rocket.bench.rounds import Step, Watcher, affordable, check_times, estimate, run_rounds
from rocket.bench.sample import collect, take
from rocket.errors import ConfigError

START_SECONDS = 1.5  # what a server's start and end take, roughly
ROCKET = "rocket"

# What each server is found by, and what its Python is called with: one process, no access log, idle connections kept.
PEERS = {
    "waitress": (
        "waitress",
        "-m waitress --threads={threads} --connection-limit=20000 --asyncore-use-poll --listen=127.0.0.1:{port} "
        "bench_apps:{app}",
    ),
    "cheroot": (
        "cheroot",
        # Its default keeps 10 connections and closes the others, a third of the requests/s with 64.
        "-c \"import bench_apps; from cheroot import wsgi; server = wsgi.Server(('127.0.0.1', {port}), "
        "bench_apps.{app}, numthreads={threads}, request_queue_size=1024, timeout=75); "
        'server.keep_alive_conn_limit = 20000; server.start()"',
    ),
    "gunicorn": (
        "gunicorn",
        "-m gunicorn -k gthread --threads {threads} -w 1 --worker-connections 20000 --keep-alive 75 --log-level error "
        "-b 127.0.0.1:{port} bench_apps:{app}",
    ),
    "granian": (
        "granian",
        "-m granian --interface wsgi --blocking-threads {threads} --host 127.0.0.1 --port {port} --workers 1 --no-ws "
        "--log-level error bench_apps:{app}",
    ),
    "bjoern": (
        "bjoern",
        "-c \"import bench_apps, bjoern; bjoern.run(bench_apps.{app}, '127.0.0.1', {port})\"",
    ),
}

BROWSER = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Cookie", "sessionid=abcdef0123456789; csrftoken=0123456789abcdef"),
    ("Referer", "http://127.0.0.1/page/7"),
    ("Connection", "keep-alive"),
)


@dataclass(frozen=True)
class Scenario:
    """One kind of work: an application of bench_apps, the load, and who else is connected."""

    title: str
    app: str = "hello"
    load: dict[str, Any] = field(default_factory=dict)  # of `LoadSpec`
    threads: Optional[int] = None  # None: the plan's
    idle: int = 0
    slow: int = 0


SCENARIOS = {
    "hello": Scenario("hello, 64 connections"),
    "hello-4": Scenario("hello, 4 connections", load={"connections": 4}),
    "browser": Scenario(
        "hello, a browser's requests",
        load={"headers": BROWSER, "paths": tuple(f"/page/{i}?q={i * 7}" for i in range(997))},
    ),
    "fresh": Scenario("hello, a connection per request", load={"keep_alive": False}),
    "sleep10": Scenario("each waits 10 ms, 64 threads", "sleep10", threads=64),
    "mixed": Scenario("1 of 100 waits 100 ms, 64 threads", "mixed", load={"paths": ("/slow", *["/"] * 99)}, threads=64),
    "cpu": Scenario("0.5 ms of Python each", "cpu"),
    "echo": Scenario("POST of 10 KB and back", "echo", load={"method": "POST", "body_size": 10_240}),
    "download": Scenario("download of 10 MB, 8 connections", "download", load={"connections": 8}),
    "upload": Scenario(
        "upload of 10 MB, 8 connections", "upload", load={"method": "POST", "body_size": 10_000_000, "connections": 8}
    ),
    "idle": Scenario("hello beside 1,000 idle connections", idle=1000),
    "slow": Scenario("hello beside 64 slow senders", slow=64),
}


@dataclass(frozen=True)
class Plan:
    """What to measure. Raises ConfigError for what cannot be."""

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    servers: tuple[str, ...] = ()  # none: Rocket and all peers that are installed
    python: str = sys.executable  # that has the peers
    threads: int = 8
    seconds: float = 2.0
    warmup: float = 0.5
    rounds: int = 5
    options: str = ""  # further ones for Rocket
    wrk: bool = False

    def __post_init__(self) -> None:
        _known("scenario", self.scenarios, SCENARIOS)
        _known("server", self.servers, [ROCKET, *PEERS])
        if self.threads < 1:
            raise ConfigError(f"threads ({self.threads}) must be above 0")
        check_times(self.seconds, self.warmup, self.rounds, self.options)
        wrk.check(self.wrk)


def _known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"there is no {what} {name!r}; there are {', '.join(known)}")


def installed(python: str) -> tuple[str, dict[str, str]]:
    """Return *python*'s version, and those of the peers that it can import. Raises ConfigError if it does not run."""
    code = (
        "import importlib, json, platform, sys\nfrom importlib.metadata import version\nfound = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        importlib.import_module(name)\n        found[name] = version(name)\n"
        "    except Exception:\n        pass\nprint(json.dumps([platform.python_version(), found]))"
    )
    try:
        done = subprocess.run(
            [python, "-c", code, *(module for module, _ in PEERS.values())], capture_output=True, text=True, check=False
        )
    except OSError as exc:
        raise ConfigError(f"python {python!r} cannot be run: {exc.strerror}") from exc
    if done.returncode:
        raise ConfigError(f"python {python!r} fails: {done.stderr.strip().splitlines()[-1:]}")
    version, found = json.loads(done.stdout)
    return version, {name: found[module] for name, (module, _) in PEERS.items() if module in found}


class Comparison:
    """Measures a plan. `steps` says what there is to do, `run` does it and returns the report."""

    def __init__(self, plan: Plan, *, command: str = "") -> None:
        """Raises ConfigError if a server that was asked for is not installed."""
        self.peers_python, self.versions = installed(plan.python)
        missing = [name for name in plan.servers if name != ROCKET and name not in self.versions]
        if missing:
            hint = "pip install bjoern, which needs libev" if missing == ["bjoern"] else "pip install 'rocket[bench]'"
            raise ConfigError(f"{plan.python} has no {', '.join(missing)} ({hint})")
        self.plan = replace(plan, servers=plan.servers or (ROCKET, *self.versions))
        self.absent = [name for name in PEERS if name not in self.versions and not plan.servers]
        self._command = command
        self._cells: dict[tuple[str, str], dict[str, Any]] = {}
        needs = {name: SCENARIOS[name].idle + SCENARIOS[name].slow + 200 for name in plan.scenarios}
        reasons = {name: raise_open_files(count) for name, count in needs.items()}
        self.refused = [f"scenario {name} is left out: {why}" for name, why in reasons.items() if why]
        self._failed: dict[tuple[str, str], str] = {}
        self.steps = [
            self._step(name, server) for name in plan.scenarios if not reasons[name] for server in self.plan.servers
        ]

    def _step(self, name: str, server: str) -> Step:
        seconds = START_SECONDS + self.plan.warmup + self.plan.seconds
        return Step(f"{name}, {server}", lambda number: self._try(name, server, number), seconds)

    def seconds(self, rounds: int) -> float:
        """Return how long *rounds* will take, roughly."""
        return estimate(self.steps, rounds)

    def run(self, watcher: Watcher, *, budget: Optional[float] = None) -> Report:
        """Measure, and return what was found, also when it was interrupted."""
        facts = machine()
        outcome = run_rounds(self.steps, affordable(self.steps, self.plan.rounds, budget), watcher, budget=budget)
        scenarios = {name: SCENARIOS[name].title for name in self.plan.scenarios}
        return {
            "kind": "peers",
            "format": FORMAT,
            "command": self._command,
            "machine": {**facts, "versions": self.versions, "peers_python": self.peers_python},
            "plan": {**asdict(self.plan), "scenarios": scenarios},
            "generator": wrk.version() if self.plan.wrk else "rocket.bench.load",
            "rounds": outcome.rounds,
            "ended": outcome.ended,
            "problems": [*self.refused, *outcome.problems],
            "left_out": [
                {"scenario": name, "server": server, "why": why}
                for (name, server), why in self._failed.items()
                if (name, server) not in self._cells
            ],
            "cells": list(self._cells.values()),
        }

    def _start(self, server: str, scenario: Scenario) -> Served:
        threads = scenario.threads or self.plan.threads
        if server == ROCKET:
            options = ["--max-threads", str(threads), "--min-threads", str(min(2, threads))]
            return Served(rocket_command(scenario.app, *options, *shlex.split(self.plan.options)))
        port = free_port()
        arguments = PEERS[server][1].format(threads=threads, port=port, app=scenario.app)
        return Served([self.plan.python, *shlex.split(arguments)], port)

    def _try(self, name: str, server: str, number: int) -> str:
        try:
            return self._measure(name, server, number)
        except (LoadError, ServerFailed) as exc:
            self._failed[name, server] = str(exc)
            raise

    def _measure(self, name: str, server: str, number: int) -> str:
        scenario = SCENARIOS[name]
        with ExitStack() as stack:
            served = stack.enter_context(self._start(server, scenario))
            stack.enter_context(Crowd(served.port, scenario.idle))
            stack.enter_context(Crowd(served.port, scenario.slow, "slow"))
            seconds = self.plan.seconds if number else min(0.5, self.plan.seconds)
            spec = LoadSpec(port=served.port, seconds=seconds, warmup=self.plan.warmup, **scenario.load)
            sample = take(spec, served.pid, by_wrk=self.plan.wrk)
            memory = resident_bytes(served.pid)
        if not sample.rate and not sample.errors:
            raise LoadError(f"no answer within {self.plan.warmup + seconds:g} s")
        if number:
            cell = self._cells.setdefault((name, server), {"scenario": name, "server": server})
            collect(cell, sample)
            cell.setdefault("memory", []).append(memory)
        return f"{sample.rate:,.0f} requests/s"
