"""The WSGI environ (PEP 3333): what is the same for all requests of an endpoint, and what is not."""

from __future__ import annotations

import io
import socket
import sys
from typing import IO, TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 65536  # bytes: what FileWrapper reads at a time if the application does not say


class FileWrapper:
    """``wsgi.file_wrapper``: an iterable over a file, which the server sends by sendfile(2) if it can.

    *file* is anything with ``read``; *block* the bytes to read at a time. The server closes *file*.
    """

    def __init__(self, file: IO[bytes], block: int = BLOCK) -> None:
        self.file = file
        self.block = block
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.block), b"")


class Nowhere(io.TextIOBase):
    """Take text, and forget it."""

    def write(self, text: str, /) -> int:
        return len(text)


def base_environ(
    endpoint: tuple[str, str], *, secure: bool, software: str, stats: Optional[Callable[[], dict[str, Any]]] = None
) -> dict[str, Any]:
    """Return what is the same in every environ of *endpoint*, a (host, port) that is listened on.

    An application must not change the values: they are shared.
    """
    host, port = endpoint
    if host in {"", "0.0.0.0", "::"}:
        host = socket.gethostname()
    return {
        "SERVER_NAME": f"[{host}]" if ":" in host else host,  # RFC 3875, 4.1.14: as in a URL
        "SERVER_PORT": port,
        "SERVER_SOFTWARE": software,
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if secure else "http",
        # None if the program was started without one, or under pythonw.
        "wsgi.errors": sys.stderr or Nowhere(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        # read() ends at the end of the body, also of a chunked one: no need to look at CONTENT_LENGTH.
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        "rocket.stats": stats or dict,
    }
