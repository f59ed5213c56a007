"""The API of rocket3, web2py's Rocket, for web2py, py4web and programs that import it by this name.

A module, and not a package as rocket3's own: where both are installed nothing of it is overwritten, and its own counts.
"""

from rocket import CLASSIC_NAMES
from rocket.classic import *  # noqa: F403
from rocket.classic import SERVER_SOFTWARE, Rocket
from rocket.futures import FuturesMiddleware, WSGIExecutor, WSGIFuture
from rocket.version import __version__

__all__ = [
    "FuturesMiddleware",
    "Rocket3",
    "WSGIExecutor",
    "WSGIFuture",
    "__version__",
    "demo",
    "demo_app",
]
__all__ += list(CLASSIC_NAMES)

Rocket3 = Rocket  # as the newer versions call it


def demo_app(environ, start_response):  # type: ignore[no-untyped-def]
    """Say hello."""
    start_response("200 OK", [("Content-Type", "text/html")])
    return [f"<html><body><h1>Hello from {SERVER_SOFTWARE}</h1></body></html>".encode()]


def demo() -> None:
    """Serve a folder, or `demo_app`: ``python -c "from rocket3 import demo; demo()" -p 8000 -s ./static``."""
    import argparse

    parser = argparse.ArgumentParser(description="A demonstration.")
    parser.add_argument("-i", "--ip", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("-p", "--port", default=8000, type=int, help="the port to listen on")
    parser.add_argument("-s", "--static", help="a folder to serve")
    given = parser.parse_args()
    print(f"Rocket listens on {given.ip}:{given.port}")
    if given.static:
        Rocket((given.ip, given.port), "fs", {"document_root": given.static, "display_index": True}).start()
    else:
        Rocket((given.ip, given.port), "wsgi", {"wsgi_app": demo_app}).start()


if __name__ == "__main__":
    demo()
