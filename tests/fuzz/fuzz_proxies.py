"""Fuzz `rocket.proxies`: nothing but `BadRequest`, any split is the same PROXY header, and nobody forges an address.

    python tests/fuzz/fuzz_proxies.py --seconds 60 [--seed 1]

Inputs are mutations of good ones. What a client writes is put in front of what a proxy appends, as proxies do.
"""

import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from fuzz_random import main  # noqa: E402

from rocket.errors import BadRequest  # noqa: E402
from rocket.http1 import FORWARDING  # noqa: E402
from rocket.proxies import VERSIONS, Proxies, read_proxy_header  # noqa: E402
from rocket.proxies.protocol import MAX_BYTES, SIGNATURE, crc32c  # noqa: E402

INET = bytes([192, 0, 2, 1, 203, 0, 113, 9]) + struct.pack("!HH", 4711, 443)
SSL = b"\x20\0\x0f\1\0\0\0\0\x21\0\7TLSv1.3"
SIGNED = SIGNATURE + b"\x21\x11\0\x13" + INET + b"\3\0\4\0\0\0\0"
HEADERS = [
    b"PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 65535 0\r\n",
    b"PROXY UNKNOWN\r\n",
    SIGNATURE + b"\x20\0\0\0",
    SIGNATURE + b"\x21\x11\0\x0c" + INET + b"GET /",
    SIGNATURE + b"\x21\x21\0\x24" + bytes(36),
    SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
    SIGNATURE + b"\x21\x11\0\x1e" + INET + SSL,
    SIGNED[:-4] + struct.pack("!I", crc32c(SIGNED)) + b"rest",
]
FIELDS = [
    b"6.6.6.6",
    b"6.6.6.6, 10.0.0.1",
    b"unknown, [2001:db8::1]:80",
    b"for=6.6.6.6;proto=http;by=a",
    b'for="[2001:db8::1]:4711";host="a.example:81", for=_x;secret="a\\"b,;="',
    b'for="',
    b"https, http",
]
EDGE, CLIENT = "10.0.0.1", "192.0.2.7"  # the proxy that the client talks to, behind another one
APPENDED = {
    "x-forwarded-for": f", {CLIENT}, {EDGE}",
    "forwarded": f', for={CLIENT};proto=https;host="a.example", for={EDGE};proto=http',
}


def check_header(data):
    """Raise AssertionError, or whatever should not be raised, if *data* shows a fault."""
    for versions in VERSIONS.values():
        whole = _read([data], versions)
        assert _read([data[i : i + 1] for i in range(len(data))], versions) == whole
        if whole not in {None, BadRequest}:
            assert 0 < whole.end <= min(len(data), MAX_BYTES)
            for address in (whole.source, whole.destination):
                assert address is None or 0 <= int(address[1]) <= 65535


def _read(pieces, versions):
    data = b""
    for piece in pieces:
        data += piece
        try:
            header = read_proxy_header(data, versions)
        except BadRequest:
            return BadRequest
        if header is not None:
            return header
    return None


def check_fields(written):
    """Put *written*, a client's, in front of what two proxies append: the client stays who it is."""
    for field, appended in APPENDED.items():
        key = "HTTP_" + field.upper().replace("-", "_")
        for hops, client in ((1, EDGE), (2, CLIENT), (9, CLIENT)):
            value = (written.decode("latin-1") + appended).strip(" \t")
            environ = {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", key: value, FORWARDING: key}
            try:
                Proxies(["127.0.0.1", EDGE], fields=[field], hops=hops).settle(environ, trusted=True)
            except BadRequest:
                continue
            assert environ["REMOTE_ADDR"] == client, value
            assert environ[key] in appended


TARGETS = [(HEADERS, check_header), (FIELDS, check_fields)]

if __name__ == "__main__":
    main(TARGETS, __doc__)
