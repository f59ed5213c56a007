"""What to send, from what a person has typed. Only to the application that was started: no other host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional
from urllib.parse import quote, urlsplit

from rocket.errors import ConfigError
from rocket.tuning.trial import Requests

# RFC 9110, 5.6.2 and 9.1
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def parse(urls: Sequence[str], method: Optional[str], data: str, headers: Sequence[str]) -> Requests:
    """Return what the flags say. Raises ConfigError."""
    body = _body(data)
    verb = (method or ("POST" if body else "GET")).upper()
    if not _TOKEN.fullmatch(verb):
        raise ConfigError(f"--method: {method!r} is not the name of a method")
    fields = tuple(_field(text) for text in headers)
    if body and not any(name.lower() == "content-type" for name, _ in fields):
        fields += (("Content-Type", "application/x-www-form-urlencoded"),)
    return Requests(tuple(_path(url) for url in urls) or ("/",), verb, fields, body)


def _path(url: str) -> str:
    """Return the path and query of *url*, which may be a path, or a whole URL of this host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as exc:
        raise ConfigError(f"--url: {url!r} is no URL: {exc}") from exc
    if parts.scheme or parts.netloc:
        if parts.scheme != "http":
            raise ConfigError(f"--url: {url!r} is neither a path, such as /a?b=c, nor an http URL")
        if not _is_loopback(host):
            raise ConfigError(
                f"--url: {url!r} is another host: only the application that is started here is driven, on loopback. "
                "Give the path alone"
            )
    elif not url.startswith("/"):
        raise ConfigError(f"--url: {url!r} is not a path: it must begin with /")
    path = quote(parts.path or "/", safe="/:@!$&'()*+,;=~%-._")
    return f"{path}?{quote(parts.query, safe='/?:@!$&()*+,;=~%-._')}" if parts.query else path


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _TOKEN.fullmatch(name) or not re.fullmatch(r"[ -~\t]*", value):
        raise ConfigError(f"--header: {text!r} is not NAME: VALUE in printable ASCII")
    if name.lower() in ("content-length", "transfer-encoding", "connection"):
        raise ConfigError(f"--header: {name} is not yours to say: it follows from the body and the connection")
    return ("Host" if name.lower() == "host" else name), value  # so that it stands for ours, and not beside it


def _body(data: str) -> str:
    if not data.startswith("@"):
        return data
    try:
        return Path(data[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"--data: cannot read {data[1:]}: {reason}") from exc
