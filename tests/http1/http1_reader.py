"""What the connection layer does with `rocket.http1`, without a connection; and generated requests.

Used by the tests of this folder and by the fuzz target.
"""

from typing import NamedTuple, Optional

from hypothesis import strategies as st

from rocket import http1
from rocket.errors import BadRequest

LIMITS = http1.Limits()


class Request(NamedTuple):
    """A request as an application would see it."""

    head: http1.Head
    fields: dict
    body: bytes


def head_of(data, limits=LIMITS):
    """Return the head and the fields of *data*, which holds a complete and good head."""
    fields = {}
    head = http1.read_head(data, fields, limits)
    assert head is not None
    return head, fields


def read(pieces, limits=LIMITS):
    """Return the requests in a stream that comes in *pieces*, the status of the error after them, and what is left."""
    requests = []
    buffer = b""
    scanned = 0
    current: Optional[tuple] = None  # head, fields, decoder or None
    content = b""
    try:
        for piece in pieces:
            buffer += piece
            while True:
                if current is None:
                    fields = {}
                    head = http1.read_head(buffer, fields, limits, scanned)
                    if head is None:
                        scanned = http1.check_partial(buffer, scanned, limits)
                        break
                    buffer = buffer[head.end :]
                    scanned = 0
                    http1.split_target(head.method, head.target)
                    current = head, fields, http1.ChunkedBody(limits) if head.length == http1.CHUNKED else None
                    content = b""
                head, fields, decoder = current
                if decoder is not None:
                    content += decoder.feed(buffer)
                    buffer = decoder.rest if decoder.done else b""
                    if not decoder.done:
                        break
                else:
                    if len(buffer) < head.length:
                        break
                    content, buffer = buffer[: head.length], buffer[head.length :]
                requests.append(Request(head._replace(end=0), fields, content))
                current = None
    except BadRequest as exc:
        return requests, exc.status, None
    return requests, None, (None if current is None else current[0].method, content if current else buffer)


def byte_by_byte(data):
    return [data[i : i + 1] for i in range(len(data))]


# ---- generated requests ----

TCHAR = "!#$%&'*+-.^`|~0123456789abcxyzABCXYZ"
VCHAR = "".join(map(chr, range(0x21, 0x7F)))

tokens = st.text(TCHAR, min_size=1, max_size=12)
values = st.text(VCHAR + " \t\x80\x85\xa0\xe9\xff", max_size=24)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "M-SEARCH"])
targets = st.one_of(
    st.text(VCHAR.replace("#", ""), max_size=24).map("/{}".format),
    st.sampled_from(["/", "//x", "/a%20b?c=%zz", "/%2541", "http://h/p?q", "http://h", "HTTPS://[::1]:8/%41"]),
)
reserved = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "proxy"}
reserved |= {"keep-alive", "te", "trailer", "proxy-connection"}
other_fields = st.lists(st.tuples(tokens.filter(lambda name: name.lower() not in reserved), values), max_size=6)
spaces = st.sampled_from(["", " ", "\t", "  ", " \t "])
connections = st.sampled_from(
    ["close", "keep-alive", "Close", "foo, close", "KEEP-ALIVE", "closed", "foo", "x,\tclose ,y"]
)
hosts = st.sampled_from(
    ["h", "127.0.0.1:8000", "[::1]", "[::1]:80", "a_b.c", "h:", "%41", "a!$&'()*+;=b", "EXAMPLE.com"]
)


def encode_chunks(pieces, extension, trailers):
    wire = b"".join(b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece)
    return wire + b"0\r\n" + trailers + b"\r\n"


@st.composite
def good_requests(draw):
    """Return the bytes of a request that must be accepted, and its method, target, fields and body."""
    minor = draw(st.sampled_from("1110"))
    method, target = draw(methods), draw(targets)
    lines = [(name, draw(spaces), value) for name, value in draw(other_fields)]
    if minor == "1" or draw(st.booleans()):
        lines.append((draw(st.sampled_from(["Host", "HOST", "host"])), " ", draw(hosts)))
    if draw(st.booleans()):
        lines.append(("Connection", " ", draw(connections)))
    body = wire = b""
    framing = draw(st.sampled_from(["none", "length", "chunked"] if minor == "1" else ["none", "length"]))
    if framing == "length":
        body = wire = draw(st.binary(max_size=40))
        lines.append(("Content-Length", draw(spaces), str(len(body))))
    elif framing == "chunked":
        pieces = draw(st.lists(st.binary(max_size=20), max_size=4))
        body = b"".join(pieces)
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b\\"c";d']))
        wire = encode_chunks(pieces, extension, draw(st.sampled_from([b"", b"X-T: v\r\n", b"X-T:\r\nY: \xff\r\n"])))
        lines.append(("Transfer-Encoding", " ", draw(st.sampled_from(["chunked", "Chunked"]))))
    lines = draw(st.permutations(lines))
    head = f"{method} {target} HTTP/1.{minor}\r\n" + "".join(f"{n}:{s}{v}\r\n" for n, s, v in lines) + "\r\n"
    fields = [(name, value.strip(" \t")) for name, _, value in lines]
    return head.encode("latin-1") + wire, (method, target, fields, body)


INTERESTING = [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xa0"]
INTERESTING += [b"\xff", b"0", b"5", b"-", b"+", b"_", b"x", b"/", b"*", b"#", b"%", b"?", b'"', b"\r\n ", b"\r\n\r\n"]
INTERESTING += [
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: h\r\n",
    b"chunked",
    b", ",
    b"HTTP/1.1",
]
INTERESTING += [
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"HTTP/2.0",
    b"@",
]


@st.composite
def mutated_requests(draw):
    """Return a stream of one or two good requests with a few bytes put in, taken out or exchanged."""
    data = b"".join(data for data, _ in draw(st.lists(good_requests(), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from([b"", *INTERESTING])) + data[at + cut :]
    return data


fragments = st.lists(
    st.sampled_from(
        [*INTERESTING, b"GET", b"POST", b"http://", b"\r\n0\r\n\r\n", b"OPTIONS *", b"GET / HTTP/1.1\r\nHost: h"]
    ),
    max_size=25,
).map(b"".join)
any_stream = st.one_of(mutated_requests(), fragments, st.binary(max_size=60), good_requests().map(lambda some: some[0]))


@st.composite
def split_streams(draw):
    """Return a stream and the same in pieces."""
    data = draw(any_stream)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    edges = [0, *cuts, len(data)]
    return data, [data[a:b] for a, b in zip(edges, edges[1:])]
