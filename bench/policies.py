#!/usr/bin/env python3
"""Which policy serves which load best? Open-loop load against live servers, and a sweep of fixed sizes beside.

    python bench/policies.py                                  # all; an hour
    python bench/policies.py --workload io-step mixed --policy adaptive fixed:16
    python bench/policies.py --report                         # only write tables and pictures from what was measured

The requests are those of the simulator (`rocket.pools.workloads`): the same arrivals, with real sleeps and real CPU
time. They are sent when they are due, whatever has become of the earlier ones, by a process of its own; a latency
counts from the moment at which the request was to be sent, so a server that stalls cannot hide it ("coordinated
omission").
Results are kept in bench/results/policies.json; the tables go between the markers of bench/POLICIES.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from loopback import free_port  # noqa: E402 (the path first)

from rocket.pools.workloads import WORKLOADS  # noqa: E402 (the path first)

RESULTS = HERE / "results" / "policies.json"
PAGE = HERE / "POLICIES.md"
IMAGES = HERE / "results"

NAMES = ("cpu-over", "io-step", "mixed", "square", "leak", "stuck20", "reports", "bursts", "io-to-cpu", "hog-io")
POLICIES = ("adaptive", "queue", "stall", "load")
SIZES = (2, 4, 16, 64)
WIDTH = 120  # columns of a page
SECONDS = 10.0
PATIENCE = 3.0  # s: for the answers that are still to come at the end
OK = b"\r\n\r\nok"
COLUMNS = 3  # of the picture
STEPS = {"io-step": 3.0}  # s: when the load grows twentyfold and more
MEDIANS = ("throughput", "p50", "p99", "p99_late", "failed", "threads", "most", "load", "settled")
AS_GOOD = 0.98  # of the highest throughput: below that a run is slower, not unlucky

# --- The application -------------------------------------------------------------------------------------------------

_samples: list[tuple[float, int, int, int]] = []
_sampling = threading.Lock()


def app(environ, start_response):
    """Do what the query says: "c0.001,i0.05" computes for 1 ms, and then waits for 50 ms."""
    if environ["PATH_INFO"] == "/samples":
        body = json.dumps(_samples).encode()
    elif environ["PATH_INFO"] == "/start":
        if _sampling.acquire(blocking=False):
            threading.Thread(target=_sample, args=[environ["rocket.stats"]], daemon=True).start()
            for _ in range(int(environ["QUERY_STRING"] or 0)):
                threading.Thread(target=_compute, args=[1e9], daemon=True).start()
        body = b"ok"
    else:
        for step in environ["QUERY_STRING"].split(","):
            (_compute if step[0] == "c" else time.sleep)(float(step[1:]))
        body = b"ok"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _compute(seconds):
    """Use that much CPU time, in Python: with the GIL."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(300):
            pass


def _sample(stats):
    """Note ten times a second how large the pool is."""
    begun = time.monotonic()
    while True:
        now = stats()
        _samples.append((round(time.monotonic() - begun, 2), now["goal"], now["busy"], now["queued"]))
        time.sleep(0.1)


# --- The load --------------------------------------------------------------------------------------------------------


class Client:
    """Send requests when they are due, on as many connections as that takes, in one thread."""

    def __init__(self, port, requests):
        self.port = port
        self.due = deque(requests)  # (time, request)
        self.idle = []
        self.asked = {}  # socket -> [time it was due, what has come of the answer]
        self.answers = []  # (time it was due, latency or None, time it came)
        self.selector = selectors.DefaultSelector()

    def run(self):
        begun = time.monotonic()
        end = (self.due[-1][0] if self.due else 0.0) + PATIENCE
        while self.due or self.asked:
            now = time.monotonic() - begun
            while self.due and self.due[0][0] <= now:
                self.send(*self.due.popleft())
            if now > end:
                break
            wait = self.due[0][0] - now if self.due else end - now
            for key, _ in self.selector.select(max(0.0, min(wait, 0.5))):
                self.receive(key.fileobj, begun)
        return self.answers

    def send(self, due, request):
        if self.idle:
            sock = self.idle.pop()
        else:
            sock = socket.create_connection(("127.0.0.1", self.port), 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ)
        self.asked[sock] = [due, b""]
        sock.send(request)

    def receive(self, sock, begun):
        data = sock.recv(65536)
        asked = self.asked.get(sock)
        if not data:  # closed by the server: idle for long, or after a refusal
            self.selector.unregister(sock)
            sock.close()
            if asked is not None:
                del self.asked[sock]
                self.answers.append((asked[0], None, 0.0))
            else:
                self.idle.remove(sock)
            return
        if asked is None:
            return
        asked[1] += data
        if asked[1].endswith(OK):
            now = time.monotonic() - begun
            del self.asked[sock]
            self.idle.append(sock)
            self.answers.append((asked[0], now - asked[0], now))


