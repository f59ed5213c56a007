"""WSGI applications, one for each kind of work. In a folder of its own, for servers in a Python without Rocket."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SMALL = b"Hello, World!"
LARGE = bytes(10_000_000)
TEXT = [("Content-Type", "text/plain"), ("Content-Length", str(len(SMALL)))]


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """As little as an application can do."""
    start_response("200 OK", list(TEXT))
    return [SMALL]


def sleep10(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Wait 10 ms, as for a database."""
    time.sleep(0.01)
    return hello(environ, start_response)


def mixed(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """/slow waits 100 ms, everything else answers at once."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.1)
    return hello(environ, start_response)


def cpu(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Compute for about half a millisecond, with the GIL."""
    total = 0
    for i in range(20000):
        total += i
    return hello(environ, start_response)


def beside(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """/compute computes for a quarter of a second, with the GIL; everything else answers at once."""
    if environ["PATH_INFO"] == "/compute":
        end = time.thread_time() + 0.25
        while time.thread_time() < end:
            for _ in range(300):
                pass
    return hello(environ, start_response)


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Send the body back."""
    data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(data)))])
    return [data]


def download(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """10 MB, in one block."""
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(LARGE)))])
    return [LARGE]


def upload(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Read the body, in blocks, and drop it."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left:
        block = environ["wsgi.input"].read(min(left, 65536))
        if not block:
            raise ValueError(f"the body is {left} bytes short")
        left -= len(block)
    return hello(environ, start_response)
