"""The server under attack: that of tests/e2e with faults_app, and the figures of its process."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e_server import ServerProcess, until
from faults_client import ask

APPS = Path(__file__).parent / "apps"
MB = 1 << 20
MONITOR = os.environ.get("FAULTS_MONITOR", "auto")  # to try them all
ESTABLISHED = "01"  # in /proc/net/tcp
LISTEN = "0A"


class Server(ServerProcess):
    """`rocket serve faults_app` in a process of its own."""

    def __init__(self, *arguments, app="faults_app", **options):
        self.context = options.pop("context", None)  # an ssl.SSLContext, to ask a server that speaks TLS
        # One heap of glibc's for all threads. By default each thread gets one of its own, and each of these grows to
        # the highest that its thread ever had at once: for hours, while what is in use stays the same
        # (docs/deploying.md). A leak grows with one heap as with many.
        options.setdefault("MALLOC_ARENA_MAX", os.environ.get("MALLOC_ARENA_MAX", "1"))
        super().__init__(app, "--monitor", MONITOR, *arguments, app_dir=APPS, **options)

    # ------------------------------------------------------------------ figures

    @property
    def rss(self):
        """Its resident memory in bytes."""
        return self.handle.memory_info().rss

    @property
    def fds(self):
        return self.handle.num_fds()

    @property
    def threads(self):
        return self.handle.num_threads()

    def cpu_share(self, duration):
        """Watch it for *duration* seconds; return which share of a CPU it took."""
        began, before = time.monotonic(), self._cpu()
        time.sleep(duration)
        return (self._cpu() - before) / (time.monotonic() - began)

    def _cpu(self):
        times = self.handle.cpu_times()
        return times.user + times.system

    def state(self):
        """What the application and the server tell about themselves."""
        return json.loads(ask(self.address, "/state", context=self.context).body)

    @property
    def connections(self):
        """How many connections it has, but for the one that asks."""
        return self.state()["server"]["connections"] - 1

    def regains_strength(self, threads=8):
        """Wait until that many requests are served side by side: a thread that is lost for good never comes back."""
        until(lambda: self.capacity(threads) < 1.2, f"{threads} requests are served side by side")

    def capacity(self, requests):
        """Return how long *requests* take that sleep for half a second each, side by side."""
        began = time.monotonic()
        with ThreadPoolExecutor(requests) as pool:
            answers = list(
                pool.map(lambda _: ask(self.address, "/sleep?s=0.5", context=self.context).status, range(requests))
            )
        assert answers == [200] * requests
        return time.monotonic() - began

    # ------------------------------------------------------------------ events

    def warm_up(self):
        """Import, start and cache what the first requests need, so that figures can be compared."""
        for _ in range(20):
            ask(self.address, context=self.context)
        until(lambda: not self.connections, "its connections are closed")

    def idles(self, most, duration=1):
        """Wait until it takes less than *most* of a CPU: what looks at everything again and again always takes more."""
        until(lambda: self.cpu_share(duration) < most, f"it takes less than {most:.0%} of a CPU")

    def has_closed_all_answers(self):
        """Wait until each iterable that was begun is closed: that may be after its connection."""
        until(lambda: (state := self.state())["begun"] == state["closed"], "all iterables are closed")

    def recovers(self, before):
        """Wait until descriptors and threads are as *before*, a result of `holds`, and it serves."""
        until(lambda: not self.connections, "its connections are closed")
        self.settle(before)
        assert ask(self.address, context=self.context).status == 200


def tcp_states(port):
    """Return the state of each TCP socket of this host on the local *port*, also of those no process has any more."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if int(local.rpartition(":")[2], 16) == port:
            found.append(state)
    return found
