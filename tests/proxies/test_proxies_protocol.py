"""The header of the PROXY protocol, both versions."""

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rocket.errors import BadRequest
from rocket.proxies import VERSIONS, ProxyHeader, read_proxy_header
from rocket.proxies.protocol import LINE_BYTES, MAX_BYTES, SIGNATURE, crc32c

EITHER = VERSIONS["on"]
TCP4 = 0x11
ADDRESSES = bytes([192, 0, 2, 1, 203, 0, 113, 9]) + struct.pack("!HH", 4711, 443)
FOUND = ProxyHeader(False, ("192.0.2.1", "4711"), ("203.0.113.9", "443"), False, 0)


def binary(rest=b"", *, command=0x21, family=TCP4, length=None):
    """A header of version 2 with *rest* behind its first 16 bytes."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if length is None else length) + rest


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(rest, *, add=0):
    unsigned = binary(rest + tlv(3, bytes(4)))
    return unsigned[:-4] + struct.pack("!I", crc32c(unsigned) ^ add)


def read(data, versions=EITHER):
    return read_proxy_header(data, versions)


def refusal(data, versions=EITHER):
    with pytest.raises(BadRequest) as caught:
        read(data, versions)
    return str(caught.value)


def read_in_pieces(pieces, versions=EITHER):
    """Return what is read when the *pieces* come one after the other: the header, None, or BadRequest."""
    data = b""
    for piece in pieces:
        data += piece
        try:
            header = read(data, versions)
        except BadRequest:
            return BadRequest
        if header is not None:
            return header
    return None


# ---- version 1 ----


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443", ("192.0.2.1", "56324"), ("203.0.113.9", "443")),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", ("255.255.255.255", "65535"), None),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0", ("0.0.0.0", "0"), ("0.0.0.0", "0")),
        (b"PROXY TCP6 2001:DB8:0::1 ::1 5 80", ("2001:db8::1", "5"), ("::1", "80")),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 5 80", ("192.0.2.1", "5"), ("192.0.2.2", "80")),
        (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535", None, None),
        (b"PROXY UNKNOWN", None, None),
        (b"PROXY UNKNOWN whatever \0\xff stands here", None, None),
        (b"PROXY UNKNOWN " + b"x" * 91, None, None),
    ],
)
def test_a_line_names_both_ends(line, source, destination):
    header = read(line + b"\r\nGET / HTTP/1.1\r\n", VERSIONS["v1"])
    assert (header.local, header.tls, header.end) == (False, False, len(line) + 2)
    if b"UNKNOWN" in line:
        assert header.source is header.destination is None
    if source is not None:
        assert header.source == source
    if destination is not None:
        assert header.destination == destination


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 203.0.113.9 56324",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443 ",
        b"PROXY  TCP4 192.0.2.1 203.0.113.9 56324 443",
        b"PROXY TCP4 192.0.2.1\t203.0.113.9 56324 443",
        b"PROXY TCP4 192.0.2.01 203.0.113.9 56324 443",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 056324 443",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 65536 443",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 1 99999",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 -1 443",
        b"PROXY TCP4 192.0.2.256 203.0.113.9 1 443",
        b"PROXY TCP4 ::1 ::1 1 443",
        b"PROXY TCP6 192.0.2.1 203.0.113.9 1 443",
        b"PROXY TCP6 ::1%lo ::1 1 443",
        b"PROXY TCP6 ::g ::1 1 443",
        b"PROXY TCP4 192.0.2.1 ::1 1 443",
        b"PROXY TCP5 192.0.2.1 203.0.113.9 1 443",
        b"PROXY tcp4 192.0.2.1 203.0.113.9 1 443",
        b"PROXY UDP4 192.0.2.1 203.0.113.9 1 443",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 1 443\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 1 443\nGET / HTTP/1.1",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 1 443\r",
        b"PROXY UNKNOWNX",
        b"PROXY UNKNOWN a\nb",
        b"PROXY ",
        b"PROXY \xff",
    ],
)
def test_a_line_that_is_not_of_the_protocol_is_refused_and_named(line):
    assert refusal(line + b"\r\n").startswith("PROXY line: ")


def test_a_line_has_an_end_in_time():
    assert read(b"PROXY UNKNOWN ".ljust(LINE_BYTES - 1, b"x")) is None
    assert "no end within 107 bytes" in refusal(b"PROXY UNKNOWN ".ljust(LINE_BYTES, b"x"))
    assert "no end within 107 bytes" in refusal(b"PROXY UNKNOWN ".ljust(LINE_BYTES - 1, b"x") + b"\r\n")


# ---- version 2 ----


def test_a_binary_header_names_both_ends():
    header = read(binary(ADDRESSES) + b"GET / HTTP/1.1\r\n", VERSIONS["v2"])
    assert header == FOUND._replace(end=28)
    six = (
        ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("::ffff:192.0.2.9").packed + b"\0\x05\x01\xbb"
    )
    assert read(binary(six, family=0x21)) == (False, ("2001:db8::1", "5"), ("192.0.2.9", "443"), False, 52)


@pytest.mark.parametrize("family", [0x00, 0x11, 0x31, 0x44, 0xFF])
@pytest.mark.parametrize("rest", [b"", ADDRESSES, b"x" * 300])
def test_of_a_local_header_nothing_but_its_length_counts(family, rest):
    assert read(binary(rest, command=0x20, family=family)) == (True, None, None, False, 16 + len(rest))


@pytest.mark.parametrize(
    ("family", "rest"),
    [
        (0x00, b""),
        (0x00, b"ignored"),
        (0x01, b""),
        (0x10, ADDRESSES),
        (0x10, b""),
        (0x20, b"short"),
        (0x12, ADDRESSES),
        (0x22, bytes(36)),
        (0x31, bytes(216)),
        (0x32, b"/run/x".ljust(216, b"\0")),
    ],
)
def test_a_client_without_a_tcp_address_is_unknown(family, rest):
    header = read(binary(rest, family=family))
    assert (header.local, header.source, header.destination) == (False, None, None)
    assert header.end == 16 + len(rest)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (binary(ADDRESSES, command=0x11), "PROXY header: version 1, not 2"),
        (binary(ADDRESSES, command=0x31), "PROXY header: version 3, not 2"),
        (binary(ADDRESSES, command=0x22), "PROXY header: unknown command 2"),
        (binary(ADDRESSES, family=0x41), "PROXY header: unknown family and transport 0x41"),
        (binary(ADDRESSES, family=0x13), "PROXY header: unknown family and transport 0x13"),
        (binary(ADDRESSES[:-1]), "PROXY header: 11 bytes are too few for addresses of family 1"),
        (binary(ADDRESSES, family=0x21), "PROXY header: 12 bytes are too few for addresses of family 2"),
        (binary(bytes(215), family=0x31), "PROXY header: 215 bytes are too few for addresses of family 3"),
        (binary(b"", length=MAX_BYTES - 15), f"PROXY header: {MAX_BYTES + 1} bytes, more than {MAX_BYTES}"),
        (binary(b"", command=0x20, length=65535), f"PROXY header: 65551 bytes, more than {MAX_BYTES}"),
        (binary(ADDRESSES + b"\1"), "PROXY header: the TLV 0x01 goes beyond the end"),
        (binary(ADDRESSES + tlv(1, b"h2")[:-1]), "PROXY header: the TLV 0x01 goes beyond the end"),
        (binary(ADDRESSES + tlv(0x20, b"\1\0\0\0")), "PROXY header: 4 bytes are too few for the TLV 0x20"),
        (binary(ADDRESSES + tlv(3, b"123")), "PROXY header: more than one CRC32C, or not of 4 bytes"),
        (with_checksum(ADDRESSES + tlv(3, bytes(4))), "PROXY header: its CRC32C is"),
        (with_checksum(ADDRESSES, add=1), "PROXY header: its CRC32C is"),
    ],
)
def test_a_binary_header_that_is_not_of_the_protocol_is_refused_and_named(data, said):
    assert refusal(data).startswith(said)


def test_the_checksum_is_that_of_rfc_4960():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize("behind", [b"", tlv(4, bytes(9))])
def test_a_checksum_that_is_right_is_accepted(behind):
    unsigned = binary(ADDRESSES + tlv(3, bytes(4)) + behind)
    at = 16 + len(ADDRESSES) + 3
    header = unsigned[:at] + struct.pack("!I", crc32c(unsigned)) + unsigned[at + 4 :]
    assert read(header) == FOUND._replace(end=len(header))


@pytest.mark.parametrize(("bits", "tls"), [(0, False), (1, True), (7, True), (6, False)])
def test_a_header_may_say_that_the_client_speaks_tls(bits, tls):
    ssl = tlv(0x20, bytes([bits]) + bytes(4) + tlv(0x21, b"TLSv1.3"))
    data = binary(ADDRESSES + tlv(1, b"h2") + ssl + tlv(0xE0, b"custom"))
    assert read(data) == FOUND._replace(tls=tls, end=len(data))


# ---- which of them ----


@pytest.mark.parametrize("mode", VERSIONS)
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\0",
        b"\r\nGET /",
        b"PRI * HTTP/2.0",
        b"proxy tcp4 ",
        b"\0",
        b"PUT ",
    ],
)
def test_where_a_header_is_required_anything_else_is_refused_and_named(data, mode):
    said = refusal(data, VERSIONS[mode])
    wanted = {"on": "1 or 2", "v1": "1", "v2": "2"}[mode]
    assert said.startswith(f"the connection must begin with a PROXY protocol header, version {wanted}, not ")


def test_the_other_version_is_refused():
    assert "version 1, not " in refusal(binary(ADDRESSES), VERSIONS["v1"])
    assert "version 2, not " in refusal(b"PROXY UNKNOWN\r\n", VERSIONS["v2"])


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.1 203.0.113.9 1 2\r\n", binary(ADDRESSES + tlv(4, b"x"))])
def test_a_header_is_not_read_before_it_is_whole(header):
    for end in range(len(header)):
        assert read(header[:end]) is None
    assert read(header).end == len(header)


# ---- any bytes ----

LINES = st.builds(
    lambda kind, words, end: b" ".join([b"PROXY", kind, *words]) + end,
    st.sampled_from([b"TCP4", b"TCP6", b"UNKNOWN", b"TCP", b""]),
    st.lists(
        st.sampled_from([b"192.0.2.1", b"::1", b"65535", b"0", b"01", b"", b"x", b"\r", b"\n", b"99999"]), max_size=5
    ),
    st.sampled_from([b"\r\n", b"\n", b"\r", b""]),
)
TLVS = st.lists(st.builds(tlv, st.sampled_from([1, 3, 4, 0x20, 0xFF]), st.binary(max_size=8)), max_size=3).map(b"".join)
BINARIES = st.builds(
    lambda command, family, addresses, tlvs, length: binary(
        addresses + tlvs, command=command, family=family, length=length
    ),
    st.sampled_from([0x20, 0x21, 0x22, 0x11]),
    st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31, 0x41, 0x01]),
    st.sampled_from([b"", ADDRESSES, bytes(36), bytes(216)]),
    TLVS,
    st.one_of(st.none(), st.none(), st.integers(0, 300), st.just(65535)),
)
STREAMS = st.builds(
    lambda begin, rest: begin + rest, st.one_of(LINES, BINARIES, st.binary(max_size=20)), st.binary(max_size=40)
)


@given(STREAMS, st.sampled_from(sorted(VERSIONS)), st.data())
@example(with_checksum(ADDRESSES), "on", None)
def test_any_split_gives_the_same_header_or_the_same_refusal(data, mode, choices):
    versions = VERSIONS[mode]
    whole = read_in_pieces([data], versions)
    assert read_in_pieces([data[i : i + 1] for i in range(len(data))], versions) == whole
    if choices is not None:
        cuts = sorted(choices.draw(st.lists(st.integers(0, len(data)), max_size=3)))
        pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)])]
        assert read_in_pieces(pieces, versions) == whole


@given(STREAMS, st.sampled_from(sorted(VERSIONS)))
def test_what_was_refused_is_refused_whatever_follows(data, mode):
    if read_in_pieces([data], VERSIONS[mode]) is BadRequest:
        assert read_in_pieces([data, b"\r\n", bytes(200)], VERSIONS[mode]) is BadRequest


@given(STREAMS)
def test_a_header_ends_within_the_data_and_its_bounds(data):
    header = read_in_pieces([data])
    if isinstance(header, ProxyHeader):
        assert 0 < header.end <= min(len(data), MAX_BYTES)
        assert read_in_pieces([data[: header.end]]) == header
        assert read_in_pieces([data[: header.end - 1]]) is None


@given(
    st.sampled_from([4, 6]).flatmap(lambda v: st.tuples(st.ip_addresses(v=v), st.ip_addresses(v=v))),
    st.integers(0, 65535),
    st.integers(0, 65535),
)
def test_both_versions_name_the_same_ends(addresses, source_port, destination_port):
    source, destination = addresses
    line = f"PROXY TCP{source.version} {source} {destination} {source_port} {destination_port}\r\n".encode()
    packed = source.packed + destination.packed + struct.pack("!HH", source_port, destination_port)
    header = binary(packed, family=TCP4 if source.version == 4 else 0x21)
    assert read(line)[:4] == read(header)[:4]
