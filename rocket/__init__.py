"""Rocket: a threaded HTTP/1.1 and WSGI server to tune and to understand.

::

    import rocket

    rocket.serve(app, bind="127.0.0.1:8000", monitor="epoll", max_threads=16)

`Server` is the facade; `Worker` the class to inherit from for another protocol; `rocket.monitors.Monitor`
and `rocket.pools.ScalingPolicy` are the two strategies that anyone can exchange.
"""

import logging

from rocket.connection import Connection
from rocket.errors import (
    ApplicationError,
    BadRequest,
    BindError,
    ConfigError,
    ConnectionLost,
    MonitorUnavailable,
    RocketError,
)
from rocket.server import Server, serve
from rocket.version import __version__
from rocket.workers import After, Worker, WSGIWorker

__all__ = [
    "After",
    "ApplicationError",
    "BadRequest",
    "BindError",
    "ConfigError",
    "Connection",
    "ConnectionLost",
    "MonitorUnavailable",
    "RocketError",
    "Server",
    "WSGIWorker",
    "Worker",
    "__version__",
    "serve",
]

logging.getLogger("rocket").addHandler(logging.NullHandler())
