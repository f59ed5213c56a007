"""Reports that nobody measured."""

import copy

MACHINE = {
    "date": "2026-01-02 03:04 UTC",
    "cpu": "Some CPU",
    "cpus": 2,
    "memory_bytes": 2**34,
    "system": "Linux 1.2 x86_64",
    "python": "CPython 3.11.7",
    "gil": True,
    "rocket": "2.0.0",
}


def cell(rates, **names):
    return {
        **names,
        "rate": rates,
        "p50": [0.001 for _ in rates],
        "p99": [0.002 for _ in rates],
        "cpu": [1 / rate if rate else None for rate in rates],
        "errors": [{} for _ in rates],
        "generator_cpu": [0.5 for _ in rates],
        "other_cpu": [0.0 for _ in rates],
    }


def steady(rate):
    return [rate * (1 + i / 1000) for i in range(5)]


def monitors_report():
    """epoll and poll, over none and 5,000 idle; select ends before."""
    cells = [
        cell(steady(50_000), monitor="epoll", idle=0, active=1) | {"calls": 3.02},
        cell(steady(49_900), monitor="poll", idle=0, active=1) | {"calls": 3.04},
        cell(steady(30_000), monitor="select", idle=0, active=1),
        cell(steady(50_100), monitor="epoll", idle=5000, active=1),
        cell(steady(600), monitor="poll", idle=5000, active=1),
    ]
    servers = [
        {"monitor": each["monitor"], "idle": each["idle"], "wake_p50": [1e-4], "wake_p99": [2e-4], "memory": [900.0]}
        for each in cells
    ]
    return copy.deepcopy(
        {
            "kind": "monitors",
            "format": 1,
            "command": "rocket bench monitors --idle 0,5000 --active 1",
            "machine": MACHINE,
            "plan": {"monitors": ["epoll", "poll", "select"], "idle": [0, 5000], "active": [1]},
            "generator": "rocket.bench.load",
            "calls_by": "perf",
            "rounds": 5,
            "ended": "",
            "problems": [],
            "left_out": [{"monitor": "select", "idle": 5000, "active": [1], "why": "ends at 1,024 descriptors"}],
            "cells": cells,
            "servers": servers,
        }
    )


def peers_report():
    """Rocket and waitress; cheroot answers nobody."""
    return copy.deepcopy(
        {
            "kind": "peers",
            "format": 1,
            "command": "rocket bench peers",
            "machine": {**MACHINE, "versions": {"waitress": "3.0"}, "peers_python": "3.11.7"},
            "plan": {"scenarios": {"hello": "hello, 64"}, "servers": ["rocket", "waitress", "cheroot", "bjoern"]},
            "generator": "wrk 4.1.0",
            "rounds": 5,
            "ended": "",
            "problems": [],
            "left_out": [{"scenario": "hello", "server": "cheroot", "why": "no answer within 1 s"}],
            "cells": [
                cell(steady(60_000), scenario="hello", server="rocket") | {"memory": [2e7] * 5},
                cell(steady(6_000), scenario="hello", server="waitress") | {"memory": [1e7] * 5},
                cell([0.0] * 5, scenario="hello", server="bjoern") | {"p99": [None] * 5, "memory": [None] * 5},
            ],
        }
    )
