"""Workloads that were never used to tune a policy: drawn by chance, from seeds that stay."""

import math
import random

from rocket.pools.simulator import Workload, cpu, io, poisson

SECONDS = 12.0


def holdout(number, *, gil):
    """Return the workload of this number: CPU, waiting, their mixture, load, rush, tail and contention by chance."""
    chance = random.Random(9000 + number)
    computing = 10 ** chance.uniform(-3.5, -2.0)  # s
    waiting = chance.choice([0, 0, 0.005, 0.02, 0.1, 0.3])  # s
    share = chance.choice([1, 1, 0.3, 0.1])  # of the requests that wait
    tail = chance.random() < 0.4
    contention = chance.choice([0, 0.005, 0.01])
    cores = 1 if gil else 4
    rush = min(500, chance.choice([0.3, 0.6, 0.85, 1.1]) * cores / computing)
    quiet = rush * chance.choice([0.05, 0.3, 1])
    begin, end = chance.uniform(1, 4), chance.uniform(6, 10)

    def request(time, random):
        seconds = random.expovariate(1 / computing)
        if not waiting or random.random() >= share:
            return (cpu(seconds),)
        wait = waiting * math.exp(random.gauss(0, 0.8)) if tail else waiting
        return cpu(seconds / 2), io(wait), cpu(seconds / 2)

    def rate(time):
        return rush if begin < time < end else quiet

    return Workload(
        f"hold-out {number}",
        lambda: poisson(rate, request, seconds=SECONDS, seed=number),
        about=f"{computing * 1e3:.1f} ms of CPU, {share:.0%} wait {waiting * 1e3:.0f} ms, {quiet:.0f} to {rush:.0f}/s",
        seconds=SECONDS,
        gil=gil,
        cpus=2.0 if gil else 4.0,
        contention=contention,
    )
