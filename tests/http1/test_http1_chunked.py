"""Chunked bodies: the grammar to the letter, and every limit."""

import pytest
from http1_reader import LIMITS, byte_by_byte

from rocket.errors import BadRequest, BodyTooLarge, HeadTooLarge
from rocket.http1 import LAST_CHUNK, ChunkedBody, Limits, chunk
from rocket.http1.chunked import EXTENSION_LINE, EXTENSIONS, TRAILER


def decode(pieces, limits=LIMITS):
    body = ChunkedBody(limits)
    content = b"".join(map(body.feed, pieces))
    return content, body.done, body.rest if body.done else None


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"2\r\nhe\r\n1\r\nl\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"9\r\nab\r\n0\r\n\r\n\r\n0\r\n\r\n", b"ab\r\n0\r\n\r\n"),
        (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello"),
        (b'5;a="b;\\"c\t\xff";d\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b'5;a=""\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5\r\nhello\r\n0\r\nX-T: v\r\nHost:\r\nContent-Length: 5\r\n\r\n", b"hello"),
    ],
)
def test_decoded(wire, content):
    assert decode([wire]) == (content, True, b"")
    assert decode(byte_by_byte(wire)) == (content, True, b"")
    assert decode([wire + b"GET /"]) == (content, True, b"GET /")
    for end in range(len(wire)):
        assert not decode([wire[:end]])[1]


BAD = b'-5 +5 0x5 0_5 \xb2 5h g 5.0 "5" -0 5, 5\0 5\x0b \xa05 5\x1f 0x 5\r 5\rX 5;a\rb 5;a\0b'.split(b" ")
BAD += b'5; 5;=b 5;a= 5;a=" 5;a="b 5;a="b"c 5;a="\\ ;a=b 5;;a 5;a=b=c 5;a;'.split(b" ")
BAD += [b"", b" 5", b"\t5", b"5 ", b"5\t", b"5 5", b"5 ;a", b"5; a", b"5;a =b", b"5;a= b", b"1" * 17, b"1" * 5000]


@pytest.mark.parametrize("line", BAD, ids=[repr(line[:30])[2:-1] for line in BAD])
def test_a_line_that_is_no_size_is_refused(line):
    wire = line + b"\r\nhello\r\n0\r\n\r\n"
    with pytest.raises(BadRequest):
        decode([wire])
    with pytest.raises(BadRequest):
        decode(byte_by_byte(wire))
    with pytest.raises(BadRequest):
        decode([b"1\r\nx\r\n", line.replace(b"5", b"0") + b"\r\n\r\n"])


@pytest.mark.parametrize(
    "wire",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5;\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b'5;a="x\r\nhello\r\n0\r\n\r\n"\r\n',
        b"5\r\nhello0\r\n\r\n",
        b"3\r\nhello\r\n0\r\n\r\n",
        b"7\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello\n\r0\r\n\r\n",
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\nX-A: b\n\n",
        b"0\r\nX-A: b\n\r\n",
        b"0\r\nX-A: b\r\n c\r\n\r\n",
        b"0\r\nX A: b\r\n\r\n",
        b"0\r\nX-A : b\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\nX-A: b\0\r\n\r\n",
        b"0\r\nX-A: b\rc\r\n\r\n",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
        b"5\rhello\r0\r\r",
        b"0\r\nX-A: b\r\r",
    ],
)
def test_refused(wire):
    with pytest.raises(BadRequest):
        decode([wire])
    with pytest.raises(BadRequest):
        decode(byte_by_byte(wire))


SMALL = Limits(body_size=10, fields=2, field_size=20, head_size=30)


def test_the_body_is_refused_before_it_comes():
    assert decode([b"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"], SMALL)[0] == b"hellohello"
    for wire in (b"B\r\n", b"5\r\nhello\r\n6\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"8000000000000000\r\n"):
        with pytest.raises(BodyTooLarge):
            decode([wire], SMALL)


def test_extensions_are_limited_in_a_line_and_in_all():
    line = b"1;" + b"a" * (EXTENSION_LINE - 2) + b"\r\n"
    assert decode([line, b"x\r\n0\r\n\r\n"])[1]
    with pytest.raises(HeadTooLarge):
        decode([line.replace(b";", b";a")])
    with pytest.raises(HeadTooLarge):
        decode([b"1;" + b"a" * (EXTENSION_LINE + 2)])
    short = b"1;" + b"a" * 63 + b"\r\nx\r\n"
    assert decode([short * (EXTENSIONS // 64)])[0] == b"x" * (EXTENSIONS // 64)
    with pytest.raises(BadRequest, match="chunk extensions"):
        decode([short * (EXTENSIONS // 64 + 1)])


def test_trailers_are_limited_like_fields():
    assert decode([b"0\r\n", b"A: b\r\n" * 2, b"\r\n"], SMALL)[1]
    for trailers in (b"A: b\r\n" * 3, b"A: " + b"b" * 18 + b"\r\n", (b"A: " + b"b" * 12 + b"\r\n") * 2, b"A" * 23):
        with pytest.raises(HeadTooLarge):
            decode([b"0\r\n", trailers], SMALL)
    with pytest.raises(HeadTooLarge):
        decode([b"0\r\n", b"A" * (TRAILER + 3)], LIMITS._replace(field_size=1 << 20))


def test_no_more_than_a_line_is_held():
    body = ChunkedBody(LIMITS)
    for piece in byte_by_byte(b"4000\r\n" + b"x" * 0x4000 + b"\r\n0;a=b\r\nX: y\r\n"):
        body.feed(piece)
        assert len(body._held) <= 7


def test_chunks_are_made():
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert LAST_CHUNK == b"0\r\n\r\n"
