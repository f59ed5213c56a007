"""The process in which the application runs while it is tuned: servers one after the other, ordered through a pipe.

The figures go through the pipe, too: not over the port that is measured. One line of JSON each way; the process ends
when the pipe does.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Optional

from rocket.errors import RocketError
from rocket.gil import gil_enabled
from rocket.pools.readings import Sampler, find_groups, read_file, total_memory
from rocket.server import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

GROUPS = ("/proc/self/cgroup", "/proc/self/mountinfo")
LEAVE = 10.0  # s to end in, for an application that has requests in progress
NEEDS = frozenset({"rss", "mem_free"})


def obey(app: WSGIApplication, orders: IO[str], answers: IO[str]) -> None:
    """Do what the lines of *orders* say until they end: start with options, figures, memory, stop."""
    import json

    _print_failures(20)
    hands = _Hands(app)

    def answer(found: dict[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    try:
        answer({"ready": True})
        for line in orders:
            order = json.loads(line)
            try:
                answer(getattr(hands, order["do"])(**order.get("with", {})))
            except RocketError as exc:
                answer({"error": str(exc)})
    except BrokenPipeError:
        pass  # who ordered is gone
    finally:
        hands.stop()


def end_with(orders: int) -> None:
    """Have this process end soon after the pipe *orders* was closed at its other end, whatever the application does.

    It ends by itself as it comes to read from there. It never does if the application hangs while it is imported, and
    who ordered may be gone without a word (SIGKILL).
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(orders, 0)  # POLLHUP alone: what there is to read is for others
        poll.poll()
        time.sleep(LEAVE)
        os._exit(1)

    threading.Thread(target=watch, name="rocket-tune-watch", daemon=True).start()


def _print_failures(most: int) -> None:
    """Print what the application raises, *most* times: it goes where the application's output goes."""
    import itertools
    import logging

    handler, counter = logging.StreamHandler(), itertools.count()
    handler.setLevel(logging.ERROR)
    handler.addFilter(lambda _: next(counter) < most)
    logging.getLogger("rocket").addHandler(handler)


class _Hands:
    """What can be ordered: each method returns its answer."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._server: Optional[Server] = None
        self._sampler = Sampler()

    def start(self, **options: Any) -> dict[str, Any]:
        self.stop()
        server = Server(self._app, **{**options, "bind": "127.0.0.1:0"})
        server.start()
        self._server = server
        return {
            "port": server.addresses[0][1],
            "monitor": server.stats["monitor"],
            "gil": gil_enabled(),
            "cpus": self._sampler.cpus(time.monotonic()),
            "memory": total_memory(find_groups(*map(read_file, GROUPS)).memory, read_file)[0],
        }

    def figures(self) -> dict[str, Any]:
        """Return sums since the server's start, to be subtracted from one another, and states now.

        Nothing here asks the system: each call that does lets the GIL go, and beside threads that compute it comes back
        late, at worst a second later.
        """
        assert self._server is not None
        now, process_cpu, stats = time.monotonic(), time.process_time(), self._server.stats
        return {
            "now": now,
            "process_cpu": process_cpu,
            "worker_cpu": stats["cpu_seconds"],
            "busy_seconds": stats["busy_seconds"],
            "turn_seconds": stats["turn_seconds"],
            "turns": stats["turns"],
            "threads": stats["threads"],
        }

    def memory(self) -> dict[str, Any]:
        """Return what is resident, in bytes, and which share of the memory is free."""
        dear = self._sampler.dear(time.monotonic(), NEEDS)
        return {"rss": dear.get("rss"), "mem_free": dear.get("mem_free")}

    def stop(self) -> dict[str, Any]:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        return {"stopped": True}


def open_pipes(orders: int, answers: int) -> tuple[IO[str], IO[str]]:
    """Return the files of the two descriptors that this process has inherited; its children shall not."""
    for fd in (orders, answers):
        os.set_inheritable(fd, False)
    return os.fdopen(orders, encoding="utf-8"), os.fdopen(answers, "w", encoding="utf-8")
