"""Workers: what is done with a connection that is ready."""

from rocket.workers.after import CLOSE, DETACH, LINGER, NEXT, READ_MORE, WRITE_MORE, After
from rocket.workers.base import Options, Services, Worker
from rocket.workers.files import FileWorker
from rocket.workers.heads import HeadCache
from rocket.workers.routes import Routes
from rocket.workers.wsgi import WSGIWorker

__all__ = [
    "CLOSE",
    "DETACH",
    "LINGER",
    "NEXT",
    "READ_MORE",
    "WRITE_MORE",
    "After",
    "FileWorker",
    "HeadCache",
    "Options",
    "Routes",
    "Services",
    "WSGIWorker",
    "Worker",
]
