"""Which entries of a forwarding field are believed, and what becomes of the environ (docs/proxies.md says why)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

from rocket.errors import BadRequest
from rocket.http1 import FORWARDING, check_host, quote
from rocket.networks import Networks, show_ip
from rocket.proxies.forwarded import Node, parse_for, parse_forwarded, parse_x_for

log = logging.getLogger("rocket.proxy")

SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}  # Traefik writes ws and wss
PORTS = {"http": "80", "https": "443"}
COMPLAIN = 5.0  # s: between two log lines about what trusted proxies do wrong


class Proxies:
    """The peers that are believed when they say for whom they speak, and in which fields.

    *listed* is what `Networks` takes; *fields* are field names in lower case, of which the proxies set each, and *hops*
    is how many proxies in a row are believed at most. Its methods are safe in any thread.
    """

    def __init__(
        self,
        listed: Iterable[str] = (),
        *,
        fields: Sequence[str] = ("x-forwarded-for", "x-forwarded-proto"),
        hops: int = 1,
    ) -> None:
        self.networks = Networks(listed)
        self._hops = hops
        self._believed = frozenset("HTTP_" + name.upper().replace("-", "_") for name in fields)
        # Any thread sets them; at worst two threads tell the same.
        self._told = False
        self._complained = -COMPLAIN

    def settle(self, environ: dict[str, Any], *, trusted: bool) -> None:
        """Make *environ* say who the client is, as far as its peer is *trusted* to know; drop what is not believed.

        It has `FORWARDING`, and in REMOTE_ADDR and REMOTE_PORT the peer's address. BadRequest: a trusted proxy wrote
        what cannot be understood. To ignore that would make the proxy's address the client's, and open to
        everybody what is meant for neighbours.
        """
        peer = environ["REMOTE_ADDR"]
        keys = environ.pop(FORWARDING).split()
        for key in keys:
            if not trusted or key not in self._believed:
                environ.pop(key, None)
        if not trusted:
            field = keys[0][len("HTTP_") :].replace("_", "-").title()
            self.tell_once("%s is dropped, and so is all of its kind, from %s", field, peer)
            return
        try:
            if "HTTP_FORWARDED" in environ:
                self._believe_forwarded(environ)
            else:
                self._believe_x_forwarded(environ)
        except BadRequest as exc:
            self.complain("%s, says the proxy at %s", exc, peer or "a unix socket")
            raise

    def tell_once(self, text: str, *args: str) -> None:
        """Log what somebody sends who is not listed; its last argument is the host. Anybody can cause it: so once."""
        if not self._told:
            self._told = True
            *others, host = args
            log.info(f"{text}, which is not in forwarded_allow_ips (told once)", *others, host or "a unix socket")

    def complain(self, text: str, *args: object) -> None:
        """Log what a trusted proxy does wrong, once in a while: somebody has to change its configuration."""
        now = time.monotonic()
        if now - self._complained >= COMPLAIN:
            self._complained = now
            log.warning(text, *args)

    # ------------------------------------------------------------------ the two families

    def _believe_forwarded(self, environ: dict[str, Any]) -> None:
        value = environ["HTTP_FORWARDED"]
        elements = parse_forwarded(value)
        nodes = (parse_for(each.parameters["for"]) if "for" in each.parameters else None for each in elements[::-1])
        client, count = self._walk(nodes)
        believed = elements[-count:]
        environ["HTTP_FORWARDED"] = value[believed[0].begin :]
        _set_client(environ, client)
        # What the proxy next to the client saw; if it does not say, what the next one saw.
        told: dict[str, str] = {}
        for element in believed[::-1]:
            told.update(element.parameters)
        scheme = _scheme("Forwarded", told["proto"]) if "proto" in told else None
        host = _host("Forwarded", told["host"]) if "host" in told else None
        _set_url(environ, scheme, host, None)

    def _believe_x_forwarded(self, environ: dict[str, Any]) -> None:
        count = 1
        value = environ.get("HTTP_X_FORWARDED_FOR")
        if value is not None:
            client, count = self._walk(map(parse_x_for, _from_the_right(value)))
            environ["HTTP_X_FORWARDED_FOR"] = _last(value, count)
            _set_client(environ, client)
        scheme = host = port = None
        if "HTTP_X_FORWARDED_PROTO" in environ:
            told = _first_of_last(environ, "HTTP_X_FORWARDED_PROTO", count)
            scheme = _scheme("X-Forwarded-Proto", told)
        if "HTTP_X_FORWARDED_HOST" in environ:
            host = _host("X-Forwarded-Host", _first_of_last(environ, "HTTP_X_FORWARDED_HOST", count))
        if "HTTP_X_FORWARDED_PORT" in environ:
            port = _first_of_last(environ, "HTTP_X_FORWARDED_PORT", count)
            if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
                raise BadRequest(f"X-Forwarded-Port: not a port: {quote(port)}")
            port = str(int(port))
        _set_url(environ, scheme, host, port)

    def _walk(self, nodes: Iterator[Optional[Node]]) -> tuple[Optional[Node], int]:
        """Return the client, None if nobody is named, and how many entries are believed, at least one.

        *nodes* are what the entries name, the one that our peer wrote first. Each was written by the one that the entry
        before it names. So an entry is believed as long as its writer is.
        """
        client = None
        count = 0
        for node in nodes:
            count += 1
            if node is None:
                break
            client = node
            if count == self._hops or not self.networks.has(node.packed):
                break
        return client, count


# --- Values ----------------------------------------------------------------------------------------------------------


def _from_the_right(value: str) -> Iterator[str]:
    """Yield the items of a list, the last first, as far as they are asked for: who wrote a long one does not matter."""
    comma = ","
    while comma:
        value, comma, item = value.rpartition(",")
        yield item.strip(" \t")


def _last(value: str, count: int) -> str:
    """Return the last *count* items of the list *value*."""
    return ",".join(value.rsplit(",", count)[-count:]).strip(" \t")


def _first_of_last(environ: dict[str, Any], key: str, count: int) -> str:
    """Return the first of the last *count* items of a field, and leave no other in *environ*: they are not believed."""
    item: str = _last(environ[key], count).partition(",")[0].rstrip(" \t")
    environ[key] = item
    return item


def _scheme(field: str, text: str) -> str:
    scheme = SCHEMES.get(text.lower())
    if scheme is None:
        raise BadRequest(f"{field}: neither http nor https: {quote(text)}")
    return scheme


def _host(field: str, text: str) -> str:
    try:
        check_host(text)
    except BadRequest as exc:
        raise BadRequest(f"{field}: {exc}") from exc
    return text


def _set_client(environ: dict[str, Any], client: Optional[Node]) -> None:
    if client is not None:
        environ["REMOTE_ADDR"] = show_ip(client.packed)
        environ["REMOTE_PORT"] = client.port  # "", if nobody knows: the proxy's would be a lie


def _set_url(environ: dict[str, Any], scheme: Optional[str], host: Optional[str], port: Optional[str]) -> None:
    """Put into *environ* what the client's URL began with; None is what is not told.

    A port in *host* is nearer to what the client wrote than *port* is. SERVER_PORT is where the client's request
    arrived, in front of the proxy: what is not told follows from Host and the scheme.
    """
    if scheme is not None:
        environ["wsgi.url_scheme"] = scheme
        if scheme == "https":
            environ["HTTPS"] = "on"  # as CGI programs know it, and wsgiref.util.guess_scheme
        else:
            environ.pop("HTTPS", None)  # TLS between the proxy and us is not the client's
    elif host is None and port is None:
        return
    usual = PORTS[environ["wsgi.url_scheme"]]
    name, own = _split_host(host if host is not None else environ.get("HTTP_HOST", ""))
    if port is None or (host is not None and own):
        port = own or usual
        if host is not None:
            environ["HTTP_HOST"] = host
    elif name:
        environ["HTTP_HOST"] = name if port == usual else f"{name}:{port}"
    environ["SERVER_PORT"] = port
    if host is not None:
        environ["SERVER_NAME"] = name


def _split_host(host: str) -> tuple[str, str]:
    """Return name and port, "" if there is none, of what `check_host` let pass."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not host.endswith("]") else (host, "")
