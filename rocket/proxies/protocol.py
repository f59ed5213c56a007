"""The PROXY protocol, versions 1 and 2: who the client of a proxy is, in front of a connection's first byte.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt; the sections in comments are its.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple, Optional

from rocket.errors import BadRequest
from rocket.http1 import quote
from rocket.networks import read_ip, show_ip

VERSIONS = {"on": frozenset((1, 2)), "v1": frozenset((1,)), "v2": frozenset((2,))}
LINE_BYTES = 107  # the longest header of version 1 (section 2.1)
MAX_BYTES = 4096  # the longest of version 2 that we read; senders keep below 536 (section 2)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

LOCAL, PROXY = 0, 1  # the commands (section 2.2)
INET, INET6, UNIX = 1, 2, 3  # the families
STREAM = 1
CRC32C, SSL = 0x03, 0x20  # the types of TLVs that are looked into
CLIENT_SSL = 0x01

_PORT = b"(0|[1-9][0-9]{0,4})"
_line = re.compile(
    b"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) " + _PORT + b" " + _PORT + b")"
).fullmatch


class ProxyHeader(NamedTuple):
    """What a header says. An address is (host, port) as `socket.getpeername` has them, the port as text."""

    local: bool  # the proxy speaks for itself, as with a health check: nothing else is set
    source: Optional[tuple[str, str]]  # the client; None if it has no IP address, or the proxy does not know it
    destination: Optional[tuple[str, str]]  # where the client connected to
    tls: bool  # the client speaks TLS to the proxy; version 1 cannot say so
    end: int  # index of the first byte after the header


def read_proxy_header(data: bytes, versions: frozenset[int]) -> Optional[ProxyHeader]:
    """Read the header that *data* begins with, of one of the *versions*; None if it has not come whole.

    BadRequest, as soon as it is sure: these bytes cannot become such a header.
    """
    if 2 in versions and data.startswith(SIGNATURE[: len(data)]):
        return _read_binary(data)
    if 1 in versions and data.startswith(b"PROXY "[: len(data)]):
        return _read_line(data)
    wanted = " or ".join(str(version) for version in sorted(versions))
    raise BadRequest(
        f"the connection must begin with a PROXY protocol header, version {wanted}, not {quote(data[:40])}"
    )


def _read_line(data: bytes) -> Optional[ProxyHeader]:
    """Version 1 (section 2.1)."""
    end = data.find(b"\r\n", 0, LINE_BYTES)
    if end < 0:
        if len(data) < LINE_BYTES:
            return None
        raise BadRequest(f"PROXY line: no end within {LINE_BYTES} bytes: {quote(data[:LINE_BYTES])}")
    line = data[:end]
    match = _line(line)
    if match is None:
        raise BadRequest(f"PROXY line: not as the protocol has it: {quote(line)}")
    if match[1] is None:
        return ProxyHeader(False, None, None, False, end + 2)
    family, source, destination, source_port, destination_port = (group.decode("ascii") for group in match.groups())
    for address in (source, destination):
        if (":" in address) is not (family == "TCP6") or read_ip(address) is None:
            raise BadRequest(f"PROXY line: not an address of {family}: {quote(address)}")
    for port in (source_port, destination_port):
        if int(port) > 65535:
            raise BadRequest(f"PROXY line: not a port: {port}")
    return ProxyHeader(
        False, (_canonical(source), source_port), (_canonical(destination), destination_port), False, end + 2
    )


def _canonical(address: str) -> str:
    packed = read_ip(address)
    assert packed is not None  # it was looked at
    return show_ip(packed)


def _read_binary(data: bytes) -> Optional[ProxyHeader]:
    """Version 2 (section 2.2)."""
    if len(data) < 16:
        if len(data) > 12:
            _check_command(data[12])
        return None
    command = _check_command(data[12])
    family, transport = data[13] >> 4, data[13] & 15
    end = 16 + int.from_bytes(data[14:16], "big")
    if end > MAX_BYTES:
        raise BadRequest(f"PROXY header: {end} bytes, more than {MAX_BYTES}")
    if command == PROXY and (family > UNIX or transport > 2):
        raise BadRequest(f"PROXY header: unknown family and transport 0x{data[13]:02x}")
    if len(data) < end:
        return None
    if command == LOCAL:
        return ProxyHeader(True, None, None, False, end)
    known = family if transport else 0
    at = 16 + {0: 0, INET: 12, INET6: 36, UNIX: 216}[known]
    if at > end:
        raise BadRequest(f"PROXY header: {end - 16} bytes are too few for addresses of family {family}")
    source = destination = None
    if transport == STREAM and known in {INET, INET6}:
        size = 4 if known == INET else 16
        ports = struct.unpack_from("!HH", data, at - 4)
        source = show_ip(data[16 : 16 + size]), str(ports[0])
        destination = show_ip(data[16 + size : at - 4]), str(ports[1])
    # Without a known family nobody can say where the addresses end and the TLVs begin.
    tls = known != 0 and _read_tlvs(data[:end], at)
    return ProxyHeader(False, source, destination, tls, end)


def _check_command(byte: int) -> int:
    if byte >> 4 != 2:
        raise BadRequest(f"PROXY header: version {byte >> 4}, not 2")
    if byte & 15 > PROXY:
        raise BadRequest(f"PROXY header: unknown command {byte & 15}")
    return byte & 15


def _read_tlvs(header: bytes, at: int) -> bool:
    """Check the vectors behind the addresses, from *at* on; return whether the client speaks TLS (section 2.2.6)."""
    tls = False
    checked = False
    while at < len(header):
        kind, size = header[at], int.from_bytes(header[at + 1 : at + 3], "big")
        begin, at = at + 3, at + 3 + size
        if at > len(header):
            raise BadRequest(f"PROXY header: the TLV 0x{kind:02x} goes beyond the end")
        if kind == CRC32C:
            if size != 4 or checked:
                raise BadRequest("PROXY header: more than one CRC32C, or not of 4 bytes")
            checked = True
            told = int.from_bytes(header[begin:at], "big")
            found = crc32c(header[:begin] + bytes(4) + header[at:])
            if told != found:
                raise BadRequest(f"PROXY header: its CRC32C is 0x{found:08x}, not 0x{told:08x}")
        elif kind == SSL:
            if size < 5:
                raise BadRequest(f"PROXY header: {size} bytes are too few for the TLV 0x{SSL:02x}")
            tls = bool(header[begin] & CLIENT_SSL)
    return tls


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _table()


def crc32c(data: bytes) -> int:
    """Return the checksum of RFC 4960, appendix B: 0xe3069283 of b"123456789"."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
