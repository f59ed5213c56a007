"""A program that runs as a process, and what it prints: for tests of what people start."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from core_helpers import PATIENCE

ROOT = Path(__file__).parent.parent


class Reading:
    """A process, and the lines that it prints to *stream*, a pipe, read as they come."""

    def __init__(self, process, stream):
        self.process = process
        self._stream = stream
        self._lines = []  # guarded by _arrived
        self._arrived = threading.Condition()
        self._ended = False  # no more lines; guarded by _arrived
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._stream:
            with self._arrived:
                self._lines.append(line.rstrip("\n"))
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    @property
    def log(self):
        with self._arrived:
            return "\n".join(self._lines)

    def line(self, pattern, count=1, patience=PATIENCE):
        """Wait for the *count*-th line that matches *pattern*; return the match."""

        def found():
            matches = list(filter(None, (re.search(pattern, line) for line in self._lines)))
            return matches[count - 1] if len(matches) >= count else None

        with self._arrived:
            self._arrived.wait_for(lambda: found() or self._ended, patience)
            match = found()
            assert match, f"no line like {pattern!r} in\n" + "\n".join(self._lines)
            return match

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """Return the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def stop(self):
        """Stop it as an operator does; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


class Process(Reading):
    """Python with *arguments* in *folder*, and the lines that it has printed.

    *listening* matches the line that tells where it listens; its first group is HOST:PORT.
    """

    def __init__(self, *arguments, folder, listening=r"http://([^ ,]+?)/", **variables):
        self._listening = listening
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ROCKET_", "DJANGO_"))}
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env={**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        super().__init__(process, process.stdout)

    def url(self, count=1):
        return f"http://{self.line(self._listening, count)[1]}/"

    def ask(self, path="", data=None, *, count=1):
        """Return what it answers, where it listens since its *count*-th start."""
        with urllib.request.urlopen(self.url(count) + path, data, timeout=PATIENCE) as response:
            return response.read()

    def end(self):
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        self.process.stdout.close()
