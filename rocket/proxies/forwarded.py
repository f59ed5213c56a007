"""The grammar of what proxies write: Forwarded (RFC 7239, section 4), and the addresses in X-Forwarded-For.

Nothing is repaired: what a trusted proxy writes must be right, and it is the operator who hears if it is not.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from rocket.errors import BadRequest
from rocket.http1 import TOKEN, quote
from rocket.networks import read_ip

MAX_ELEMENTS = 64  # of a Forwarded field: each costs 2 us, and a client may write them

_pair = re.compile(rf'({TOKEN})=(?:({TOKEN})|"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)")').match
_comma = re.compile("[ \t]*,[ \t]*").match
_escape = re.compile(r"\\(.)", re.DOTALL)
_port = re.compile("[0-9]{1,5}").fullmatch
_hidden = re.compile("_[A-Za-z0-9._-]+").fullmatch  # an obfuscated name or port (RFC 7239, 6.3)


class Node(NamedTuple):
    """Who sent the request to a proxy. *packed* is an address as from `read_ip`; *port* may be "", for not known."""

    packed: bytes
    port: str


class Element(NamedTuple):
    """What one proxy wrote into Forwarded: parameters by their lower-case names, and where in the field it begins."""

    parameters: dict[str, str]
    begin: int


def parse_forwarded(value: str) -> list[Element]:
    """Return the elements of the Forwarded field *value*, the one next to us last. BadRequest.

    All of it must be right, also what is not believed: an unclosed quote in what a client wrote would swallow what the
    proxy wrote behind it.
    """
    elements: list[Element] = []
    begin = at = 0
    parameters: dict[str, str] = {}
    while True:
        pair = _pair(value, at)
        if pair is not None:
            name = pair[1].lower()
            if name in parameters:
                raise BadRequest(f"Forwarded: {quote(name)} twice in an element: {quote(value[begin:])}")
            quoted = pair[3]
            parameters[name] = pair[2] if quoted is None else _escape.sub(r"\1", quoted)
            at = pair.end()
        if value.startswith(";", at):
            at += 1
            continue
        comma = _comma(value, at)
        if comma is None and at < len(value):
            raise BadRequest(f"Forwarded: not as in RFC 7239, section 4, from here on: {quote(value[at:])}")
        elements.append(Element(parameters, begin))
        if comma is None:
            return elements
        if len(elements) == MAX_ELEMENTS:
            raise BadRequest(f"Forwarded: more than {MAX_ELEMENTS} elements")
        begin = at = comma.end()
        parameters = {}


def parse_for(value: str) -> Optional[Node]:
    """Return the node that the parameter ``for`` names (RFC 7239, section 6); None if it hides it. BadRequest."""
    host, port = _split_port(value)
    if port is not None and _port(port) is None and _hidden(port) is None:
        raise BadRequest(f"Forwarded: not a port in for={quote(value)}")
    if host.lower() == "unknown" or _hidden(host):
        return None
    packed = _read_bracketed(host)
    if packed is None:
        raise BadRequest(f"Forwarded: neither an address nor unknown nor _hidden: for={quote(value)}")
    return Node(packed, port if port is not None and _is_port(port) else "")


def parse_x_for(item: str) -> Optional[Node]:
    """Return the node that an *item* of X-Forwarded-For names; None if it is ``unknown``. BadRequest.

    No document says what may stand there. Proxies write addresses, some with a port (Azure), some put IPv6 into
    brackets, and Squid writes ``unknown``.
    """
    if item.lower() == "unknown":
        return None
    packed = read_ip(item)
    if packed is not None:
        return Node(packed, "")
    host, port = _split_port(item)
    packed = _read_bracketed(host)
    if packed is None or (port is not None and not _is_port(port)):
        raise BadRequest(f"X-Forwarded-For: not an address: {quote(item)}")
    return Node(packed, port or "")


def _split_port(text: str) -> tuple[str, Optional[str]]:
    """Return the host and the port, None if there is none, of ``host:port`` or ``[host]:port``."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, None
    return host, port


def _read_bracketed(host: str) -> Optional[bytes]:
    """Return the bytes of an IPv4 address, or of an IPv6 address in brackets."""
    if host.startswith("["):
        return read_ip(host[1:-1]) if host.endswith("]") and ":" in host else None
    return None if ":" in host else read_ip(host)


def _is_port(text: str) -> bool:
    return _port(text) is not None and int(text) <= 65535
