"""IP addresses and networks: whether a host is among those that are listed. Knows no connections and no headers.

An address is worked with as the 4 or 16 bytes that it is (`read_ip`), never as text: there are many ways to write one.
An IPv4 client of a dual-stack socket has an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2); here it is an IPv4 address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Optional

UNIX = "unix"
EVERYBODY = "*"
_MAPPED = bytes(10) + b"\xff\xff"


def read_ip(text: str) -> Optional[bytes]:
    """Return the bytes of the IPv4 or IPv6 address *text*, in network order; None if it is none.

    As strict as inet_pton(3): no zeros in front (octal to some), no short forms, no zones, no brackets.
    """
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):  # ValueError: a NUL in it
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def show_ip(packed: bytes) -> str:
    """Return the address *packed*, 4 or 16 bytes, in its canonical form."""
    if packed.startswith(_MAPPED) and len(packed) == 16:
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


class Networks:
    """The peers that are *listed*: addresses, networks (10.0.0.0/8), `unix` for those of unix sockets, or `*` for all.

    ValueError: one of them is none of these; its argument is the item. A network must not have bits set behind its
    prefix (10.0.0.1/8): whoever writes that may have meant the address.
    """

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self.listed = tuple(listed)
        self._everybody = EVERYBODY in self.listed
        self._unix = self._everybody or UNIX in self.listed
        # Of a network: its addresses' length in bytes, its mask, its number.
        self._networks = [_read_network(item) for item in self.listed if item not in {EVERYBODY, UNIX}]

    def __bool__(self) -> bool:
        return bool(self.listed)

    def has_peer(self, host: str) -> bool:
        """Whether *host* is listed: an address as the socket tells it, or "" for the peer of a unix socket."""
        if not host:
            return self._unix
        return self._everybody or self.names_host(host)

    def names_host(self, host: str) -> bool:
        """Whether the address *host* is listed by itself or in a network: `*` does not count."""
        packed = read_ip(host.partition("%")[0])  # a link-local address has its interface behind it
        return packed is not None and self.names(packed)

    def has(self, packed: bytes) -> bool:
        """Whether the address *packed*, as from `read_ip`, is listed."""
        return self._everybody or self.names(packed)

    def names(self, packed: bytes) -> bool:
        """Whether the address *packed* is listed by itself or in a network: `*` does not count."""
        number = int.from_bytes(packed, "big")
        size = len(packed)
        return any(size == length and number & mask == base for length, mask, base in self._networks)


def _read_network(text: str) -> tuple[int, int, int]:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(text) from None
    if network.version == 6:
        if getattr(network.network_address, "scope_id", None):
            raise ValueError(text)
        mapped = ipaddress.IPv6Address(network.network_address).ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            network = ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network.max_prefixlen // 8, int(network.netmask), int(network.network_address)
