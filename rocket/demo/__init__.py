"""A WSGI application that shows what the server does: `rocket serve` without an application serves it.

It runs on any WSGI server. Where Rocket puts `rocket.stats` into the environ, it shows the pool's figures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIEnvironment

    Handler = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
BYTES = "application/octet-stream"

LONGEST_SLEEP_SECONDS = 10.0
MOST_CHUNKS = 1000
MOST_FORM_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024

# Some servers put their own environment variables beside these, with the secrets that are in them.
_SHOWN = ("CONTENT_", "HTTP_", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REMOTE_", "REQUEST_", "SCRIPT_NAME", "SERVER_")
_SHOWN_TOO = ("wsgi.", "rocket.")

# What comes from the visitor is escaped; this is for the day when a line forgets it.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)

_PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
_FORM = Template((Path(__file__).parent / "form.html").read_text(encoding="utf-8"))


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by the path; `_ROUTES` has them."""
    path = environ.get("PATH_INFO") or "/"
    methods = _ROUTES.get(path)
    if methods is None:
        return _answer(start_response, "404 Not Found", TEXT, f"There is nothing at {_readable(path)}\n")
    method = environ["REQUEST_METHOD"]
    handler = methods.get("GET" if method == "HEAD" else method)
    if handler is None:
        allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
        return _answer(start_response, "405 Method Not Allowed", TEXT, f"Allowed: {allowed}\n", ("Allow", allowed))
    return handler(environ, start_response)


def _answer(
    start_response: StartResponse, status: str, kind: str, text: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = text.encode()
    start_response(
        status,
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", _POLICY),
            ("X-Content-Type-Options", "nosniff"),
            *headers,
        ],
    )
    return [body]


# --- The pages -------------------------------------------------------------------------------------------------------


def _index(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    shown = {
        name: value if isinstance(value, str) else repr(value)
        for name, value in sorted(environ.items())
        if name.startswith(_SHOWN) or name.startswith(_SHOWN_TOO)
    }
    rows = (
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(_readable(value))}</td></tr>"
        for name, value in shown.items()
    )
    page = _PAGE.substitute(
        base=_base(environ),
        served="yes" if "rocket.stats" in environ else "no",
        software=escape(_readable(environ.get("SERVER_SOFTWARE", "another WSGI server"))),
        rows="\n".join(rows),
    )
    return _answer(start_response, "200 OK", HTML, page)


def _stats(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    stats = environ.get("rocket.stats")
    if stats is None:
        return _answer(start_response, "404 Not Found", JSON, json.dumps({"error": "not served by Rocket"}))
    return _answer(start_response, "200 OK", JSON, json.dumps(stats(), default=str))


def _hello(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return _answer(start_response, "200 OK", TEXT, "Hello, world!\n")


def _echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send the body back while it is read, and not as what the client calls it: it could be a page with a script."""
    headers = [("Content-Type", BYTES), ("X-Content-Type-Options", "nosniff")]
    if environ.get("CONTENT_LENGTH"):
        headers.append(("Content-Length", str(int(environ["CONTENT_LENGTH"]))))
    start_response("200 OK", headers)
    return _pieces(environ)


def _sleep(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    try:
        pause = _seconds(environ, "s", 0.1)
    except ValueError:
        return _answer(start_response, "400 Bad Request", TEXT, "s must be a number of seconds, as in /sleep?s=0.1\n")
    time.sleep(pause)
    return _answer(start_response, "200 OK", TEXT, f"Slept for {pause:g} s\n")


def _stream(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send a body of unknown length, which HTTP/1.1 sends in chunks."""
    try:
        chunks, pause = min(int(_query(environ).get("n", "10")), MOST_CHUNKS), _seconds(environ, "s", 0.1)
    except ValueError:
        return _answer(start_response, "400 Bad Request", TEXT, "n and s must be numbers, as in /stream?n=10&s=0.1\n")
    start_response("200 OK", [("Content-Type", TEXT), ("Cache-Control", "no-store")])
    return _lines(chunks, pause)


def _lines(chunks: int, pause: float) -> Iterator[bytes]:
    for number in range(1, chunks + 1):
        if number > 1:
            time.sleep(pause)
        yield f"chunk {number} of {chunks}\n".encode()


def _form(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return _answer(start_response, "200 OK", HTML, _FORM.substitute(base=_base(environ), result=""))


def _form_result(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return _answer(start_response, "415 Unsupported Media Type", TEXT, "Post it as a form does\n")
    body = b""
    for piece in _pieces(environ):
        body += piece
        if len(body) > MOST_FORM_BYTES:
            return _answer(start_response, "413 Content Too Large", TEXT, f"At most {MOST_FORM_BYTES} bytes\n")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, values in fields.items()
        for value in values
    )
    result = f"<h2>What arrived</h2>\n<table>{rows}</table>" if rows else "<h2>What arrived</h2>\n<p>Nothing.</p>"
    return _answer(start_response, "200 OK", HTML, _FORM.substitute(base=_base(environ), result=result))


_ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"GET": _index},
    "/stats": {"GET": _stats},
    "/hello": {"GET": _hello},
    "/echo": {"POST": _echo, "PUT": _echo},
    "/sleep": {"GET": _sleep},
    "/stream": {"GET": _stream},
    "/form": {"GET": _form, "POST": _form_result},
}


# --- Reading the request ---------------------------------------------------------------------------------------------


def _pieces(environ: WSGIEnvironment) -> Iterator[bytes]:
    """Yield the body: Content-Length bytes, or without it all there is if the server says that it ends the input."""
    body: InputStream = environ["wsgi.input"]
    length = environ.get("CONTENT_LENGTH")
    if not length:
        if environ.get("wsgi.input_terminated"):
            yield from iter(lambda: body.read(PIECE_BYTES), b"")
        return
    left = int(length)
    while left > 0:
        piece = body.read(min(left, PIECE_BYTES))
        if not piece:
            return  # The client went away; the server notices.
        left -= len(piece)
        yield piece


def _query(environ: WSGIEnvironment) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}


def _seconds(environ: WSGIEnvironment, name: str, default: float) -> float:
    """Return the query's *name*, bounded. Raise ValueError if it is no number >= 0 (nan is none)."""
    wanted = float(_query(environ).get(name, default))
    if not wanted >= 0:
        raise ValueError
    return min(wanted, LONGEST_SLEEP_SECONDS)


def _readable(native: str) -> str:
    """Return a WSGI string, whose characters are bytes (PEP 3333, "Unicode Issues"), as the text that was meant."""
    return native.encode("latin-1", "replace").decode("utf-8", "replace")


def _base(environ: WSGIEnvironment) -> str:
    """Return where the application is mounted, for links."""
    return escape(quote(environ.get("SCRIPT_NAME", "").encode("latin-1", "replace")))
