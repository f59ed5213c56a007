"""Standard error for a server: nobody who writes to it waits for who reads it. And descriptors 0 to 2, always open.

A disk may be full, and a pipe's reader asleep or gone: then lines are dropped, and counted. No request is.
"""

from __future__ import annotations

import io
import os
import queue
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 1 << 20  # characters that wait to be printed, at most
PATIENCE = 0.5  # s: what the end waits for the last of them


def open_standard_descriptors() -> None:
    """Open /dev/null in place of each of the descriptors 0 to 2 that is closed.

    Else the first sockets would get these numbers, and whatever prints to standard error would print to a client.
    Call it before anything else is opened.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
            continue
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
        if opened != fd:
            os.dup2(opened, fd)
            os.close(opened)
        os.set_inheritable(fd, True)  # as these three are (PEP 446)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, errors="backslashreplace", closefd=False))  # noqa: SIM115


class Patient(io.TextIOBase):
    """A text stream that prints to *stream* from a thread of its own.

    Writing never blocks and never raises. What comes while `KEPT` characters wait is dropped, and a line tells how
    much was. A forked child, which has no such thread, and who writes after `stop`, print directly.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._fd = _descriptor(stream)
        self._texts: queue.SimpleQueue[Optional[str]] = queue.SimpleQueue()
        self._lock = threading.RLock()  # a signal's handler may write while its thread is at it
        self._waiting = 0  # characters; guarded by _lock
        self._dropped = 0  # texts; guarded by _lock
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="rocket-stderr", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Print what waits, but don't wait for long."""
        self._texts.put(None)
        self._thread.join(PATIENCE)
        self._pid = 0

    # ------------------------------------------------------------------ any thread: a text stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # writable there, for no reason
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes str, not {type(text).__name__}")
        if os.getpid() != self._pid:
            self._print(text)
            return len(text)
        with self._lock:
            fits = self._waiting + len(text) <= KEPT
            if fits:
                self._waiting += len(text)
            else:
                self._dropped += 1
        if fits:
            self._texts.put(text)
        return len(text)

    # ------------------------------------------------------------------ its thread

    def _run(self) -> None:
        texts: list[Optional[str]] = []
        while None not in texts:
            texts = [self._texts.get()]
            while not self._texts.empty():  # nobody else takes any
                texts.append(self._texts.get())
            text = "".join(filter(None, texts))
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            self._print(f"{text}rocket: {dropped} messages dropped here: nobody read them\n" if dropped else text)
            with self._lock:
                self._waiting -= len(text)
                if self._dropped:
                    self._texts.put("")  # else that is told only when somebody writes again

    def _print(self, text: str) -> None:
        try:
            if self._fd is None:
                self._stream.write(text)
                self._stream.flush()
                return
            # Not by the stream, whose lock a blocked thread would keep: the interpreter could not end.
            data = memoryview(text.encode(self.encoding, self.errors))
            while data:
                data = data[os.write(self._fd, data) :]
        except (OSError, ValueError):
            pass  # ENOSPC, EPIPE, a closed stream: there is no one left to tell


@contextmanager
def patient_stderr() -> Iterator[None]:
    """Put a `Patient` in place of sys.stderr."""
    before = sys.stderr
    patient = Patient(before)
    patient.start()
    sys.stderr = patient
    try:
        yield
    finally:
        sys.stderr = before
        patient.stop()


@contextmanager
def quiet_handshakes() -> Iterator[None]:
    """Print nothing of TLS clients that ask for a name that is not ASCII. Their handshakes fail: logged at DEBUG.

    Python decodes the name before anybody else sees it, and reports what it cannot decode to `sys.unraisablehook`
    (_servername_callback in CPython's Modules/_ssl.c). That prints a traceback, and any client could fill a log so.
    """
    before = sys.unraisablehook

    def report(unraisable: sys.UnraisableHookArgs) -> None:
        trace = unraisable.exc_traceback
        function = trace.tb_frame.f_code.co_name if trace is not None else ""
        if unraisable.exc_type is not UnicodeDecodeError or function != "do_handshake":
            before(unraisable)

    sys.unraisablehook = report
    try:
        yield
    finally:
        if sys.unraisablehook is report:
            sys.unraisablehook = before


def _descriptor(stream: TextIO) -> Optional[int]:
    """Return what *stream* prints to; None if it is no file, as in tests."""
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
