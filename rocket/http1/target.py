"""Where a request wants to go: the Host field and the forms of a request target (RFC 9112, section 3.2)."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Optional
from urllib.parse import unquote_to_bytes

from rocket.errors import BadRequest, NotImplementedByServer
from rocket.http1.grammar import quote

# RFC 3986, 3.2.2 and 3.2.3. An empty name is in the grammar, but no http URI may have one (RFC 9110, 4.2.1). Nor is a
# comma taken, which is in the grammar, but in no name: two Host fields that somebody has put together look like that.
_HOST = re.compile(
    r"(?:\[(?:([0-9A-Fa-f:.]{2,45})|[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+;=:]+)\]"
    r"|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)"
    r"(?::([0-9]{0,5}))?"
).fullmatch
_ABSOLUTE = re.compile(r"https?://([^/?]*)([^?]*)(?:\?(.*))?", re.IGNORECASE | re.DOTALL).fullmatch

# Hosts that were found valid. Filled by any thread; each of look-up, add() and clear() is atomic.
KNOWN_HOSTS: set[str] = set()
_KNOWN_HOSTS_SIZE = 1024
_KNOWN_HOSTS_LENGTH = 128


def check_host(host: str) -> None:
    """Raise `BadRequest` unless *host* is ``name[:port]`` as RFC 3986 has it; remember it if it is."""
    match = _HOST(host)
    if match is None:
        raise BadRequest(f"not a host: {quote(host)}" if host else "the host is empty")
    address, port = match.groups()
    if port and int(port) > 65535:
        raise BadRequest(f"not a port: {port}")
    if address is not None:
        try:
            IPv6Address(address)
        except AddressValueError as exc:
            raise BadRequest(f"not a host: {quote(host)}") from exc
    if len(host) <= _KNOWN_HOSTS_LENGTH:
        if len(KNOWN_HOSTS) >= _KNOWN_HOSTS_SIZE:
            KNOWN_HOSTS.clear()
        KNOWN_HOSTS.add(host)


def check_target(method: str, target: str) -> None:
    """Raise `BadRequest` if *method* may not have *target*, which is no path, or the method is CONNECT.

    Its characters are right already.
    """
    if method == "CONNECT":
        raise NotImplementedByServer("CONNECT: this is no proxy")
    if target == "*":
        if method != "OPTIONS":
            raise BadRequest(f"the target * is for OPTIONS only, not {quote(method)}")
        return
    _split_absolute(target)


def split_target(method: str, target: str) -> tuple[str, str, Optional[str]]:
    """Return the path, percent-decoded once, the query as it came, and the authority if *target* names one.

    Strings are latin-1, as PEP 3333 wants them. *target* is what `read_head` let pass. Nothing is tidied: ``//``,
    ``..``, ``+`` and broken escapes stay. `BadRequest`: the path holds ``%00``. No file or resource is named so,
    and what opens files answers it with a `ValueError`, which would be the server's error instead of the client's.
    """
    authority = None
    if target[0] == "/":
        path, _, query = target.partition("?")
    elif target == "*" and method == "OPTIONS":
        return "*", "", None
    else:
        path, query, authority = _split_absolute(target)
    if "%" in path:
        # As bytes: unquote_to_bytes() of a str would encode what is above ASCII as UTF-8.
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        if "\0" in path:
            raise BadRequest("%00 in the path")
    return path, query, authority


def wants_tls(target: str) -> bool:
    """Whether *target*, which `read_head` let pass, is an https URI: to be refused without TLS (RFC 9110, 7.4)."""
    return target[:8].lower() == "https://"


def _split_absolute(target: str) -> tuple[str, str, str]:
    match = _ABSOLUTE(target)
    if match is None:
        raise BadRequest(f"the target is neither a path nor an http URI: {quote(target)}")
    authority, path, query = match.groups()
    if "@" in authority:
        raise BadRequest("the target holds a user name (RFC 9110, 4.2.4)")
    check_host(authority)
    return path or "/", query or "", authority
