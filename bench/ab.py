"""Is one variant of Rocket faster than another? Requests/s, and the server's CPU time for a request.

    python bench/ab.py HEAD=. OLD=../old                               two checkouts
    python bench/ab.py lazy=. "oneshot=. --monitor oneshot:OneShotEpollMonitor"   two sets of options
    python bench/ab.py HEAD=. OLD=../old -c 4 --rounds 20 --seconds 2

Each variant is NAME=CHECKOUT, and options for `rocket serve` behind it. All are measured in each round, in an order by
chance, each with a server of its own; figures are medians. On a machine with other work CPU time is the steadier one.
Needs wrk. Loopback only; the application is `hello` of bench/idle.py.
"""

import argparse
import os
import random
import shlex
import statistics
import sys
from pathlib import Path

import psutil
from loopback import free_port, wait_for, wrk

HERE = Path(__file__).resolve().parent


def start(checkout, options):
    """Return a server's process, and its port once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "rocket", "serve", "idle:hello", "--app-dir", str(HERE)]
    process = psutil.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "--log-level", "error", *options],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(Path(checkout).resolve())},
    )
    wait_for(process, port, f"the server of {checkout}")
    return process, port


def measure(checkout, options, connections, seconds):
    """Return requests/s, and microseconds of CPU for a request."""
    process, port = start(checkout, options)
    try:
        url = f"http://127.0.0.1:{port}/"
        wrk(url, connections, 1)
        before = process.cpu_times()
        requests, rate = wrk(url, connections, seconds)
        after = process.cpu_times()
    finally:
        process.terminate()
        process.wait()
    return rate, (after.user + after.system - before.user - before.system) / requests * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+", metavar="NAME=CHECKOUT")
    parser.add_argument("-c", "--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=2)
    args = parser.parse_args()
    variants = {}
    for text in args.variants:
        name, _, rest = text.partition("=")
        checkout, *options = shlex.split(rest)
        variants[name] = (checkout, options)
    found = {name: [] for name in variants}
    for _ in range(args.rounds):
        for name in random.sample(list(variants), len(variants)):
            found[name].append(measure(*variants[name], args.connections, args.seconds))
    print(f"{args.connections} connections, {args.rounds} rounds of {args.seconds} s, Python {sys.version.split()[0]}")
    print(f"{'variant':12} {'requests/s':>10} {'highest':>8} {'CPU us a request':>17} {'lowest':>7}")
    for name, runs in found.items():
        rates, costs = zip(*runs)
        rate, cost = statistics.median(rates), statistics.median(costs)
        print(f"{name:12} {rate:10.0f} {max(rates):8.0f} {cost:17.2f} {min(costs):7.2f}")


if __name__ == "__main__":
    main()
