"""A server in a process of its own, which ends with us whatever happens.

Between us and the server stands a keeper (`main`), a small process that holds one end of a pipe whose other end is
ours: when that is closed, on purpose or because this process was killed, it ends the server and all that the server
started. So nothing is left running, also after SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from rocket.bench.load import environment
from rocket.bench.start import start
from rocket.errors import RocketError

APPS = Path(__file__).resolve().parent / "apps"
START = 15.0  # s that a server may take until it listens
STOP = 3.0  # s from SIGTERM to SIGKILL
_LISTENING = re.compile(r"listening on https?://[^\s,]*?:(\d+)")
_LIMIT = re.compile(r"at most (\d+) connections")
_LAST_LINE = re.compile(r"\d+ threads, policy ")  # of what Rocket says when it starts


class ServerFailed(RocketError):
    """The server did not start, or ended too early. The message has what it said last."""


class Served:
    """A server that runs. A context manager: it is ended when the block is left.

    *command* is what to run. *port* is where it will listen; None: it says so itself, as Rocket does.
    Raises ServerFailed if it does not listen within 15 s.
    """

    def __init__(self, command: Sequence[str], port: Optional[int] = None, *, folder: Path = APPS) -> None:
        made = environment()
        # The folder that we are in, too: for a monitor of the user's own, --monitors mine:MyMonitor.
        made["PYTHONPATH"] = os.pathsep.join(filter(None, [made.get("PYTHONPATH", ""), str(folder), os.getcwd()]))
        for name in [each for each in made if each.startswith("ROCKET_")]:
            del made[name]  # the options of the server under test are those of its command
        self._said: deque[str] = deque(maxlen=20)  # filled by the reader, read when it has ended
        self._found = threading.Event()  # it listens, or never will
        self._port: Optional[int] = None
        self.limit: Optional[int] = None  # connections at most, if the server tells
        self._keeper = start(
            [sys.executable, "-m", "rocket.bench.processes", *command],
            stderr=subprocess.PIPE,
            env=made,
            cwd=folder,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="rocket-bench-reader", daemon=True)
        self._reader.start()
        try:
            assert self._keeper.stdout is not None
            line = self._keeper.stdout.readline()
            if not line:  # the keeper could not run it, and ends
                raise ServerFailed(self._last_words())
            self.pid = int(json.loads(line)["pid"])
            self.port = self._wait_for_own_word() if port is None else self._wait_for_port(port)
        except BaseException:
            self.stop()
            raise

    def _read(self) -> None:
        """Read what it says, so that it never waits for us. In a thread of its own."""
        assert self._keeper.stderr is not None
        with contextlib.suppress(ValueError):  # closed by stop()
            for line in self._keeper.stderr:
                self._said.append(line.rstrip())
                if self._found.is_set():
                    continue
                if found := _LISTENING.search(line):
                    self._port = int(found[1])
                elif found := _LIMIT.search(line):
                    self.limit = int(found[1])
                elif _LAST_LINE.search(line):
                    self._found.set()
        self._found.set()

    def _wait_for_own_word(self) -> int:
        self._found.wait(START)
        if self._port is None:
            raise ServerFailed(self._complaint())
        return self._port

    def _wait_for_port(self, port: int) -> int:
        until = time.monotonic() + START
        while time.monotonic() < until and self._keeper.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return port
            time.sleep(0.02)  # nothing tells when another program begins to listen
        raise ServerFailed(self._complaint())

    def _complaint(self) -> str:
        if self._keeper.poll() is None and not self._found.is_set():
            return f"it does not listen after {START:g} s"
        return self._last_words()

    def _last_words(self) -> str:
        self._reader.join(1.0)
        lines = [line for line in list(self._said) if line.strip()]
        return lines[-1] if lines else "it ended without a word"

    def check(self) -> None:
        """Raise ServerFailed if it has ended, with what it said last."""
        if self._keeper.poll() is not None:
            raise ServerFailed(f"it ended under load: {self._last_words()}")

    def stop(self) -> None:
        """End it and what it has started. Any number of times."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(2 * STOP)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._reader.join(1.0)
        self._keeper.stdout.close()
        if not self._reader.is_alive():
            assert self._keeper.stderr is not None
            self._keeper.stderr.close()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def free_port() -> int:
    """Return a port that was free a moment ago, for servers that cannot choose one and tell.

    Where it can be had, one that the system gives to nobody who asks for any: those begin at 32768 on Linux, at 49152
    elsewhere (net.ipv4.ip_local_port_range, RFC 6335), and another program might get it before the server does.
    """
    choose = random.SystemRandom().randrange  # two programs with one seed would choose the same
    for port in (*(choose(20000, 32768) for _ in range(20)), 0):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return int(sock.getsockname()[1])
    raise ServerFailed("there is no free port")


def rocket_command(app: str, *options: str, python: str = sys.executable) -> list[str]:
    """Return the command that serves the application *app* of bench_apps with Rocket."""
    given = ["--app-dir", str(APPS), "--bind", "127.0.0.1:0", "--log-level", "info", *options]
    return [python, "-m", "rocket", "serve", f"bench_apps:{app}", *given]


def main(command: Sequence[str]) -> int:
    """Run *command*, tell its pid, and end it with its whole session when standard input ends."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError as exc:
        print(f"{command[0]}: {exc.strerror}", file=sys.stderr)
        return 1
    ended = threading.Event()
    reading, writing = os.pipe()

    def wait() -> None:
        process.wait()
        ended.set()
        os.write(writing, b"x")

    threading.Thread(target=wait, daemon=True).start()
    try:
        print(json.dumps({"pid": process.pid}), flush=True)
    except BrokenPipeError:  # who started us is gone already: standard input has ended, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it is flushed once more at our end
    select.select([sys.stdin.fileno(), reading], [], [])
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        if ended.wait(STOP) and number == signal.SIGKILL:
            break
        # Once more with SIGKILL in any case: the leader may be gone and its children not.
    return process.returncode or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
