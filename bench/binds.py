"""Is a unix socket slower than TCP?

    python bench/binds.py [--rounds 9] [--seconds 3] [--connections 64] [--options "--threads 8"]

One server listens on both, and serves `hello` of this file. h2load (Debian: nghttp2-client), which speaks HTTP/1.1
over either, asks through one and the other in turn, over kept connections; the order changes each round, so that the
machine's drift hits both alike. Figures are medians; CPU is the server's, by psutil. Loopback only.
"""

import argparse
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


def load(target, connections, seconds):
    """Return the requests/s of h2load against *target*, its option for the address."""
    command = ["h2load", "--h1", "-D", str(seconds), "-c", str(connections), "-B", target, "http://localhost/"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = int(re.search(r"(\d+) succeeded", output)[1])
    failed = int(re.search(r"(\d+) failed", output)[1])
    if failed or not done:
        sys.exit(f"{failed} requests failed:\n{output}")
    return done / seconds


def measure(process, targets, arguments):
    """Return requests/s and us of CPU a request for each kind, one of each a round."""
    figures = {kind: [] for kind in targets}
    for number in range(arguments.rounds + 1):
        for kind in sorted(targets, reverse=bool(number % 2)):
            before = sum(process.cpu_times()[:2])
            rate = load(targets[kind], arguments.connections, arguments.seconds)
            cpu = sum(process.cpu_times()[:2]) - before
            if number:  # the first round warms up
                figures[kind].append((rate, cpu / rate / arguments.seconds * 1e6))
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--options", default="--threads 8")
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed (Debian: nghttp2-client)")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        where = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
        options = ["--bind", "127.0.0.1:0", "--bind", f"unix:{path}", "--max-requests-per-connection", "0"]
        command = [sys.executable, "-m", "rocket", "serve", "binds:hello", "--app-dir", str(HERE), *options]
        process = psutil.Popen(
            [*command, *shlex.split(arguments.options)],
            env={**os.environ, "PYTHONPATH": where},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            url = next((m[1] for line in process.stderr if (m := re.search(r"listening on (\S+)/,", line))), None)
            if url is None:
                sys.exit("the server did not start")
            figures = measure(process, {"TCP": url, "unix": f"unix:{path}"}, arguments)
        finally:
            process.terminate()
            process.wait()
    print("| bind | requests/s | lowest to highest | us of CPU a request |\n|---|--:|--:|--:|")
    for kind, pairs in figures.items():
        rates, cpus = zip(*pairs)
        low, high, cpu = min(rates), max(rates), statistics.median(cpus)
        print(f"| {kind} | {statistics.median(rates):,.0f} | {low:,.0f} to {high:,.0f} | {cpu:.1f} |")
    pairs = zip(figures["TCP"], figures["unix"])
    ratio = statistics.median(unix[0] / tcp[0] for tcp, unix in pairs)
    print(f"\nunix / TCP, median of the rounds: {ratio:.2f}")


if __name__ == "__main__":
    main()
