"""Rocket: a threaded HTTP/1.1 and WSGI server to tune and to understand.

::

    import rocket

    rocket.serve(app, bind="127.0.0.1:8000", monitor="epoll", max_threads=16)

`Server` is the facade; `Worker` the class to inherit from for another protocol; `Monitor` and
`ScalingPolicy` are the two strategies that anyone can exchange.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rocket.errors import (
    ApplicationError,
    BadRequest,
    BindError,
    ConfigError,
    ConnectionLost,
    MonitorUnavailable,
    RocketError,
)
from rocket.version import __version__

if TYPE_CHECKING:
    from rocket.classic import CherryPyWSGIServer, Rocket
    from rocket.config import Config
    from rocket.connection import Connection
    from rocket.files import Folder
    from rocket.monitors import Monitor
    from rocket.pools import Readings, ScalingPolicy
    from rocket.server import Server, serve
    from rocket.workers import After, FileWorker, Worker, WSGIWorker

__all__ = [
    "After",
    "ApplicationError",
    "BadRequest",
    "BindError",
    "CherryPyWSGIServer",
    "Config",
    "ConfigError",
    "Connection",
    "ConnectionLost",
    "FileWorker",
    "Folder",
    "Monitor",
    "MonitorUnavailable",
    "Readings",
    "Rocket",
    "RocketError",
    "ScalingPolicy",
    "Server",
    "WSGIWorker",
    "Worker",
    "__version__",
    "serve",
]

logging.getLogger("rocket").addHandler(logging.NullHandler())

# The API of Rocket 1.x: what `rocket.classic` exports, named here because asking it would import the server.
CLASSIC_NAMES = (
    "BUF_SIZE",
    "DEFAULTS",
    "DEFAULT_LISTEN_QUEUE_SIZE",
    "DEFAULT_MAX_THREADS",
    "DEFAULT_MIN_THREADS",
    "HTTP_SERVER_SOFTWARE",
    "IGNORE_ERRORS_ON_CLOSE",
    "IS_JYTHON",
    "PY3K",
    "SERVER_NAME",
    "SERVER_SOFTWARE",
    "SOCKET_TIMEOUT",
    "THREAD_STOP_CHECK_INTERVAL",
    "VERSION",
    "CherryPyWSGIServer",
    "NullHandler",
    "Rocket",
    "b",
    "ssl",
    "u",
)

# Imported when they are asked for (PEP 562): `rocket --help` needs none of them, and takes a third of the time.
_HOMES = {
    "After": "rocket.workers",
    "Config": "rocket.config",
    "Connection": "rocket.connection",
    "FileWorker": "rocket.workers",
    "Folder": "rocket.files",
    "Monitor": "rocket.monitors",
    "Readings": "rocket.pools",
    "ScalingPolicy": "rocket.pools",
    "Server": "rocket.server",
    "WSGIWorker": "rocket.workers",
    "Worker": "rocket.workers",
    "serve": "rocket.server",
    **dict.fromkeys(CLASSIC_NAMES, "rocket.classic"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rocket' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found
