"""The server for Paste Deploy, and so for Pyramid's `pserve`::

[server:main]
use = egg:rocket
host = 127.0.0.1
port = 6543
max_threads = 16
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Optional

from rocket.errors import ConfigError
from rocket.server import Server

log = logging.getLogger("rocket.server")


def serve(
    app: Any,
    global_conf: Optional[Mapping[str, str]] = None,
    host: Optional[str] = None,
    port: Optional[str] = None,
    **options: Any,
) -> None:
    """Serve *app* until SIGTERM or SIGINT: the entry point ``main`` of the group ``paste.server_runner``.

    *options* are Rocket's, written as in rocket.toml. Instead of *bind* there may be *host* (127.0.0.1) and
    *port* (8000), as other servers have them. Raises ConfigError, BindError. *global_conf*, the section DEFAULT, is
    about applications.
    """
    if host is not None or port is not None:
        if "bind" in options:
            raise ConfigError("bind and host or port say the same: leave one out")
        host = host or "127.0.0.1"
        options["bind"] = f"[{host}]:{port or 8000}" if ":" in host else f"{host}:{port or 8000}"
    server = Server(app, **options)

    def tell() -> None:
        for line in server.describe():
            log.info("%s", line)

    server.serve_forever(tell)
