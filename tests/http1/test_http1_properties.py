"""What must hold for every input: the same requests however the bytes are split, and no exception but `BadRequest`."""

import time
from datetime import timezone
from email.utils import parsedate_to_datetime

import pytest
from http1_reader import (
    LIMITS,
    any_stream,
    byte_by_byte,
    encode_chunks,
    good_requests,
    read,
    split_streams,
    tokens,
    values,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rocket import http1
from rocket.errors import ApplicationError, BadRequest

SMALL = http1.Limits(request_line=24, fields=3, field_size=24, head_size=64, body_size=16)


def key_of(name):
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + key


@given(good_requests())
def test_a_good_request_is_understood(generated):
    data, (method, target, lines, body) = generated
    requests, status, _ = read([data])
    assert status is None or "%00" in target
    if status is None:
        ((head, fields, content),) = requests
        expected = {}
        for name, value in lines:
            key = key_of(name)
            separator = "; " if key == "HTTP_COOKIE" else ","
            expected[key] = expected[key] + separator + value if key in expected else value
        assert (head.method, head.target, content) == (method, target, body)
        assert fields == expected


@settings(max_examples=400)
@given(split_streams())
def test_any_split_gives_the_same_requests_and_the_same_error(stream):
    data, pieces = stream
    whole = read([data])
    assert read(pieces) == whole
    assert read(byte_by_byte(data)) == whole


@settings(max_examples=300)
@given(split_streams())
def test_any_split_reaches_the_same_limits(stream):
    # The status may differ: of two limits that are passed, a split may show the other one first.
    data, pieces = stream
    requests, status, left = read([data], SMALL)
    for split in (pieces, byte_by_byte(data)):
        others = read(split, SMALL)
        assert others[0] == requests
        assert (others[1] is None) == (status is None)
        assert others[2] == left


@settings(max_examples=300)
@given(any_stream)
def test_no_bytes_raise_anything_but_bad_request(data):
    for start in {0, min(1, len(data)), len(data)}:
        try:
            assert 0 <= http1.check_partial(data, start, LIMITS) <= len(data)
        except BadRequest:
            pass
    decoder = http1.ChunkedBody(LIMITS)
    try:
        decoder.feed(data)
    except BadRequest:
        pass
    read([data])


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_target_raises_anything_but_bad_request(method, target):
    try:
        http1.split_target(method, "/" + target.encode("utf-8", "replace").decode("latin-1"))
        http1.split_target(method, "http://" + target)
    except BadRequest:
        pass


@given(any_stream)
def test_a_complete_head_is_accepted_or_refused_but_never_waited_for(data):
    if b"\r\n\r\n" not in data.lstrip(b"\r\n"):
        return
    try:
        assert http1.read_head(data, {}, LIMITS) is not None
    except BadRequest:
        pass


@given(any_stream, any_stream)
def test_a_known_start_changes_nothing(data, more):
    if b"\r\n\r\n" in data:
        return
    try:
        scanned = http1.check_partial(data, 0, LIMITS)
    except BadRequest:
        return
    results = []
    for start in (0, scanned):
        fields = {}
        try:
            results.append((http1.read_head(data + more, fields, LIMITS, start), fields))
        except BadRequest as exc:
            results.append(str(exc))
    assert results[0] == results[1]


@given(tokens, tokens)
def test_different_names_have_different_keys(one, other):
    keys = []
    for name in (one, other):
        fields = {}
        try:
            http1.read_head(f"GET / HTTP/1.0\r\n{name}: 5\r\n\r\n".encode(), fields, LIMITS)
        except BadRequest:
            return
        keys.append(list(fields))
    if one.lower() != other.lower() and keys[0]:
        assert keys[0] != keys[1]


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_what_is_chunked_comes_back(pieces, data):
    wire = b"".join(map(http1.chunk, filter(None, pieces))) + http1.LAST_CHUNK + b"next"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    decoder = http1.ChunkedBody(LIMITS)
    content = rest = b""
    for a, b in zip([0, *cuts], [*cuts, len(wire)]):
        if decoder.done:
            rest += wire[a:b]
        else:
            content += decoder.feed(wire[a:b])
            rest = decoder.rest
    assert (content, decoder.done, rest) == (b"".join(pieces), True, b"next")


CHUNKY = [
    b"5\r\nhello\r\n",
    b"0\r\n",
    b"\r\n",
    b"A;a=b\r\n",
    b"\r",
    b"\n",
    b"X: y\r\n",
    b"5",
    b";",
    b'"',
    b" ",
    b"hello",
    b"0",
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(CHUNKY), max_size=12).map(b"".join))
def test_a_chunked_body_in_bytes_is_what_it_is_in_one(wire):
    def decode(pieces):
        decoder = http1.ChunkedBody(SMALL)
        content = b""
        fed = 0
        try:
            for piece in pieces:
                content += decoder.feed(piece)
                fed += len(piece)
                if decoder.done:
                    return content, wire[fed - len(decoder.rest) :]
        except BadRequest as exc:
            return exc.status
        return content

    assert decode([wire]) == decode(byte_by_byte(wire))
    assert decode([wire]) == decode([wire[:7], wire[7:]])


