"""How long does the same handler take inside different servers? For the comparison of CPU-bound work.

    python bench/handler.py                                    a small epoll loop in Python, and Rocket
    python bench/handler.py --peers VENV/bin/python            and bjoern and gunicorn, if they are installed there
    python bench/handler.py --rounds 5 --pin                   the server on one CPU, wrk on another

The handler counts to 20,000, as the application `cpu` of the comparisons does, and takes the time itself: the CPU time
of its thread, from its first to its last line. What the server does before and after is not in it, and the code, the
interpreter and the machine are the same, so the differences are in the state that the handler finds. bjoern is
measured twice more. With some Python, as much as a small server's, that the application runs just before the clock
starts: what a server in Python has to do makes the difference. With nothing but eight integers that are made before
the clock starts and kept until it stops: the loop's own integers then lie somewhere else, and that alone costs. Rocket
is measured once more with the loop run twice, and the second run timed: it is no faster, so nothing has to get warm.
All servers are measured in each round, in an order by chance; figures are medians of microseconds. Needs wrk. Loopback
only.
"""

import argparse
import contextlib
import os
import random
import select
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from loopback import free_port, listens

ROOT = Path(__file__).resolve().parent.parent
NEWEST = 3000  # requests whose times are kept
PRELUDE = os.environ.get("HANDLER_PRELUDE", "")  # what the application does before the clock starts
times = []


class Request:
    def __init__(self, path, number):
        self.path = path
        self.number = number

    def key(self):
        return f"{self.path}:{self.number}"


def prelude():
    """Do for 15 us what servers do: make objects, call methods, fill dicts and lists, format texts."""
    for number in range(10):
        request = Request("/", number)
        fields = {"key": request.key(), "numbers": [each + 1 for each in range(5)]}
        fields.get("none")


def loop():
    total = 0
    for i in range(20_000):
        total += i


def app(environ, start_response):
    if PRELUDE == "python":
        prelude()
    elif PRELUDE == "integers":
        kept = [1000 + each for each in range(8)]  # noqa: F841 (it is to be kept)
    elif PRELUDE == "loop":
        loop()
    began = time.thread_time()
    loop()
    times.append(time.thread_time() - began)
    body = b"x"
    if environ["PATH_INFO"] == "/median":
        body = str(statistics.median(times)).encode()
    del times[:-NEWEST]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def small_loop(port):
    """Serve with as little Python as does for wrk: one thread, one epoll, no errors, no HTTP to speak of."""
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    clients = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client = listener.accept()[0]
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            client = clients[fd]
            try:
                asked = client.recv(65536)
            except ConnectionError:
                asked = b""
            if not asked:
                clients.pop(fd).close()
                continue
            (body,) = app({"PATH_INFO": asked.split(b" ", 2)[1].decode()}, lambda status, fields: None)
            with contextlib.suppress(ConnectionError):
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def commands(peers, port):
    """Return what starts each server."""
    code = f"import sys; sys.path[:0] = [{str(ROOT / 'bench')!r}]; import handler; "
    rocket = [sys.executable, "-m", "rocket", "serve", "handler:app", "--bind", f"127.0.0.1:{port}"]
    rocket += ["--app-dir", str(ROOT / "bench"), "--log-level", "error"]
    found = {
        "a loop of 20 lines": [sys.executable, "-c", code + f"handler.small_loop({port})"],
        "rocket": rocket,
        "rocket, 1 thread": [*rocket, "--threads", "1:1"],
        "rocket, the loop a second time": ["env", "HANDLER_PRELUDE=loop", *rocket],
    }
    if peers:
        found["bjoern"] = [peers, "-c", code + f"import bjoern; bjoern.run(handler.app, '127.0.0.1', {port})"]
        found["bjoern, and 15 us of Python before"] = ["env", "HANDLER_PRELUDE=python", *found["bjoern"]]
        found["bjoern, and 8 integers kept"] = ["env", "HANDLER_PRELUDE=integers", *found["bjoern"]]
        found["gunicorn gthread"] = [peers, "-m", "gunicorn", "-k", "gthread", "--threads", "8", "-b"]
        found["gunicorn gthread"] += [f"127.0.0.1:{port}", "--log-level", "error", "handler:app"]
    return found


def measure(name, peers, seconds, pin):
    """Return the median of the handler's CPU time, in us, or None if the server does not start."""
    port = free_port()
    server = subprocess.Popen(
        [*(("taskset", "-c", "0") if pin else ()), *commands(peers, port)[name]],
        cwd=ROOT / "bench",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        if not listens(server, port):
            return None
        load = [*(("taskset", "-c", "1") if pin else ()), "wrk", "-t1", "-c64", f"-d{seconds}"]
        subprocess.run([*load, f"http://127.0.0.1:{port}/"], stdout=subprocess.DEVNULL, check=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/median", timeout=30) as answer:
            return float(answer.read()) * 1e6
    finally:
        server.kill()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="a Python that has bjoern, gunicorn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--pin", action="store_true", help="one CPU for the server, another for wrk (Linux)")
    given = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed")
    figures = {name: [] for name in commands(given.peers, 0)}
    for _ in range(given.rounds):
        for name in random.sample(list(figures), len(figures)):
            figures[name].append(measure(name, given.peers, given.seconds, given.pin))
    print("CPU time of the same handler, us: median of the rounds, lowest and highest")
    for name, each in figures.items():
        if None in each:
            print(f"{name:36} did not start")
        else:
            print(f"{name:36} {statistics.median(each):6.0f}   {min(each):.0f} to {max(each):.0f}")


if __name__ == "__main__":
    main()
