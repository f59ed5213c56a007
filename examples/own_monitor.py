"""A monitor of one's own: ``rocket serve --app-dir examples --monitor own_monitor:CountingMonitor``.

One that wraps another system call is a subclass of `rocket.monitors.Monitor`, or of
`rocket.monitors.base.LazyMonitor`: see rocket/monitors/poll.py, which has 30 lines.
tests/monitors/test_contract.py says what it has to do.
"""

from __future__ import annotations

import atexit
import sys

from rocket.monitors.poll import PollMonitor


class CountingMonitor(PollMonitor):
    """poll(2), and at the end of the process a line on how much each call brought."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self._calls = self._events = 0  # of the polling thread: there is one at a time
        atexit.register(self.report)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        ready = super().poll(timeout)
        self._calls += 1
        self._events += len(ready)
        return ready

    def report(self) -> None:
        print(f"poll(2) was called {self._calls} times, for {self._events} events", file=sys.stderr)
