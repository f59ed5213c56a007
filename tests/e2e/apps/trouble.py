"""Applications that misbehave, or wait until they are told to go on. Served by the tests in this folder."""

import json
import os
import signal
import threading
import time
from wsgiref.validate import validator

from rocket.demo import application as demo

TEXT = ("Content-Type", "text/plain")
BLOCK = b"x" * 65536

# SIGUSR1 lets `hold` go on: an event that reaches a server which takes no connections any more.
released = threading.Event()
signal.signal(signal.SIGUSR1, lambda number, frame: released.set())


def application(environ, start_response):
    """Answer by the path: /hold is `hold`."""
    return globals()[environ["PATH_INFO"].strip("/") or "hello"](environ, start_response)


def hello(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "6")])
    return [b"hello\n"]


def stats(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(environ["rocket.stats"]()).encode()]


def raise_before(environ, start_response):
    raise RuntimeError("before the first byte")


def raise_after_start(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "6")])
    raise RuntimeError("after start_response")


def raise_after_chunk(environ, start_response):
    start_response("200 OK", [TEXT])
    yield b"the beginning"
    raise RuntimeError("after the first byte")


def raise_after_length(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "1000")])
    yield b"the beginning"
    raise RuntimeError("after the first byte")


def leave(environ, start_response):
    raise SystemExit("handlers do not stop the server")


def hold(environ, start_response):
    """Say that it has begun, and answer after SIGUSR1."""
    environ["wsgi.errors"].write("holding\n")
    environ["wsgi.errors"].flush()
    released.wait()
    return hello(environ, start_response)


def endless(environ, start_response):
    """Send until the client is gone; then say so."""
    start_response("200 OK", [TEXT])
    try:
        while True:
            yield BLOCK
    finally:
        os.write(2, b"the client is gone\n")


def slow(environ, start_response):
    time.sleep(0.05)
    return hello(environ, start_response)


def file(environ, start_response):
    """Send a file of 8 MB by wsgi.file_wrapper."""
    opened = open(os.environ["E2E_FILE"], "rb")  # noqa: SIM115 (the server closes it)
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](opened)


validated = validator(demo)
