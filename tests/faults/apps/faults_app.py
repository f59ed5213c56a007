"""The application under attack. What it cannot tell by its answers, it tells at /state."""

import _thread
import builtins
import ctypes
import fcntl
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from urllib.parse import parse_qsl

TEXT = ("Content-Type", "text/plain")
BLOCK = b"x" * 65536
ERRORS = "BaseException KeyboardInterrupt SystemExit GeneratorExit StopIteration MemoryError RecursionError ValueError"

state = {"closed": 0, "begun": 0, "cut": 0, "bodies": 0}
lock = threading.Lock()
children = []
KILLED = weakref.WeakSet()  # threads

# Before the server looks at its limits.
if "FAULTS_NOFILE" in os.environ:
    resource.setrlimit(resource.RLIMIT_NOFILE, 2 * (int(os.environ["FAULTS_NOFILE"]),))


def count(what):
    with lock:
        state[what] += 1


def application(environ, start_response):
    """Answer by the path: /sleep?s=2 is `sleep` with s="2"."""
    handler = globals().get("do_" + environ["PATH_INFO"].strip("/"), not_found)
    return handler(environ, start_response, **dict(parse_qsl(environ["QUERY_STRING"])))


def say(start_response, text):
    body = text.encode()
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def not_found(environ, start_response):
    start_response("404 Not Found", [TEXT, ("Content-Length", "0")])
    return []


def do_hello(environ, start_response, **ignored):
    return say(start_response, "hello\n")


def do_state(environ, start_response):
    return say(start_response, json.dumps({**state, "server": environ["rocket.stats"]()}))


def do_sleep(environ, start_response, s):
    time.sleep(float(s))
    return say(start_response, "slept\n")


released = threading.Event()


def do_hold(environ, start_response):
    """Say that it has begun, and answer after SIGUSR2."""
    environ["wsgi.errors"].write("holding\n")
    environ["wsgi.errors"].flush()
    released.wait()
    return say(start_response, "held\n")


signal.signal(signal.SIGUSR2, lambda number, frame: released.set())


def do_upload(environ, start_response):
    """Count the bytes of a body that has come whole; one that was cut is not to get here."""
    size = 0
    try:
        while True:
            block = environ["wsgi.input"].read(65536)
            if not block:
                break
            size += len(block)
    except BaseException:
        count("cut")
        raise
    count("bodies")
    return say(start_response, f"{size}\n")


def do_ignore(environ, start_response):
    """Answer without a look at the body."""
    return say(start_response, "ignored\n")


class Big:
    """Blocks, counted when it is closed."""

    def __init__(self, blocks):
        self.blocks = blocks
        count("begun")

    def __iter__(self):
        return self

    def __next__(self):
        if not self.blocks:
            raise StopIteration
        self.blocks -= 1
        return BLOCK

    def close(self):
        count("closed")


def do_big(environ, start_response, mb="8"):
    blocks = int(mb) * 16
    start_response("200 OK", [TEXT, ("Content-Length", str(blocks * len(BLOCK)))])
    return Big(blocks)


def do_chunks(environ, start_response, n="5"):
    start_response("200 OK", [TEXT])
    return (b"chunk\n" for _ in range(int(n)))


# ---------------------------------------------------------------------- what goes wrong


class Failing:
    """Raises *error* where it is told to."""

    def __init__(self, error, where):
        self.error = error
        self.where = where
        self.blocks = 0

    def __iter__(self):
        if self.where == "iter":
            raise self.error
        return self

    def __next__(self):
        self.blocks += 1
        if self.where == "first" or (self.where == "second" and self.blocks == 2):
            raise self.error
        if self.blocks > 2:
            raise StopIteration
        return b"block\n"

    def close(self):
        if self.where == "close":
            raise self.error


def do_fail(environ, start_response, error, where):
    assert error in ERRORS.split()
    made = getattr(builtins, error)("on purpose")
    if where == "call":
        raise made
    start_response("200 OK", [TEXT])
    if where == "started":
        raise made
    if where == "exit":
        _thread.exit()
    return Failing(made, where)


def do_deep(environ, start_response):
    return do_deep(environ, start_response)


def do_log(environ, start_response, lines="1"):
    """Write to wsgi.errors, whatever becomes of it."""
    for _ in range(int(lines)):
        environ["wsgi.errors"].write("x" * 1000 + "\n")
        environ["wsgi.errors"].flush()
    return say(start_response, "logged\n")


def do_kill(environ, start_response, which):
    """Set an exception in worker threads: in the one that polls, in those that sleep, or in all but this one.

    No thread gets two: the second would hit it while it logs the first, and it would take logging's lock with it.
    """
    chosen = []
    while not chosen:  # the lead is taken by another, once this handler has kept its worker for some time
        time.sleep(0.01)
        chosen = [thread for thread, leads in others() if which == "all" or leads == (which == "leader")]
    for thread in chosen:
        KILLED.add(thread)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    return say(start_response, json.dumps(len(chosen)))


def others():
    """Return the other worker threads that were not killed yet, each with whether it polls."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if (
            thread.name.startswith("rocket-worker")
            and thread is not threading.current_thread()
            and thread not in KILLED
        ):
            frame, functions = frames.get(thread.ident), set()
            while frame is not None:
                functions.add(frame.f_code.co_name)
                frame = frame.f_back
            yield thread, "poll" in functions


# ---------------------------------------------------------------------- processes, descriptors, threads


def do_cloexec(environ, start_response):
    """Tell which descriptors a child would inherit: all but the standard ones should be closed."""
    open_ones = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and not fcntl.fcntl(int(name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                open_ones[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the listing's own
    return say(start_response, json.dumps(open_ones))


def do_popen(environ, start_response):
    """Start a child that lives on, and inherits whatever it can."""
    child = subprocess.Popen(["sleep", "60"], close_fds=False, stderr=subprocess.DEVNULL)
    children.append(child.pid)
    return say(start_response, str(child.pid))


def do_fork(environ, start_response, how):
    """Fork. *how* the child ends: at once, by an exception, by answering; or it lives on, for a while."""
    pid = os.fork()
    if pid == 0:
        if how == "_exit":
            os._exit(0)
        if how == "exit":
            sys.exit(0)
        if how == "live":
            time.sleep(60)
            os._exit(0)
        return say(start_response, "from the child\n")
    children.append(pid)
    return say(start_response, str(pid))


held = []


def do_hoard(environ, start_response):
    """Take all descriptors."""
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        pass
    return say(start_response, f"{len(held)}\n")


def release_held(number, frame):
    while held:
        os.close(held.pop())


signal.signal(signal.SIGUSR1, release_held)


def do_limit(environ, start_response):
    """Let no more threads be started: each one needs memory for its stack."""
    status = Path("/proc/self/statm").read_text().split()
    size = int(status[0]) * resource.getpagesize() + (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    return say(start_response, "limited\n")


def do_unlimit(environ, start_response):
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return say(start_response, "unlimited\n")


def do_objects(environ, start_response):
    gc.collect()
    return say(start_response, str(len(gc.get_objects())))
