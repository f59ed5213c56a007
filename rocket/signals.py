"""SIGTERM and SIGINT as something to wait for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Optional

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Wait for one of *numbers* (SIGTERM and SIGINT), or a call of `wake`. A context manager.

    What was there before is put back. Handlers of other signals run while it waits.

    The signals go through a pipe (signal.set_wakeup_fd), not through a lock: a signal that comes just
    before the main thread waits for a lock does not wake it, and would be lost. Outside of the main thread
    there is only `wake`, because Python runs signal handlers nowhere else.
    """

    def __init__(self, numbers: Sequence[signal.Signals] = STOPPING) -> None:
        self._numbers = numbers
        self._entered = False  # in the main thread
        self.count = 0  # of signals so far: written by handlers, which run in the main thread, and `interrupt`
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._lock = threading.Lock()  # guards _write against being closed under `wake`
        self._handlers: dict[signal.Signals, Any] = {}
        self._wakeup_fd = -1

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._entered = True
            self._wakeup_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._handlers = {number: signal.signal(number, self._handle) for number in self._numbers}
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], exc: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._entered:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_fd)
        with self._lock:
            write, self._write = self._write, -1  # before it is closed: a signal's handler may call `interrupt` now
            os.close(write)
        os.close(self._read)

    def wait(self) -> int:
        """Block until a signal comes, and return its number; 0 after `wake`."""
        while True:
            number = os.read(self._read, 1)[0]
            if number == 0 or number in self._numbers:
                return number

    def wake(self) -> None:
        """Let `wait` return. Any thread."""
        with self._lock:
            if self._write >= 0:
                try:
                    os.write(self._write, b"\0")
                except BlockingIOError:
                    pass  # the pipe is full of bytes that wake as well

    def interrupt(self, count: int = 1) -> None:
        """Do as if *count* signals had come. In the thread that waits, that is in a signal's handler: takes no lock."""
        self.count += count
        if self._write >= 0:
            try:
                os.write(self._write, b"\0")
            except BlockingIOError:
                pass

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        self.count += 1
