"""Start a child process in a way that Ctrl-C cannot leave one behind that nobody knows of."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, Optional

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 10.0  # s


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Return a process of *command*, which must end when its standard input does; *options* are Popen's.

    A signal that comes while Popen waits for the new process would raise KeyboardInterrupt in there: the process would
    run, and its number be lost. So it is held until then; if one came, the process is ended and the signal's own
    handler called. In the main thread only, as others have no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return _popen(command, options)
    held: list[tuple[int, Optional[FrameType]]] = []
    # What is ignored stays so: SIGHUP under nohup.
    heeded = [number for number in ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, lambda *come: held.append(come)) for number in heeded}
    try:
        process = _popen(command, options)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        _end(process)
        handler = before[signal.Signals(held[0][0])]
        if callable(handler):
            handler(*held[0])
        else:
            signal.raise_signal(held[0][0])
    return process


def _popen(command: Sequence[str], options: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
