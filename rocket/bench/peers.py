"""Rocket beside other servers: waitress, cheroot, gunicorn's gthread, granian and bjoern, whichever are installed.

Each round starts each server anew for each scenario, in turn. The servers have as many threads as they are given,
Rocket up to as many; the client is `rocket.bench.load` or wrk, on loopback. Under TLS all have the same certificate.
"""

from __future__ import annotations

import json
import re
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
from rocket.bench.rounds import Step, Watcher, affordable, check_times, did_you_mean, estimate, run_rounds
from rocket.bench.sample import collect, take
from rocket.bench.secure import KeyPair, missing, with_key_pair
from rocket.errors import ConfigError

START_SECONDS = 1.5  # what a server's start and end take, roughly
ROCKET = "rocket"


@dataclass(frozen=True)
class Peer:
    """Another server: the module that it is found by, and what its Python is called with.

    One process, no access log, idle connections kept.
    """

    module: str
    arguments: str  # as in a shell, with {app}, {port} and {threads}
    tls: Optional[str] = None  # further ones for TLS, with {certificate} and {key}; None: it has no TLS


PEERS = {
    "waitress": Peer(
        "waitress",
        "-m waitress --threads={threads} --connection-limit=20000 --asyncore-use-poll --listen=127.0.0.1:{port} "
        "bench_apps:{app}",
    ),
    "cheroot": Peer(
        "cheroot",
        # Its default keeps 10 connections and closes the others, a third of the requests/s with 64.
        '-c "import sys, bench_apps; from cheroot import wsgi; from cheroot.ssl.builtin import BuiltinSSLAdapter; '
        "server = wsgi.Server(('127.0.0.1', {port}), bench_apps.{app}, numthreads={threads}, "
        "request_queue_size=1024, timeout=75); server.keep_alive_conn_limit = 20000; files = sys.argv[1:]; "
        'server.ssl_adapter = BuiltinSSLAdapter(*files) if files else None; server.start()"',
        "{certificate} {key}",
    ),
    "gunicorn": Peer(
        "gunicorn",
        "-m gunicorn -k gthread --threads {threads} -w 1 --worker-connections 20000 --keep-alive 75 --log-level error "
        "-b 127.0.0.1:{port} bench_apps:{app}",
        "--certfile {certificate} --keyfile {key}",
    ),
    "granian": Peer(
        "granian",
        "-m granian --interface wsgi --blocking-threads {threads} --host 127.0.0.1 --port {port} --workers 1 --no-ws "
        "--log-level error bench_apps:{app}",
        "--ssl-certificate {certificate} --ssl-keyfile {key}",
    ),
    "bjoern": Peer(
        "bjoern",
        "-c \"import bench_apps, bjoern; bjoern.run(bench_apps.{app}, '127.0.0.1', {port})\"",
    ),
}
_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
NO_TLS = "no TLS"  # in the table, where a server has none

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
    computing: int = 0
    by_wrk: bool = True  # whether wrk is used for it, if asked for

    @property
    def tls(self) -> bool:
        return bool(self.load.get("tls"))


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
    "beside-1": Scenario("hello beside 1 request that computes", "beside", computing=1),
    "beside-4": Scenario("hello beside 4 requests that compute", "beside", computing=4),
    "tls": Scenario("hello under TLS, 64 connections", load={"tls": True}),
    # Not by wrk: whether its connections go on with an old session is OpenSSL's affair, not ours to say.
    "tls-fresh": Scenario(
        "hello under TLS, a full handshake each", load={"tls": True, "keep_alive": False}, by_wrk=False
    ),
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
            raise ConfigError(f"there is no {what} {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")


@dataclass(frozen=True)
class Found:
    """What a Python has: its version, those of the peers that it can import, and why not the others."""

    python: str
    versions: dict[str, str]
    absent: dict[str, str]


LOOK = """
import importlib, json, platform, sys
from importlib.metadata import version
found, absent = {}, {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        found[name] = version(name)
    except ModuleNotFoundError as exc:
        absent[name] = "not installed" if exc.name == name else str(exc)
    except Exception as exc:
        absent[name] = "%s: %s" % (type(exc).__name__, exc)
print("\\n" + json.dumps([platform.python_version(), found, absent]))
"""
PATIENCE = 60.0  # s that a Python may take to import all peers


