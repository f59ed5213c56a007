"""Programs as they were written for Rocket 1.x and rocket3, run as processes."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from core_helpers import PATIENCE

ROOT = Path(__file__).parent.parent.parent

# What a test adds to a program: it shows where it listens, by the message that Rocket always logged.
PRELUDE = """\
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
"""


class Program:
    """A running program, and the lines that it has printed."""

    def __init__(self, folder, source, *arguments):
        path = Path(folder) / "program.py"
        path.write_text(PRELUDE + source)
        self._lines = []  # guarded by _arrived
        self._arrived = threading.Condition()
        self._ended = False  # guarded by _arrived
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ROCKET_")}
        self.process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            cwd=folder,
            env={**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._arrived:
                self._lines.append(line.rstrip("\n"))
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    @property
    def output(self):
        with self._arrived:
            return "\n".join(self._lines)

    def line(self, pattern, count=1):
        """Wait for the *count*-th line that matches *pattern*; return the match."""

        def found():
            matches = list(filter(None, (re.search(pattern, line) for line in self._lines)))
            return matches[count - 1] if len(matches) >= count else None

        with self._arrived:
            self._arrived.wait_for(lambda: found() or self._ended, PATIENCE)
            match = found()
            assert match, f"no line like {pattern!r} in\n" + "\n".join(self._lines)
            return match

    def url(self, count=1):
        return f"http://{self.line(r'Listening on sockets: ([^ ,]+)', count)[1]}/"

    def ask(self, path="", count=1):
        with urllib.request.urlopen(self.url(count) + path, timeout=PATIENCE) as response:
            return response.read()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """Return the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def end(self):
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join(PATIENCE)
        self.process.stdout.close()
