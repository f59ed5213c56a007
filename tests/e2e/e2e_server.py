"""The real server: `python -m rocket serve` in a process of its own, with what it prints and what it holds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
from process_helpers import ROOT, Reading

APPS = Path(__file__).parent / "apps"
PATIENCE = 60.0  # s: for what takes milliseconds; the host may be busy


def until(claim, what, patience=PATIENCE):
    """Ask *claim* until it holds; return what it returned. For processes, which announce nothing."""
    end = time.monotonic() + patience
    while True:
        answer = claim()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {patience:g} s: {what}"
        threading.Event().wait(0.01)


def command(*arguments, cwd, **variables):
    """Return how to run `rocket` *arguments*: the keywords of `subprocess.Popen`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROCKET_")}
    env = {**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **variables}
    return {"args": [sys.executable, "-m", "rocket", *arguments], "cwd": cwd, "env": env, "stdin": subprocess.DEVNULL}


def rocket(*arguments, cwd, **variables):
    """Return what a `rocket` that ends by itself does."""
    return subprocess.run(
        **command(*arguments, cwd=cwd, **variables), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def listens_on(pid):
    """Return the TCP ports that the process listens on."""
    try:
        process = psutil.Process(pid)
        found = getattr(process, "net_connections", None) or process.connections  # before psutil 6
        return {each.laddr.port for each in found("tcp") if each.status == psutil.CONN_LISTEN}
    except psutil.Error:
        return set()  # it has ended


class ServerProcess(Reading):
    """`rocket serve` on a free port, started and listening; with a folder as *files*, `rocket files`; "": of *cwd*.

    `expects_errors` is set by a test whose application fails on purpose: in all others a traceback
    in the log is a failure.

    *before* is the beginning of a command that runs ours at its end, *pass_fds* the descriptors that it
    inherits. Without TCP it has no `url` and no `address`.
    """

    def __init__(
        self, *arguments, cwd, app_dir=APPS, files=None, bind="127.0.0.1:0", before=(), pass_fds=(), **variables
    ):
        self.expects_errors = False
        what = ["serve", "--app-dir", str(app_dir)] if files is None else ["files", *([str(files)] if files else [])]
        given = command(*what, "--bind", bind, *arguments, cwd=cwd, **variables)
        given["args"] = [*before, *given["args"]]
        process = subprocess.Popen(
            **given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds
        )
        super().__init__(process, process.stderr)
        try:
            listening = self.line(r"listening on (.*)")[1]
            self.line(r"threads, policy")  # the last of the start-up lines
        except BaseException:
            self.kill()
            raise
        self.url = self.address = None
        found = re.search(r"https?://(\S+):(\d+)/", listening)
        if found:
            self.url = found[0].rstrip("/")
            self.address = found[1].strip("[]"), int(found[2])
        self.handle = psutil.Process(self.process.pid)

    # ------------------------------------------------------------------ what it holds

    def stats(self, path="/stats"):
        """Its figures, over a connection that is closed afterwards."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as response:
            return json.load(response)

    def holds(self):
        """How many threads and descriptors it has."""
        return self.handle.num_threads(), self.handle.num_fds()

    def settle(self, before):
        """Wait until it holds no more than *before*, a result of `holds`."""

        def settled():
            now = self.holds()
            return now[0] <= before[0] and now[1] <= before[1]

        try:
            until(settled, "settled")
        except AssertionError:
            raise AssertionError(f"held {before} threads and descriptors, now {self.holds()}:\n{self.log}") from None

    def rest(self, seconds=0.5):
        """Wait until none of its threads has run for *seconds*. On Linux."""
        until(lambda: self._rests(seconds), "at rest", PATIENCE + 10 * seconds)

    def _rests(self, seconds):
        before = self._switches()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return self._switches() == before
        raise AssertionError(f"it has ended:\n{self.log}")

    def _switches(self):
        """How often each of its threads has given up a CPU or lost it."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                found[task.name] = re.findall(r"switches:\s*(\d+)", (task / "status").read_text())
            except OSError:
                found[task.name] = None  # it has just ended
        return found

    # ------------------------------------------------------------------ the end

    def wait(self):
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGABRT)  # faulthandler shows the stacks
            self._reader.join(PATIENCE)
            raise AssertionError(f"it did not end:\n{self.log}") from None
        self._reader.join(PATIENCE)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        # Not closed while it is read: that would wait for the reader.
        assert not self._reader.is_alive(), f"a process that it left behind holds its stderr:\n{self.log}"
        self.process.stderr.close()

    def check(self):
        """Stop it if it still runs, and say what is wrong with how it went."""
        try:
            if self.process.poll() is None:
                assert self.stop() == 0, self.log
            if not self.expects_errors:
                assert "Traceback" not in self.log, self.log
        finally:
            self.kill()
