"""The server under attack: that of tests/e2e, with the figures of its process."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from e2e_server import ROOT, ServerProcess, command, until  # noqa: E402
from faults_client import ask  # noqa: E402

__all__ = ["APPS", "ROOT", "Server", "command", "until"]

APPS = Path(__file__).parent / "apps"
MB = 1 << 20


class Server(ServerProcess):
    """`rocket serve faults_app` in a process of its own."""

    def __init__(self, *arguments, app="faults_app", **options):
        super().__init__(app, *arguments, app_dir=APPS, **options)

    @property
    def rss(self):
        """Its resident memory in bytes."""
        return self.handle.memory_info().rss

    @property
    def fds(self):
        return self.handle.num_fds()

    def cpu(self):
        """Seconds of CPU that it has used."""
        times = self.handle.cpu_times()
        return times.user + times.system

    def cpu_share(self, duration):
        """Watch it for *duration* seconds; return which share of a CPU it took."""
        before, began = self.cpu(), time.monotonic()
        time.sleep(duration)
        return (self.cpu() - before) / (time.monotonic() - began)

    def state(self):
        """What the application and the server tell about themselves."""
        return json.loads(ask(self.address, "/state")[1])

    def warm_up(self):
        """Have imported, started and cached what the first requests need, so that figures can be compared."""
        for _ in range(20):
            ask(self.address)
        until(lambda: self.state()["server"]["connections"] <= 1, "its connections are closed")
