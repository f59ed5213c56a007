"""Four applications whose limits are known: what `rocket tune` has to find out. Used by bench/tune_check.py."""

import threading
import time

POOL = 4  # "database connections"

_pool = threading.BoundedSemaphore(POOL)


def waits(environ, start_response):
    """Wait 50 ms, for a database say. The limit is how many can wait at the same time: the threads."""
    time.sleep(0.05)
    return _answer(start_response)


def computes(environ, start_response):
    """Compute for 5 ms. The limit is the GIL: 200 requests/s."""
    _compute(0.005)
    return _answer(start_response)


def pooled(environ, start_response):
    """Need one of four connections for 20 ms. The limit is this pool: 200 requests/s."""
    with _pool:
        time.sleep(0.02)
    return _answer(start_response)


def mixes(environ, start_response):
    """Compute for 2 ms and wait 20 ms. The limit is the GIL, with 11 threads: 500 requests/s."""
    _compute(0.001)
    time.sleep(0.02)
    _compute(0.001)
    return _answer(start_response)


def _compute(seconds):
    """Use so much CPU time, whoever else wants the CPU."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def _answer(start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
