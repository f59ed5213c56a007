"""Where to listen, as people write it: texts such as `unix:/run/site.sock?mode=660` to values. Opens nothing.

::

    host:port   [::1]:port   :port            the same as tcp://...
    tcp://host:port?reuseport=1
    unix:/path?mode=660&owner=NAME&group=NAME  also unix:relative/path and unix:///path
    unix:@name                                an abstract socket (unix(7), Linux)
    fd://3                                    a descriptor that was inherited
    systemd:   systemd:NAME                   all sockets that systemd opened, or those of that name
    tls://host:port?cert=FILE&key=FILE        the same as tls+tcp://...; also tls+unix:, tls+fd://, tls+systemd:

Paths, names and the values of parameters may hold %XX (RFC 3986, section 2.1), and must for `%`, `?`, `&` and `,`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import NamedTuple, Optional, Union
from urllib.parse import quote, unquote

from rocket.errors import ConfigError

EXPECTED = (
    "host:port, [IPv6 address]:port, :port (all addresses), unix:/path, unix:@name, fd://N, systemd: or tls://..."
)

# What may stand behind the "?" of a kind, besides what TLS takes.
PARAMETERS = {"tcp": ("reuseport",), "unix": ("mode", "owner", "group"), "fd": (), "systemd": ()}
# The short names that fit a line, and the options that they stand for, which may be written, too.
TLS_PARAMETERS = {
    "cert": "certfile",
    "key": "keyfile",
    "password": "keyfile_password",
    "ca_certs": "ca_certs",
    "cert_reqs": "cert_reqs",
    "ciphers": "ciphers",
}

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\[\]:/\s]*)):(\d{1,5})", re.ASCII)
# unix: and systemd: need no slashes; of the others a host may have the name, as in "fd:8000".
_SCHEME = re.compile(r"(?:(tls\+)?(unix:|systemd:|tcp://|fd://)|(tls)://)(.*)", re.DOTALL)
_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_MODE = re.compile("(?:0o)?0?([0-7]{3})")
_SECRET = re.compile(r"(\w*pass\w*=)[^&,]*")  # also if the name is misspelled
_SWITCH = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}


class Address(NamedTuple):
    """An address of TCP: *host* "" is every address of the host, *port* 0 a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Bind:
    """A wish to listen somewhere. Made by `parse_bind`, granted by `rocket.sockets.open_sockets`.

    *kind* is "tcp", "unix", "fd" or "systemd", and tells which fields count. *path* begins with NUL if the unix
    socket is abstract; *name* "" is every socket of systemd's. *tls* is None for plain HTTP, else the
    TLS options that were given with it (their names: the values of `TLS_PARAMETERS`), maybe none.
    """

    text: str = field(compare=False)  # as it was written, without passwords
    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    name: str = ""
    reuseport: bool = False
    mode: Optional[int] = None  # None: as the umask leaves it
    owner: str = ""  # a name or a number; "": who runs the server
    group: str = ""
    tls: Optional[Mapping[str, str]] = field(default=None, hash=False, repr=False)  # may have a password

    def __str__(self) -> str:
        return self.text

    @property
    def inherited(self) -> bool:
        """Whether somebody else opens the socket."""
        return self.kind in {"fd", "systemd"}

    @property
    def address(self) -> Address:
        return Address(self.host, self.port)


def parse_binds(texts: tuple[str, ...]) -> list[Bind]:
    """Return the wishes in *texts*. Raises ConfigError, also if a descriptor or a path is named twice."""
    binds = [parse_bind(text) for text in texts]
    seen: set[tuple[str, Union[int, str]]] = set()
    for bind in binds:
        if bind.kind == "tcp":
            continue  # the system knows better which names are the same address
        key = bind.kind, bind.fd if bind.kind == "fd" else bind.path or bind.name
        if key in seen:
            raise ConfigError(f"{str(bind)!r}: what it names is named twice")
        seen.add(key)
    named = [str(bind) for bind in binds if bind.kind == "systemd" and bind.name]
    if named and ("systemd", "") in seen:
        raise ConfigError(f"{named[0]!r}: 'systemd:' stands for all sockets of systemd's, this one too")
    return binds


def parse_bind(text: str) -> Bind:
    """Return what *text* asks for, by the grammar above. Raises ConfigError that names the text and what is wrong."""
    shown = without_secrets(text)
    match = _SCHEME.fullmatch(text)
    try:
        if match is None:
            place, mark, query = text.partition("?")
            return _tcp(shown, place, _parameters("tcp", query, mark, secure=False), tls=None)
        secure = bool(match[1] or match[3])
        kind = "tcp" if match[3] else match[2].rstrip(":/")
        place, mark, query = match[4].partition("?")
        parameters = _parameters(kind, query, mark, secure=secure)
        tls: Optional[Mapping[str, str]] = None
        if secure:
            tls = MappingProxyType(
                {TLS_PARAMETERS[name]: parameters.pop(name) for name in TLS_PARAMETERS if name in parameters}
            )
        if kind == "unix":
            return _unix(shown, place, parameters, tls)
        if kind == "fd":
            return _fd(shown, place, tls)
        if kind == "systemd":
            return Bind(shown, kind, name=_name(_decoded(place)), tls=tls)
        return _tcp(shown, place, parameters, tls)
    except ConfigError:
        raise
    except ValueError as exc:
        raise ConfigError(f"{shown!r}: {exc}") from None


