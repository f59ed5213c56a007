"""The whole server, with threads that take turns as often as they can: nothing is lost, nothing is served twice."""

import random
import socket
import threading
from collections import Counter

import pytest
from core_helpers import PATIENCE, thread, until

from rocket import Server
from rocket.monitors import MONITORS

HERE = [name for name, monitor in MONITORS.items() if monitor.unavailable() is None]


class Echo:
    """Answers with the request's path; now and then it takes its time, or is long. Counts what it saw."""

    def __init__(self):
        self.seen = Counter()  # guarded by _lock: without the GIL `+= 1` could hide what was served twice
        self._lock = threading.Lock()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        with self._lock:
            self.seen[path] += 1
        kind = path.rpartition("-")[2]
        if kind == "slow":
            threading.Event().wait(0.003)
        start_response("200 OK", [])
        return [path.encode() * (100_000 if kind == "long" else 1)]


def client(address, name, rounds, may_be_evicted, failures):
    """One after the other: kept, pipelined, cut in two, half sent. Each answer must be the right one.

    A full server lets connections go on which it has not seen a request: what is on its way then is lost.
    """
    choose = random.Random(name)
    try:
        for i in range(rounds):
            with socket.create_connection(address, timeout=PATIENCE) as sock:
                reader = sock.makefile("rb")
                for j in range(choose.randint(1, 4)):
                    paths = [
                        f"/{name}-{i}-{j}-{k}-{choose.choice(['quick', 'quick', 'slow', 'long'])}"
                        for k in range(choose.choice([1, 1, 1, 5]))
                    ]
                    data = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
                    cut = choose.randrange(len(data)) if choose.random() < 0.3 else 0
                    try:
                        sock.sendall(data[:cut])
                        sock.sendall(data[cut:])
                        begun = reader.peek(1)
                    except ConnectionError:
                        begun = b""
                    if may_be_evicted and not begun:
                        break
                    for path in paths:
                        expect(reader, path)
                else:
                    if choose.random() < 0.3:
                        sock.sendall(data[:20])  # and away
    except BaseException as exc:
        failures.append((name, exc))


def expect(reader, path):
    assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
    length = 0
    while (line := reader.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    body = path.encode() * (100_000 if path.endswith("long") else 1)
    assert length == len(body)
    assert reader.read(length) == body


def storm(monitor, clients, rounds, **options):
    app, failures = Echo(), []
    server = Server(app, bind="127.0.0.1:0", monitor=monitor, defer_accept=False, **options)
    with server:
        may_be_evicted = "max_connections" in options
        runs = [thread(client, server.addresses[0], i, rounds, may_be_evicted, failures) for i in range(clients)]
        for run in runs:
            run.__enter__()
        for run in runs:
            run.__exit__(None, None, None)
        assert failures == []
        # Both: a worker forgets its connection after that was closed.
        until(lambda: (now := server.stats)["connections"] == now["busy"] == 0)
        stats = server.stats
        assert stats["accepted"] == stats["closed"] == clients * rounds
        assert (stats["queued"], stats["parked"], stats["busy"]) == (0, 0, 0)
    assert max(app.seen.values()) == 1


@pytest.mark.parametrize("monitor", HERE)
def test_nothing_is_lost_or_served_twice(monitor, hasty_threads):
    storm(monitor, clients=8, rounds=4, min_threads=2, max_threads=6)


@pytest.mark.parametrize("monitor", HERE)
def test_nothing_is_lost_on_a_server_that_is_always_full(monitor, hasty_threads):
    storm(monitor, clients=8, rounds=3, min_threads=1, max_threads=3, max_connections=3)


@pytest.mark.slow
@pytest.mark.parametrize("monitor", HERE)
def test_nothing_is_lost_for_long(monitor, hasty_threads):
    storm(monitor, clients=24, rounds=40, min_threads=2, max_threads=16)
