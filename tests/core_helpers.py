"""What several test modules share. Nothing here is a fixture."""

import os
import threading
import time
from contextlib import contextmanager

PATIENCE = 60  # s: a safety net; no test takes that long unless something is wrong


def until(claim, patience=PATIENCE):
    """Return as soon as claim() is true: for states that have no event to wait for."""
    end = time.monotonic() + patience
    nap = threading.Event()
    while not claim():
        assert time.monotonic() < end, "it never became true"
        nap.wait(0.001)


@contextmanager
def thread(target, *args):
    """Run target in a thread meanwhile; its exception is raised here."""
    failures = []

    def run():
        try:
            target(*args)
        except BaseException as exc:
            failures.append(exc)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    yield running
    running.join(PATIENCE)
    assert not running.is_alive(), "the thread did not end"
    if failures:
        raise failures[0]


def kill(victim, exception=SystemExit):
    """Set an exception in another thread (PyThreadState_SetAsyncExc); it is raised at its next bytecode.

    Not while that one starts a thread: the new one's state bears its starter's number until it runs, so it would get
    the exception, end before it has begun, and leave the starter waiting for ever.
    """
    import ctypes

    done = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(victim.ident), ctypes.py_object(exception))
    assert done == 1


class Miser:
    """A socket that takes what *appetite* says at each call: bytes, or None for not now."""

    def __init__(self, appetite=()):
        self.appetite = iter(appetite)
        self.taken = b""
        self.closed = False

    def _take(self, data):
        most = next(self.appetite, 1 << 30)
        if most is None:
            raise BlockingIOError
        part = bytes(data[:most])
        self.taken += part
        return len(part)

    def send(self, data):
        return self._take(data)

    def sendmsg(self, parts):
        return self._take(b"".join(parts))

    def fileno(self):
        return -1

    def close(self):
        self.closed = True


def fill_file(file, data):
    file.write(data)
    file.flush()
    return data


def all_ended(name):
    """Wait until no thread lives whose name begins with *name*.

    Those of a test before this one may be about to end: handlers that were cut off, executors that nobody waited for.
    """
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith(name)])


def count_descriptors():
    return len(os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"))
