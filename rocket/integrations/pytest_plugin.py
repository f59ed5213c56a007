"""A pytest plugin: the fixture `rocket_server`.

pytest loads it in each run where Rocket is installed: it must import next to nothing until the fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rocket.server import Server


@pytest.fixture
def rocket_server() -> Iterator[Callable[..., Server]]:
    """Start servers for a test: ``server = rocket_server(app, max_threads=4)``, then ask ``server.url``.

    Takes what `rocket.Server` takes, listens on a free port unless told otherwise, and returns the running
    `Server`. All are stopped when the test ends; what is still being answered then gets graceful_timeout, here 1 s.

    For one server in many tests, write a fixture of a wider scope with ``with rocket.Server(...) as server:``.
    """
    from rocket.server import Server

    started: list[Server] = []

    def start(app: Any, **options: Any) -> Server:
        if "config" not in options:
            options = {"bind": "127.0.0.1:0", "graceful_timeout": 1, **options}
        server = Server(app, **options)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.drain()