def installed(python: str) -> Found:
    """Return what *python* has of the peers. Raises ConfigError if it does not run, or is no Python."""
    command = [python, "-c", LOOK, *(peer.module for peer in PEERS.values())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except OSError as exc:
        raise ConfigError(f"python {python!r} cannot be run: {exc.strerror}") from exc
    except subprocess.TimeoutExpired as exc:
        raise ConfigError(f"python {python!r} has not answered after {PATIENCE:g} s") from exc
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ConfigError(f"python {python!r} fails: {said[0]}")
    try:
        version, found, absent = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as exc:
        raise ConfigError(f"python {python!r} is no Python: it does not do what Python code says") from exc
    names = {peer.module: name for name, peer in PEERS.items()}
    return Found(
        version,
        {names[module]: number for module, number in found.items()},
        {names[module]: why for module, why in absent.items()},
    )


def _has_tls(server: str) -> bool:
    return server == ROCKET or PEERS[server].tls is not None


def _refusal(scenario: Scenario) -> Optional[str]:
    """Return why this host or Python cannot do *scenario*; None if it can."""
    return raise_open_files(scenario.idle + scenario.slow + 200) or (missing() if scenario.tls else None)


class Comparison:
    """Measures a plan. `steps` says what there is to do, `run` does it and returns the report."""

    def __init__(self, plan: Plan, *, command: str = "") -> None:
        """Raises ConfigError if a server that was asked for is not installed."""
        found = installed(plan.python)
        self.peers_python, self.versions = found.python, found.versions
        missing = {name: found.absent[name] for name in plan.servers if name in found.absent}
        if missing:
            hint = (
                "pip install bjoern, which needs libev" if [*missing] == ["bjoern"] else "pip install 'rocket[bench]'"
            )
            words = "; ".join(f"{name}: {why}" for name, why in missing.items())
            raise ConfigError(f"{plan.python} cannot serve by what was asked for ({words}): {hint}")
        self.plan = replace(plan, servers=plan.servers or (ROCKET, *self.versions))
        self.absent = {} if plan.servers else found.absent
        self._command = command
        self._cells: dict[tuple[str, str], dict[str, Any]] = {}
        reasons = {name: _refusal(SCENARIOS[name]) for name in plan.scenarios}
        self.refused = [f"scenario {name} is left out: {why}" for name, why in reasons.items() if why]
        self._keys: Optional[KeyPair] = None
        self._failed: dict[tuple[str, str], str] = {}
        pairs = [(name, server) for name in plan.scenarios if not reasons[name] for server in self.plan.servers]
        self._impossible = [pair for pair in pairs if SCENARIOS[pair[0]].tls and not _has_tls(pair[1])]
        self.steps = [self._step(*pair) for pair in pairs if pair not in self._impossible]

    def _step(self, name: str, server: str) -> Step:
        seconds = START_SECONDS + self.plan.warmup + self.plan.seconds
        return Step(f"{name}, {server}", lambda number: self._try(name, server, number), seconds)

    def seconds(self, rounds: int) -> float:
        """Return how long *rounds* will take, roughly."""
        return estimate(self.steps, rounds)

    def run(self, watcher: Watcher, *, budget: Optional[float] = None) -> Report:
        """Measure, and return what was found, also when it was interrupted."""
        if any(SCENARIOS[name].tls for name in self.plan.scenarios) and not missing():
            return with_key_pair(lambda pair: self._run(watcher, budget, pair))
        return self._run(watcher, budget, None)

    def _run(self, watcher: Watcher, budget: Optional[float], keys: Optional[KeyPair]) -> Report:
        self._keys = keys
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
                for (name, server), why in [*dict.fromkeys(self._impossible, NO_TLS).items(), *self._failed.items()]
                if (name, server) not in self._cells
            ],
            "cells": list(self._cells.values()),
        }

    def _start(self, server: str, scenario: Scenario) -> Served:
        threads = scenario.threads or self.plan.threads
        keys = self._keys if scenario.tls else None
        if server == ROCKET:
            options = ["--max-threads", str(threads), "--min-threads", str(min(2, threads))]
            if keys is not None:
                options += ["--certfile", keys.certificate, "--keyfile", keys.key]
            return Served(rocket_command(scenario.app, *options, *shlex.split(self.plan.options)))
        port, peer = free_port(), PEERS[server]
        words = {"threads": threads, "port": port, "app": scenario.app, **(asdict(keys) if keys else {})}
        template = shlex.split(peer.arguments) + shlex.split((peer.tls or "") if keys else "")
        return Served([self.plan.python, *(each.format(**words) for each in template)], port)

    def _try(self, name: str, server: str, number: int) -> str:
        try:
            return self._measure(name, server, number)
        except (LoadError, ServerFailed) as exc:
            why = _ADDRESS.sub("it", str(exc))  # another port each time, so another problem for who reads them
            self._failed[name, server] = why
            if (name, server) in self._cells:
                self._cells[name, server].setdefault("failed", []).append(why)
            raise type(exc)(why) from exc

    def _measure(self, name: str, server: str, number: int) -> str:
        scenario = SCENARIOS[name]
        seconds = self.plan.seconds if number else min(0.5, self.plan.seconds)
        with ExitStack() as stack:
            served = stack.enter_context(self._start(server, scenario))
            stack.enter_context(Crowd(served.port, scenario.idle))
            stack.enter_context(Crowd(served.port, scenario.slow, "slow"))
            stack.enter_context(Crowd(served.port, scenario.computing, "computing"))
            spec = LoadSpec(port=served.port, seconds=seconds, warmup=self.plan.warmup, **scenario.load)
            try:
                sample = take(spec, served.pid, by_wrk=self.plan.wrk and scenario.by_wrk)
            except LoadError:
                served.check()  # that it has ended says more than that it does not answer
                raise
            served.check()
            memory = resident_bytes(served.pid)
        if not sample.rate:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sample.errors.items())
            raise LoadError(f"nothing but errors: {kinds}" if kinds else f"no answer within {seconds:g} s")
        if number:
            cell = self._cells.setdefault((name, server), {"scenario": name, "server": server})
            collect(cell, sample)
            cell.setdefault("memory", []).append(memory)
            if sample.tls:
                cell["tls"] = sample.tls
        return f"{sample.rate:,.0f} requests/s"
