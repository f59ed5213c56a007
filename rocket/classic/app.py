"""What Rocket 1.x and rocket3 did for an application that `rocket.Server` does not."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from rocket.classic.log import requests
from rocket.workers.environ import FileWrapper

LINE = '%s - "%s" - %s %s'


class ClassicApp:
    """Serve *app* as it was used to: text may stand for bytes, and Rocket.Requests hears of each request.

    rocket3 sent a ``str`` as ISO-8859-1, and its own first example counted on it; PEP 3333 knows bytes only. *single*:
    there is one thread, and environ says so. Costs 0.3 us a request while nobody listens to Rocket.Requests.
    """

    def __init__(self, app: Any, *, single: bool = False) -> None:
        self.app = app
        self._single = single

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._single:
            environ["wsgi.multithread"] = False
        if environ["wsgi.url_scheme"] == "https":
            environ["HTTPS"] = "on"
            if "SSL_CLIENT_CERT" in environ:
                environ["SSL_CLIENT_RAW_CERT"] = environ["SSL_CLIENT_CERT"]  # its name there; web2py looks for it
        if requests.isEnabledFor(logging.INFO):
            return _Logged(environ, start_response).run(self.app)
        return _as_bytes(self.app(environ, start_response))


def _as_bytes(result: Any) -> Iterable[bytes]:
    """Return *result* with bytes for str. What the server treats in a way of its own stays what it is."""
    kind = type(result)
    if kind is list or kind is tuple:
        for block in result:
            if type(block) is str:
                return [each.encode("latin-1") if isinstance(each, str) else each for each in result]
        return result  # type: ignore[no-any-return]
    if kind is FileWrapper or result is None:
        return result  # type: ignore[no-any-return]
    return _Blocks(result)


class _Blocks:
    """The blocks of *result* as bytes, and its close()."""

    def __init__(self, result: Any) -> None:
        self._blocks = iter(result)
        close = getattr(result, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        return block.encode("latin-1") if isinstance(block, str) else block


class _Logged:
    """One request whose line goes to Rocket.Requests when its answer is done."""

    def __init__(self, environ: dict[str, Any], start_response: Any) -> None:
        self._environ = environ
        self._start_response = start_response
        self._status = "500"
        self._told: Optional[str] = None  # Content-Length
        self._size = 0  # bytes so far
        self._result: Any = None

    def run(self, app: Any) -> Iterable[bytes]:
        try:
            result = app(self._environ, self._start)
        except BaseException:
            self._log("500")
            raise
        blocks = _as_bytes(result)
        kind = type(blocks)
        if kind is list or kind is tuple:
            self._size += sum(map(len, blocks))
            self._log(self._status)
            return blocks
        if kind is FileWrapper or blocks is None:
            self._log(self._status)
            return blocks
        self._result = blocks
        return self

    def __iter__(self) -> Iterator[bytes]:
        try:
            for block in self._result:
                self._size += len(block)
                yield block
        except Exception:
            if not self._size:
                self._status = "500"  # which the server answers now
            raise

    def close(self) -> None:
        self._log(self._status)
        close = getattr(self._result, "close", None)
        if close is not None:
            close()

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        write = self._start_response(status, headers, *exc_info)
        self._status = status.partition(" ")[0]
        self._told = next((value for name, value in headers if name.lower() == "content-length"), None)

        def count(data: bytes) -> None:
            self._size += len(data)
            write(data)

        return count

    def _log(self, status: str) -> None:
        environ = self._environ
        line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
        size = self._size if self._told is None else self._told
        requests.info(LINE, environ["REMOTE_ADDR"], line, status, size)