@given(st.lists(st.tuples(tokens, values), max_size=5))
def test_a_response_head_can_be_read_again(headers):
    try:
        text = http1.format_head("200 OK", headers).text
    except ApplicationError:
        return
    status, *lines, end = text.split("\r\n")
    assert (status, end) == ("HTTP/1.1 200 OK", "")
    special = {"content-length", "connection", "keep-alive", "transfer-encoding"}
    sent = [(n, v) for n, v in headers if n.lower() not in special]
    assert [tuple(line.split(": ", 1)) for line in lines if line.split(":")[0].lower() not in special] == sent


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_a_response_head_has_as_many_lines_as_headers_whatever_they_hold(status, name, value):
    for given_status, headers in ((status, []), ("200 OK", [(name, value)])):
        try:
            text = http1.format_head(given_status, headers).text
        except ApplicationError:
            continue
        assert len(text.splitlines()) <= 1 + len(headers) or "\x85" in text
        assert text.count("\n") == text.count("\r") == text.count("\r\n") <= 1 + len(headers)
        text.encode("latin-1")


@given(st.integers(0, 253402300799))
def test_a_date_can_be_read_again(seconds):
    text = http1.http_date(seconds + 0.5)
    assert len(text) == 29
    assert parsedate_to_datetime(text).replace(tzinfo=timezone.utc).timestamp() == seconds


# ---- no input costs more than its length ----


def refuse(data):
    with pytest.raises(BadRequest):
        http1.read_head(data, {}, http1.Limits(1 << 20, 1 << 20, 1 << 20, 1 << 22))


def shortest(action, *args):
    """Return the CPU time that it takes: on a busy machine the time on the wall is that of others, too."""
    times = []
    for _ in range(3):
        start = time.thread_time()
        action(*args)
        times.append(time.thread_time() - start)
    return min(times)


EVIL = {
    "spaces in a value": lambda n: b"GET / HTTP/1.1\r\nA: " + b" " * n + b"\x10\r\n\r\n",
    "tabs and spaces": lambda n: b"GET / HTTP/1.1\r\nA:" + b" \t" * (n // 2) + b"\0\r\n\r\n",
    "a long name": lambda n: b"GET / HTTP/1.1\r\n" + b"a" * n + b"\r\n\r\n",
    "a long method": lambda n: b"G" * n + b"\r\n\r\n",
    "a long target": lambda n: b"GET /" + b"a" * n + b"\r\n\r\n",
    "many fields, the last one wrong": lambda n: b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * (n // 5) + b"c\r\n\r\n",
    "many colons": lambda n: b"GET / HTTP/1.1\r\na" + b":" * n + b"\x01\r\n\r\n",
    "commas in Expect": lambda n: b"GET / HTTP/1.1\r\nHost: h\r\nExpect: " + b"," * n + b"x\r\n\r\n",
    "a coding that never ends": lambda n: b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: " + b"a;" * n + b"\r\n\r\n",
    "a long host": lambda n: b"GET / HTTP/1.1\r\nHost: " + b"a" * n + b"@\r\n\r\n",
    "percents in a host": lambda n: b"GET / HTTP/1.1\r\nHost: " + b"%41" * (n // 3) + b"%4\r\n\r\n",
    "a long URI": lambda n: b"GET http://" + b"a:" * (n // 2) + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "many empty lines": lambda n: b"\r\n" * n,
}


@pytest.mark.parametrize("make", EVIL.values(), ids=EVIL.keys())
def test_eight_times_the_input_costs_no_more_than_linear_time(make):
    # Quadratic work would cost 64 times as much, and minutes instead of milliseconds with backtracking that is worse.
    short, long = make(20_000), make(160_000)
    assert shortest(refuse, long) < 24 * shortest(refuse, short) + 0.02


def test_a_head_that_comes_byte_by_byte_costs_linear_time():
    def feed(size):
        lines = b"".join(b"X-%d: %b\r\n" % (i, b"v" * 50) for i in range(size))
        assert read(byte_by_byte(b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n"))[1] is None

    assert shortest(feed, 96) < 12 * shortest(feed, 24) + 0.02


def test_one_byte_chunks_that_come_byte_by_byte_cost_linear_time():
    def feed(count):
        decoder = http1.ChunkedBody(LIMITS)
        wire = encode_chunks([b"x"] * count, b"", b"")
        assert b"".join(map(decoder.feed, byte_by_byte(wire))) == b"x" * count

    assert shortest(feed, 8000) < 12 * shortest(feed, 2000) + 0.02
