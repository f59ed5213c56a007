"""Workloads for the simulator, by name: what a policy should be good at."""

from __future__ import annotations

import difflib
import importlib
import math
from dataclasses import replace
from random import Random
from typing import Callable, Optional, Union

from rocket.errors import ConfigError
from rocket.pools.simulator import Request, Workload, cpu, io, poisson

SECONDS = 20.0
Rate = Union[float, Callable[[float], float]]


def _about(random: Random, mean: float) -> float:
    """A time that varies as that of independent events does."""
    return random.expovariate(1 / mean)


def _computing(mean: float) -> Callable[[float, Random], Request]:
    """Requests that compute for *mean* seconds, more or less."""
    return lambda time, random: (cpu(_about(random, mean)),)


def _waiting(seconds: float, computing: float = 0.0005) -> Callable[[float, Random], Request]:
    """Requests that wait for *seconds*, and compute a little before and after."""
    request = (cpu(0.4 * computing), io(seconds), cpu(0.6 * computing))
    return lambda time, random: request


def _sometimes(
    share: float,
    rare: Callable[[float, Random], Request],
    usual: Callable[[float, Random], Request],
    between: tuple[float, float] = (0.0, math.inf),
) -> Callable[[float, Random], Request]:
    """Of the requests that come *between* two times, *share* is *rare*; the others are *usual*."""

    def request(time: float, random: Random) -> Request:
        if between[0] <= time < between[1] and random.random() < share:
            return rare(time, random)
        return usual(time, random)

    return request


def _leaking(time: float, random: Random) -> Request:
    return cpu(0.001), io(0.01 + 0.4 * time / SECONDS)


def _heavy_tailed(time: float, random: Random) -> Request:
    return (cpu(min(2.0, 0.0018 * math.exp(random.gauss(0, 1.6)))),)


def _turning(time: float, random: Random) -> Request:
    return _waiting(0.05)(time, random) if time < 8 else _computing(0.009)(time, random)


def _workload(
    name: str, about: str, rate: Rate, request: Callable[[float, Random], Request], *, seed: int, hogs: int = 0
) -> Workload:
    return Workload(
        name, lambda: poisson(rate, request, seconds=SECONDS, seed=seed), about=about, seconds=SECONDS, hogs=hogs
    )


_FEW_MS = _computing(0.002)

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        _workload("cpu60", "10 ms of CPU, 60 % of a core", 60, _computing(0.010), seed=1),
        _workload(
            "cpu-over", "10 ms of CPU, 130 % of a core for 7 s",
            lambda time: 60 if time < 5 or time > 12 else 130, _computing(0.010), seed=2,
        ),
        _workload(
            "io-step", "waits 50 ms, 20/s, then 600/s",
            lambda time: 20 if time < 3 else 600, _waiting(0.05), seed=3,
        ),
        _workload(
            "mixed", "1 ms of CPU, and a tenth waits 200 ms",
            250, _sometimes(0.1, _waiting(0.2, 0.002), _computing(0.001)), seed=4,
        ),
        _workload(
            "square", "waits 50 ms, 2 s of 400/s and 2 s of 30/s in turn",
            lambda time: 400 if int(time / 2) % 2 else 30, _waiting(0.05), seed=5,
        ),
        _workload(
            "stuck20", "2 ms of CPU; 20 requests get stuck for 30 s",
            100, _sometimes(0.35, lambda time, random: (io(30.0),), _FEW_MS, (5, 5.6)), seed=6,
        ),
        _workload("leak", "waits 10 ms, growing to 410 ms", 80, _leaking, seed=7),
        _workload(
            "hogs", "2 ms of CPU; a handful of requests compute for 2 s",
            lambda time: 200 if 5 <= time < 5.06 else 100,
            _sometimes(0.7, lambda time, random: (cpu(2.0),), _FEW_MS, (5, 5.06)), seed=9,
        ),
        _workload(
            "reports", "1 ms of CPU and waits 20 ms; one of 500 computes for 1.5 s",
            200, _sometimes(0.002, lambda time, random: (cpu(1.5),), _waiting(0.02, 0.001)), seed=15,
        ),
        _workload("heavy-tail", "CPU of very different lengths", 140, _heavy_tailed, seed=11),
        _workload(
            "bursts", "2 ms of CPU, and one of 125 computes for 200 ms",
            150, _sometimes(0.008, lambda time, random: (cpu(0.2),), _FEW_MS), seed=12,
        ),
        _workload("hog-io", "waits 50 ms beside a thread that computes", 150, _waiting(0.05, 0.001), seed=13, hogs=1),
        _workload("hog-cpu", "10 ms of CPU beside a thread that computes", 45, _computing(0.010), seed=14, hogs=1),
        _workload(
            "io-to-cpu", "waits 50 ms, after 8 s 9 ms of CPU",
            lambda time: 600 if time < 8 else 95, _turning, seed=10,
        ),
        _workload(
            "both-over", "5 ms of CPU and waits 50 ms, 115 % of a core",
            230, lambda time, random: (cpu(0.0025), io(0.05), cpu(0.0025)), seed=8,
        ),
    )
}  # fmt: skip
"""Those of the project's own comparison, with a GIL and two CPUs."""


def with_host(workload: Workload, *, gil: bool, cpus: Optional[float] = None) -> Workload:
    """Return *workload* on another host: with or without a GIL, with *cpus* CPUs (None: as before)."""
    name = workload.name if gil else f"{workload.name}, no GIL"
    return replace(workload, name=name, gil=gil, cpus=cpus or workload.cpus)


def load_workload(text: str) -> Workload:
    """Return the workload of that name, or at a dotted path "package.module:name". Raises ConfigError."""
    if text in WORKLOADS:
        return WORKLOADS[text]
    module, colon, name = text.partition(":")
    if not colon:
        near = difflib.get_close_matches(text, WORKLOADS, 1)
        hint = f": did you mean {near[0]!r}?" if near else f": there are {', '.join(WORKLOADS)}"
        raise ConfigError(f"unknown workload {text!r}{hint} (or a dotted path, package.module:name)")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as exc:  # also what the module itself raises
        raise ConfigError(f"cannot load the workload {text!r}: {exc}") from exc
    if not isinstance(found, Workload):
        raise ConfigError(f"{text} is no Workload but a {type(found).__name__}")
    return found
