"""What do idle connections cost: memory, speed, and system calls?

    python bench/idle.py [--connections 5000] [--rounds 5] [--seconds 2] [--options "--monitor poll"] [--json]

Two servers are started, both serve `hello` of this file. One has the idle keep-alive connections, the other none.
The load (wrk, 64 connections) goes to one after the other, round after round, so that the machine's drift hits both
alike; figures are medians. Then both rest: CPU time by psutil, system calls by strace. Needs wrk and strace, and an
open-file limit above the number of connections (ulimit -n). Loopback only.
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from loopback import free_port, wrk

HERE = Path(__file__).resolve().parent
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SETTLE = 2.0  # s: what is in progress ends, and the pool's guard goes to sleep
LOAD_CONNECTIONS = 64


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


@contextmanager
def serving(options):
    """Run a server; yield its process and port."""
    port = free_port()
    where = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "rocket", "serve", "idle:hello", "--app-dir", str(HERE)]
    process = psutil.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "--keep-alive", "3600", *shlex.split(options)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, where))},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:  # its start-up lines; the last one names the pool
            if " policy " in line:
                break
        else:
            sys.exit("the server did not start")
        yield process, port
    finally:
        process.terminate()
        process.communicate(timeout=30)


def connect(port, count):
    """Return *count* connections, each idle after a request."""
    connections = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 10)
        sock.sendall(REQUEST)
        if not sock.recv(4096).endswith(b"Hello, World!"):
            sys.exit("the server did not answer")
        connections.append(sock)
    return connections


def load(port, seconds):
    """Return requests/s."""
    return wrk(f"http://127.0.0.1:{port}/", LOAD_CONNECTIONS, seconds)[1]


def cpu_seconds(process, seconds):
    """Return the CPU time that *process* takes in *seconds*."""
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return round(after.user - before.user + after.system - before.system, 2) + 0.0  # no -0.0


def system_calls(process, seconds):
    """Return how many system calls *process* makes in *seconds*, or None without strace."""
    if shutil.which("strace") is None:
        return None
    with tempfile.NamedTemporaryFile("r") as trace:
        tracer = subprocess.Popen(["strace", "-f", "-ttt", "-qq", "-o", trace.name, "-p", str(process.pid)])
        begin = time.time() + 1.0  # attaching interrupts what is in progress, and that is called again
        time.sleep(1.0 + seconds)
        tracer.terminate()
        tracer.wait()
        times = [float(line.split()[1]) for line in trace if "resumed>" not in line and "+++" not in line]
    return sum(begin <= moment < begin + seconds for moment in times)


def measure(args):
    with ExitStack() as stack:
        (busy, busy_port), (bare, bare_port) = (stack.enter_context(serving(args.options)) for _ in range(2))
        for port in (busy_port, bare_port):
            load(port, 1)
        time.sleep(SETTLE)
        before = busy.memory_info().rss
        connections = [stack.enter_context(sock) for sock in connect(busy_port, args.connections)]
        time.sleep(SETTLE)
        memory = (busy.memory_info().rss - before) / len(connections)
        rates = {"with": [], "without": []}
        for _ in range(args.rounds):
            rates["with"].append(load(busy_port, args.seconds))
            rates["without"].append(load(bare_port, args.seconds))
        time.sleep(SETTLE)
        alive = sum(_is_open(sock) for sock in connections)
        return {
            "options": args.options,
            "connections": args.connections,
            "still_open": alive,
            "bytes_per_connection": round(memory),
            "with": round(statistics.median(rates["with"])),
            "without": round(statistics.median(rates["without"])),
            "loss": round(1 - statistics.median(a / b for a, b in zip(rates["with"], rates["without"])), 4),
            "rest_seconds": args.rest,
            "cpu_at_rest": {"with": cpu_seconds(busy, args.rest), "without": cpu_seconds(bare, args.rest)},
            "calls_at_rest": {"with": system_calls(busy, args.rest), "without": system_calls(bare, args.rest)},
        }


def _is_open(sock):
    sock.setblocking(False)
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of load, each time")
    parser.add_argument("--rest", type=int, default=10, help="seconds at rest")
    parser.add_argument("--options", default="", help="further options for the server")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it
    found = measure(args)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['connections']} idle connections, {found['still_open']} still open at the end")
    print(f"{found['bytes_per_connection']} bytes of resident memory each")
    lost = f"{abs(found['loss']):.1%} " + ("less" if found["loss"] > 0 else "more, which is noise")
    print(f"{found['with']} requests/s beside them, {found['without']} without: {lost}")
    for words, which in (("with them", "with"), ("without any", "without")):
        cpu, calls = found["cpu_at_rest"][which], found["calls_at_rest"][which]
        print(f"at rest {words}, {found['rest_seconds']} s: {cpu:.2f} s of CPU, {calls} system calls")


if __name__ == "__main__":
    main()