def without_secrets(text: str) -> str:
    """Return *text* with its passwords blotted out, for logs and errors."""
    return _SECRET.sub(r"\1***", text)


def unix_url(path: str, *, secure: bool = False) -> str:
    """Return a URL for a unix socket: `http+unix://%2Frun%2Fsite.sock/`, as requests-unixsocket and others read it."""
    return f"{'https' if secure else 'http'}+unix://{quote(path, safe='', errors='surrogateescape')}/"


def unix_label(path: str) -> str:
    """Return how the bind of a unix socket is written: `unix:/run/site.sock`, `unix:@name`."""
    if path.startswith("\0"):
        return "unix:@" + quote(path[1:], safe="/", errors="surrogateescape")
    return "unix:" + quote(path, safe="/@" if path.startswith("/") else "/", errors="surrogateescape")


# Each raises ValueError with what is wrong, and `parse_bind` adds with which text.


def _parameters(kind: str, query: str, mark: str, *, secure: bool) -> dict[str, str]:
    """Return what stands behind the question *mark*. The TLS options have their short names."""
    if mark and not query:
        raise ValueError("nothing follows the question mark")
    known = (*PARAMETERS[kind], *(TLS_PARAMETERS if secure else ()))
    short = {option: name for name, option in TLS_PARAMETERS.items()} if secure else {}
    found: dict[str, str] = {}
    for item in query.split("&") if query else ():
        written, _, value = item.partition("=")
        name = short.get(written, written)
        if name not in known:
            raise ValueError(_unknown(name, known, kind))
        if name in found:
            raise ValueError(f"{written} is given twice")
        if not value:
            raise ValueError(f"{written} has no value")
        found[name] = _decoded(value)
        if "\0" in found[name]:
            raise ValueError(f"{written} cannot hold NUL")
    return found


def _unknown(name: str, known: tuple[str, ...], kind: str) -> str:
    near = get_close_matches(name, known, n=1)
    if near:
        return f"unknown parameter {name!r}: did you mean {near[0]!r}?"
    if name in TLS_PARAMETERS or name in TLS_PARAMETERS.values():
        return f"{name} is for TLS: tls://host:port?..., or tls+unix:, tls+fd:// and tls+systemd:"
    for other, names in PARAMETERS.items():
        if name in names:
            return f"{name} is a parameter of {other}, not of {kind}"
    return f"unknown parameter {name!r}" + (f", {kind} has {', '.join(known)}" if known else f", {kind} has none")


def _tcp(shown: str, place: str, parameters: dict[str, str], tls: Optional[Mapping[str, str]]) -> Bind:
    match = _HOST_PORT.fullmatch(place)
    if match is None:
        raise ValueError(f"not an address to listen on, which is {EXPECTED}")
    port = int(match[3])
    if port > 65535:
        raise ValueError("not an address to listen on: ports end at 65535")
    reuseport = parameters.get("reuseport", "0").lower()
    if reuseport not in _SWITCH:
        raise ValueError(f"reuseport must be 1 or 0, not {reuseport!r}")
    host = match[1] or match[2] or ""
    return Bind(shown, "tcp", host=host, port=port, reuseport=_SWITCH[reuseport], tls=tls)


def _unix(shown: str, place: str, parameters: dict[str, str], tls: Optional[Mapping[str, str]]) -> Bind:
    if place.startswith("//"):
        if not place.startswith("///"):
            raise ValueError("a URL's path begins with a third slash: unix:///path; a relative one is unix:path")
        place = place[2:]
    abstract = place.startswith("@")
    path = _decoded(place[1:] if abstract else place)
    if not path:
        raise ValueError("the name is missing" if abstract else "the path is missing")
    if "\0" in path:
        raise ValueError("a path cannot hold NUL")
    mode = parameters.get("mode")
    octal = _MODE.fullmatch(mode) if mode is not None else None
    if mode is not None and octal is None:
        raise ValueError(f"mode must be three octal digits such as 660, not {mode!r}")
    if abstract:
        if parameters:
            raise ValueError(f"an abstract socket has no {' and no '.join(parameters)}")
        return Bind(shown, "unix", path="\0" + path, tls=tls)
    return Bind(
        shown,
        "unix",
        path=path,
        mode=None if octal is None else int(octal[1], 8),
        owner=parameters.get("owner", ""),
        group=parameters.get("group", ""),
        tls=tls,
    )


def _fd(shown: str, place: str, tls: Optional[Mapping[str, str]]) -> Bind:
    if not re.fullmatch(r"\d{1,9}", place, re.ASCII):
        raise ValueError("a descriptor is a number: fd://3")
    return Bind(shown, "fd", fd=int(place), tls=tls)


def _name(name: str) -> str:
    """Return *name* if a socket of systemd's may have it (sd_listen_fds(3): up to 255 ASCII characters, no colon)."""
    if not re.fullmatch(r"[!-9;-~]{0,255}", name):
        raise ValueError("not the name of a descriptor (FileDescriptorName= in systemd.socket(5))")
    return name


def _decoded(text: str) -> str:
    if _ESCAPE.search(text):
        raise ValueError("a percent sign is written %25")
    return unquote(text, errors="surrogateescape")
