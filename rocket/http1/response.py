"""Responses: what an application said, checked and written as bytes (PEP 3333; RFC 9112, section 4)."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import NamedTuple, Optional, Union

from rocket.errors import ApplicationError
from rocket.http1.grammar import TOKEN, VALUE

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
REASONS: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}


class ResponseHead(NamedTuple):
    """A response head without its last lines, and what the server must know to write them."""

    text: str  # status line and field lines, each with its CRLF; no hop-by-hop field, no empty line
    code: int
    length: Optional[int]  # from Content-Length
    has_date: bool
    has_server: bool
    wants_close: bool  # the application gave Connection: close


_status = re.compile(r"([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?").fullmatch
_name = re.compile(TOKEN).fullmatch
_value = re.compile(VALUE).fullmatch
_digits = re.compile("[0-9]{1,19}").fullmatch
_new_head = tuple.__new__

# Lines that were checked: a look-up saves 0.6 us a header (bench/parse.py). Filled by any thread; only what is short
# and sent again and again: names that can hold a secret or are new each time (Set-Cookie, ETag) are not here.
Line = Union[str, tuple[str, int]]  # the second for Content-Length: with the number
_LINES: dict[tuple[str, str], Line] = {}
_LINES_SIZE = 1024
_STATUSES: dict[str, tuple[str, int]] = {}
_STATUSES_SIZE = 256
_SHORT = 256
_REPEATED = frozenset(
    re.findall(
        r"\S+",
        """
        accept-ranges access-control-allow-credentials access-control-allow-headers access-control-allow-methods
        access-control-allow-origin access-control-max-age allow cache-control content-encoding content-language
        content-type cross-origin-opener-policy cross-origin-resource-policy permissions-policy pragma
        referrer-policy strict-transport-security vary x-content-type-options x-frame-options x-powered-by
        x-xss-protection
        """,
    )
)
# RFC 2616, 13.5.1. PEP 3333 forbids them all to applications. What applications set out of habit is dropped: it would
# only say what the server says anyway. The others mean something that would be lost.
_DROPPED = frozenset(("connection", "keep-alive", "transfer-encoding"))
_REFUSED = frozenset(("proxy-authenticate", "proxy-authorization", "te", "trailer", "trailers", "upgrade"))


def format_head(status: str, headers: list[tuple[str, str]]) -> ResponseHead:
    """Check what an application gave to ``start_response`` and write it. `ApplicationError` names what is wrong."""
    if type(status) is not str:
        raise ApplicationError(f"a status must be str, not {type(status).__name__}")
    line, code = _STATUSES.get(status) or _status_line(status)
    length = None
    has_date = has_server = wants_close = False
    lines = [line]
    known = _LINES
    if type(headers) is not list:
        raise ApplicationError(f"the headers must be a list, not {type(headers).__name__}")
    for header in headers:
        try:
            seen = known.get(header)
        except TypeError:  # a list, or a list in it
            seen = None
        if seen is None:
            seen, kind = _check(header)
            if kind == "date":
                has_date = True
            elif kind == "server":
                has_server = True
            elif kind in _DROPPED:
                wants_close = wants_close or (kind == "connection" and _says_close(header[1]))
                continue
        if isinstance(seen, str):
            lines.append(seen)
            continue
        line, told = seen
        if length is None:
            length = told
            if code != 204:  # RFC 9110, 8.6
                lines.append(line)
        elif length != told:
            raise ApplicationError(f"two Content-Length headers: {length} and {told}")
    return _new_head(ResponseHead, ("".join(lines), code, length, has_date, has_server, wants_close))


def _check(header: object) -> tuple[Line, str]:
    """Return the header's line, and its name in lower case; remember the line if it is likely to come again."""
    if type(header) is not tuple or len(header) != 2:
        raise ApplicationError(f"a header must be a tuple of two, not {header!a:.80}")
    name, value = header
    if type(name) is not str or type(value) is not str:
        raise ApplicationError(f"a header's name and value must be str: {header!a:.80}")
    kind = name.lower()
    line: Line
    if kind == "content-length":
        line = f"{name}: {value}\r\n", _length(value)
    elif kind in _REFUSED:
        raise ApplicationError(f"{name} is the server's business (PEP 3333): {header!a:.80}")
    else:
        line = _line(name, value)
        if kind not in _REPEATED or len(line) > _SHORT:
            return line, kind
    if len(_LINES) >= _LINES_SIZE:
        _LINES.clear()
    _LINES[header] = line
    return line, kind


def _line(name: str, value: str) -> str:
    if _name(name) is None:
        raise ApplicationError(f"not a header name: {name!a:.80}")
    if _value(value) is None:
        bad = next(char for char in value if _value(char) is None)
        why = "is not latin-1" if bad > "\xff" else "may not be in a header"
        raise ApplicationError(f"the character {bad!a} of the header {name} {why}")
    return f"{name}: {value}\r\n"


def _length(value: str) -> int:
    if _digits(value) is None:
        raise ApplicationError(f"not a Content-Length: {value!a:.80}")
    return int(value)


def _says_close(value: str) -> bool:
    return "close" in [option.strip(" \t").lower() for option in value.split(",")]


def _status_line(status: str) -> tuple[str, int]:
    """Return the status line and the code. "200" and "200 " are taken: the reason is optional on the wire."""
    match = _status(status)
    if match is None:
        raise ApplicationError(f"a status must be like '200 OK', not {status!a:.80}")
    code = int(match[1])
    if code < 200:
        raise ApplicationError(f"{status!a:.80} is no final status")
    line = f"HTTP/1.1 {status}\r\n" if len(status) > 3 else f"HTTP/1.1 {status} \r\n"
    if len(status) <= _SHORT:
        if len(_STATUSES) >= _STATUSES_SIZE:
            _STATUSES.clear()
        _STATUSES[status] = line, code
    return line, code


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(now: float) -> str:
    """Return seconds since the epoch as an IMF-fixdate (RFC 9110, 5.6.7), whatever the locale."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(now)
    return f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month - 1]} {year:04d} {hour:02d}:{minute:02d}:{second:02d} GMT"


def error_response(
    error_status: int,
    message: str,
    date: str,
    server: str,
    *,
    head_only: bool = False,
    retry_after: Optional[int] = None,
) -> bytes:
    """Return a complete answer that ends the connection: *message* as plain text, so that no markup in it is ever run.

    *date* as from `http_date`; *server* may be empty; *retry_after* in seconds.
    """
    reason = REASONS.get(error_status, "Error")
    body = f"{error_status} {reason}\n{message}\n".encode("utf-8", "backslashreplace")
    lines = [
        f"HTTP/1.1 {error_status} {reason}",
        f"Date: {date}",
        "Connection: close",
        "Content-Type: text/plain; charset=utf-8",
        "X-Content-Type-Options: nosniff",
        f"Content-Length: {len(body)}",
    ]
    if server:
        lines.append(f"Server: {server}")
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if head_only else head + body
