"""A server inside a program: it runs in threads of its own, for as long as the ``with`` block.

``python examples/embedded.py`` prints what the server answered, and how it fared.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

from rocket import Server

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = f"Hello from {environ['PATH_INFO']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def main() -> None:
    with Server(app, bind="127.0.0.1:0", max_threads=4) as server:  # port 0: any free one
        for name in ("one", "two"):
            with urllib.request.urlopen(server.url + name) as response:
                print(response.read().decode(), end="")
        stats = server.stats
        print(f"{stats['accepted']} connections, {stats['threads']} threads, monitor {stats['monitor']}")
    # Here everything has been answered, and nothing of the server is left.


if __name__ == "__main__":
    main()
