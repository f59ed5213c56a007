"""Which settings are worth a comparison, by what the sweep has shown."""

from __future__ import annotations

import math
from dataclasses import replace

from rocket.tuning.limits import CPU, GIL, OWN, WAITING, Limit
from rocket.tuning.samples import ADAPTIVE, Setting, fixed

HEADROOM = 1.25  # times what is needed: clients come in bursts


def needed(limit: Limit, knee: int, clients: int) -> int:
    """Return how many threads can be of use."""
    if limit.kind == WAITING:
        return clients
    if limit.kind in (OWN, GIL, CPU):
        return max(1, min(clients, math.ceil(limit.at_a_time - 0.1)))  # 4.05 at a time are 4
    return knee


def comfortable(threads: int) -> int:
    """Return a bound for an application that needs *threads*: some more, and from 32 on a multiple of 8."""
    wanted = math.ceil(HEADROOM * threads)
    return wanted if wanted < 32 else 8 * math.ceil(wanted / 8)


def candidates(now: Setting, threads: int, *, at_most: int) -> list[Setting]:
    """Return what to compare, the most telling first; *now*, what the options say already, is the first.

    *threads* are needed, and no more than *at_most* affordable.
    """
    bound = min(at_most, comfortable(threads))
    low = min(now.min_threads, bound)
    found = [
        now,
        replace(now, min_threads=low, max_threads=bound, scaling=ADAPTIVE),
        fixed(bound, now.monitor),
        fixed(max(1, math.ceil(threads / 2)), now.monitor),
        replace(now, min_threads=low, max_threads=bound, scaling="queue"),
        fixed(min(at_most, 2 * bound), now.monitor),
    ]
    return list(dict.fromkeys(found))