def load(port, name, seconds):
    """Be the load of workload *name*: print the answers as JSON. Run in a process of its own."""
    requests = []
    for due, phases in WORKLOADS[name].arrivals():
        if due > seconds:
            break
        query = ",".join(f"{'c' if computes else 'i'}{length:.6f}" for computes, length in phases)
        path = "/" + "".join("c" if computes else "i" for computes, _ in phases)
        requests.append((due, f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
    print(json.dumps(Client(port, requests).run()))


# --- A run -----------------------------------------------------------------------------------------------------------


def get(port, path):
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return answer.partition(b"\r\n\r\n")[2]


def start(policy, most):
    """Start a server; return its process and port."""
    port = free_port()
    least = policy.partition(":")[2] if policy.startswith("fixed:") else "2"
    command = [sys.executable, "-m", "rocket", "serve", "policies:app", "--app-dir", str(HERE)]
    command += ["--bind", f"127.0.0.1:{port}", "--scaling", policy, "--threads", f"{least}:{most}"]
    command += ["--max-requests-per-connection", "0", "--graceful-timeout", "0"]
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit("the server did not start")


def measure(name, policy, seconds, most):
    """Return what one run gives: figures, and the series for the pictures."""
    process, port = start(policy, most)
    try:
        get(port, f"/start?{WORKLOADS[name].hogs or ''}")
        command = [sys.executable, __file__, "--load", str(port), name, str(seconds)]
        answers = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        try:
            samples = json.loads(get(port, "/samples"))
        except (OSError, ValueError):
            samples = []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    good = sorted(latency for _, latency, _ in answers if latency is not None)
    after = sorted(latency for due, latency, _ in answers if latency is not None and due > seconds * 0.6)
    samples = [sample for sample in samples if sample[0] < seconds]
    return {
        "throughput": sum(1 for _, latency, came in answers if latency is not None and came <= seconds) / seconds,
        "p50": percentile(good, 0.5),
        "p99": percentile(good, 0.99),
        "p99_late": percentile(after, 0.99),
        "failed": sum(1 for _, latency, _ in answers if latency is None),
        "threads": sum(sample[1] for sample in samples) / max(1, len(samples)),
        "most": max((sample[1] for sample in samples), default=0),
        "load": round(os.getloadavg()[0], 1),
        "settled": settled(answers, STEPS.get(name), percentile(after, 0.99)),
        "samples": samples,
        "slowest": slowest(answers),
    }


def median(rounds):
    """Return the round whose p99 is the median, with the medians of all rounds for its figures."""
    run = dict(sorted(rounds, key=lambda run: run["p99"])[len(rounds) // 2])
    return {**run, **{key: statistics.median(run[key] for run in rounds) for key in MEDIANS}}


def percentile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("inf")


def settled(answers, step, usual):
    """Return for how many seconds after *step* requests were slower than 1.5 times the *usual* p99; 0 without one."""
    slow = [due for due, latency, _ in answers if latency is None or latency > 1.5 * usual]
    return max([due - step for due in slow if due > step], default=0.0) if step else 0.0


def slowest(answers):
    """Return (time, highest latency in ms) for each quarter of a second."""
    bins = {}
    for due, latency, _ in answers:
        if latency is not None:
            bins[int(due * 4)] = max(bins.get(int(due * 4), 0.0), latency)
    return [(number / 4, round(bins[number] * 1e3, 1)) for number in sorted(bins)]


# --- Tables and pictures ---------------------------------------------------------------------------------------------


def best_fixed(runs):
    """Return the name of the best fixed size: throughput, then p99."""
    fixed = {policy: run for policy, run in runs.items() if policy.startswith("fixed:")}
    most = max(run["throughput"] for run in fixed.values())
    good = [policy for policy, run in fixed.items() if run["throughput"] >= AS_GOOD * most]
    return min(good, key=lambda policy: fixed[policy]["p99"])


def cells(run, best):
    of_best = f"{run['throughput'] / best['throughput']:.2f}", f"{run['p99'] / best['p99']:.2f}"
    return (
        f"{run['throughput']:.0f} ({of_best[0]})",
        f"{run['p99'] * 1e3:.0f} ({of_best[1]})",
        f"{run['threads']:.0f}, {run['most']:.0f}",
    )


def report(results):
    """Write the tables between the markers, and a picture for each workload if matplotlib is there."""
    lines = [
        textwrap.fill(
            "Requests/s (of the best fixed size's); p99 in ms (of the best fixed size's); threads on average, at most. "
            f"{results['about']}.",
            WIDTH,
        ),
        "",
        "| workload | best fixed size | " + " | ".join(POLICIES) + " |",
        "|---|---|" + "---|" * len(POLICIES),
    ]
    for name, runs in results["runs"].items():
        if not any(policy.startswith("fixed:") for policy in runs):
            continue
        size = best_fixed(runs)
        best = runs[size]
        row = [
            f"{name}: {WORKLOADS[name].about}",
            f"{size[6:]}: {best['throughput']:.0f}/s, {best['p99'] * 1e3:.0f} ms",
        ]
        row += [", ".join(cells(runs[policy], best)) if policy in runs else "-" for policy in POLICIES]
        lines.append("| " + " | ".join(row) + " |")
    for name in STEPS.keys() & results["runs"].keys():
        runs = results["runs"][name].items()
        after = [f"{policy} {run['settled']:.2f} s" for policy, run in runs if "settled" in run]
        text = f"{name}: for so long after the step there were requests slower than usual: {', '.join(after)}."
        lines += ["", textwrap.fill(text, WIDTH)]
    page = PAGE.read_text()
    mark = re.compile(r"(<!-- table: policies -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(mark.sub(lambda match: match[1] + "\n" + "\n".join(lines) + "\n\n" + match[2], page))
    print("\n".join(lines))
    try:
        draw(results["runs"])
    except ImportError:
        print("no pictures: matplotlib is not there")


def draw(runs):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.style.use("tableau-colorblind10")
    names = list(runs)
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(2 * rows, COLUMNS, figsize=(12, 5 * rows), squeeze=False, layout="constrained")
    for number, name in enumerate(names):
        row, column = 2 * (number // COLUMNS), number % COLUMNS
        goals, latency = axes[row][column], axes[row + 1][column]
        size = best_fixed(runs[name])
        for policy in (size, *POLICIES):
            if policy not in runs[name]:
                continue
            run = runs[name][policy]
            style = (
                {"color": "black", "linestyle": ":", "label": "best fixed size"}
                if policy == size
                else {"label": policy}
            )
            times = [sample[0] for sample in run["samples"]]
            goals.step(times, [sample[1] for sample in run["samples"]], where="post", **style)
            latency.plot(*zip(*run["slowest"]), linewidth=0.9, **style)
        goals.set_title(name)
        goals.set_ylabel("goal (threads)")
        latency.set_yscale("log")
        latency.set_ylabel("slowest request, ms")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(POLICIES) + 1)
    figure.savefig(IMAGES / "policies.svg")
    plt.close(figure)


def show(name, policy, which, run):
    figures = f"{run['throughput']:6.0f}/s  p50 {run['p50'] * 1e3:5.0f}  p99 {run['p99'] * 1e3:6.0f} ms"
    threads = f"threads {run['threads']:5.1f}, {run['most']:3}  failed {run['failed']}  load {run['load']}"
    threads += f"  settled {run['settled']:.2f} s"
    print(f"{name:10} {policy:9} {which}  {figures}  late {run['p99_late'] * 1e3:5.0f}  {threads}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", nargs="+", default=NAMES, choices=WORKLOADS)
    parser.add_argument("--policy", nargs="+", default=[*POLICIES, *(f"fixed:{size}" for size in SIZES)])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are kept")
    parser.add_argument("--max-threads", type=int, default=64)
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        load(int(args.load[0]), args.load[1], float(args.load[2]))
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}
    if not args.report:
        python = f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs"
        results["about"] = f"{date.today()}, {python}, {args.seconds:g} s each, at most {args.max_threads} threads"
        results["about"] += f", medians of {args.rounds} rounds"
        for name in args.workload:
            rounds = {policy: [] for policy in args.policy}
            for number in range(args.rounds):
                for policy, runs in rounds.items():  # interleaved: the machine's drift hits all alike
                    runs.append(measure(name, policy, args.seconds, args.max_threads))
                    show(name, policy, f"round {number + 1}", runs[-1])
            for policy, runs in rounds.items():
                results["runs"].setdefault(name, {})[policy] = median(runs)
                show(name, policy, "median ", results["runs"][name][policy])
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results))
    report(results)


if __name__ == "__main__":
    main()
