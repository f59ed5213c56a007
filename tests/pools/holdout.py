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


def visitors(number, *, gil):
    """Return another workload of this number: endpoints that compute and wait in turn, levels of load.

    More of these are loaded to their limit, or beyond it, than of the others: there a few per cent of the CPU show.
    """
    chance = random.Random(777000 + number)
    cores = 1 if gil else 4
    endpoints = [
        (
            chance.random() + 0.1,
            10 ** chance.uniform(-3.7, -1.8),  # s of CPU
            chance.choice([0, 0, 1, 1, 2, 4]),  # times that it waits,
            10 ** chance.uniform(-2.6, -0.3),  # s
            chance.choice(["const", "gamma", "exp"]),
        )
        for _ in range(chance.randint(1, 4))
    ]
    total = sum(weight for weight, *_ in endpoints)
    levels = [chance.choice([0.05, 0.2, 0.5, 0.8, 0.95, 1.05, 1.3]) for _ in range(chance.randint(1, 5))]
    computing = sum(weight * seconds for weight, seconds, *_ in endpoints) / total
    waiting = sum(weight * waits * seconds for weight, _, waits, seconds, _ in endpoints) / total
    top = min(600 * cores**0.5, cores / computing, 100 / max(waiting, 1e-9))  # of 100 at most that wait

    def rate(time):
        return max(1.0, levels[min(len(levels) - 1, int(time * len(levels) / 18.0))] * top)

    def about(random, mean, shape):
        if shape == "exp":
            return random.expovariate(1 / mean)
        return mean * random.gammavariate(4, 0.25) if shape == "gamma" else mean

    def request(time, random):
        _, computing, waits, waiting, shape = random.choices(endpoints, weights)[0]
        burst = about(random, computing, shape) / (waits + 1)
        phases = [cpu(burst)]
        for _ in range(waits):
            phases += [io(about(random, waiting, shape)), cpu(burst)]
        return phases

    weights = [weight for weight, *_ in endpoints]
    return Workload(
        f"visitors {number}",
        lambda: poisson(rate, request, seconds=18.0, seed=number * 7 + 1),
        seconds=18.0,
        gil=gil,
        cpus=2.0 if gil else 4.0,
        contention=chance.choice([0, 0.002, 0.005, 0.01]),
        hogs=1 if gil and chance.random() < 0.1 else 0,
        share=chance.choice([1, 1, 1, 1, 0.7]),
    )


def reports(number, *, gil):
    """Return another workload of this number: many short requests, and a few that compute for up to 5 s."""
    chance = random.Random(424200 + number)
    cores = 1 if gil else 4
    computing = 10 ** chance.uniform(-3.5, -2.0)  # s
    waiting = chance.choice([0, 0, 0.005, 0.05])  # s
    short = min(600, chance.choice([0.1, 0.2, 0.4, 0.6]) * cores / computing)  # requests/s
    long = 10 ** chance.uniform(-1.0, 0.5)  # s
    rare = chance.choice([0.1, 0.2, 0.4, 0.6, 0.8]) * cores / long  # requests/s
    share = rare / (rare + short)

    def request(time, random):
        if random.random() < share:
            return (cpu(long * random.choice([0.5, 1, 1.5])),)
        seconds = random.expovariate(1 / computing)
        return (cpu(seconds / 2), io(waiting), cpu(seconds / 2)) if waiting else (cpu(seconds),)

    return Workload(
        f"reports {number}",
        lambda: poisson(rare + short, request, seconds=SECONDS, seed=number),
        about=f"{computing * 1e3:.1f} ms, waits {waiting * 1e3:.0f} ms, {short:.0f}/s; {long:.1f} s, {rare:.2f}/s",
        seconds=SECONDS,
        gil=gil,
        cpus=2.0 if gil else 4.0,
        contention=chance.choice([0, 0.002, 0.005]),
    )
