"""What the tests of the classic API share. Nothing here is a fixture."""

import logging
import urllib.request

from core_helpers import PATIENCE

HERE = ("127.0.0.1", 0)


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class Lines(logging.Handler):
    """Keeps the messages with their loggers' names."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.name, record.levelname, record.getMessage()))


def ask(server, path=""):
    with urllib.request.urlopen(server.servers[0].url + path, timeout=PATIENCE) as response:
        return response.read()


def option(server, name):
    return getattr(server.servers[0].config, name)
