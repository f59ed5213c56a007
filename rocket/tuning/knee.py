"""Where more clients stop to bring more throughput: arithmetic on a sweep of rising concurrency."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rocket.tuning.samples import Sample


def levels(most: int) -> list[int]:
    """Return the numbers of clients to try: 1, 2, 4, ... *most*."""
    doubled = [2**i for i in range(int(math.log2(most)) + 1)]
    return doubled if doubled[-1] == most else [*doubled, most]


def knee(sweep: Sequence[Sample]) -> Sample:
    """Return the sample with the most power, throughput / latency (Kleinrock 1979).

    Below it, more clients bring throughput; above it they bring mostly latency. With Little's law it is the maximum of
    throughput squared / clients. If two are alike within 2 %, the smaller.
    """
    answered = [sample for sample in sweep if sample.requests] or list(sweep)
    best = max(map(power, answered))
    return next(sample for sample in answered if power(sample) >= 0.98 * best)


def power(sample: Sample) -> float:
    return sample.rate * sample.rate / sample.connections


def plateau(sweep: Sequence[Sample]) -> Sample:
    """Return the sample of the highest throughput."""
    return max(sweep, key=lambda sample: sample.rate)


def service_time(sweep: Sequence[Sample]) -> float:
    """Return the seconds of a request that has the server for itself: those of the fewest clients."""
    alone = min(sweep, key=lambda sample: sample.connections)
    return alone.turn if alone.turn == alone.turn else alone.latency  # nan: no turn was finished


def at_a_time(sweep: Sequence[Sample]) -> float:
    """Return how many requests are served at a time at the highest throughput, by Little's law.

    It is throughput x service time: what the requests would keep busy if none of them had to wait for another.
    """
    return plateau(sweep).rate * service_time(sweep)
