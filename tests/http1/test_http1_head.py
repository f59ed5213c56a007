"""Request heads: what is accepted and how it is understood; what is refused, and with which status."""

import pytest
from http1_reader import LIMITS, byte_by_byte, head_of, read

from rocket import http1
from rocket.errors import BadRequest, BodyTooLarge, HeadTooLarge, NotImplementedByServer, TargetTooLong
from rocket.http1 import head as head_module
from rocket.http1 import target as target_module


def get(*lines, line=b"GET / HTTP/1.1", host=b"Host: h"):
    return b"\r\n".join([line, *([host] if host else []), *lines]) + b"\r\n\r\n"


def post(*lines):
    return get(*lines, line=b"POST / HTTP/1.1")


# ---- understood ----


def test_a_request_of_wrk():
    data = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
    head, fields = head_of(data + b"more")
    assert head == http1.Head("GET", "/", 1, len(data), 0, True, False)
    assert fields == {"HTTP_HOST": "127.0.0.1:8000"}


def test_fields_get_cgi_names_and_latin1_values_without_white_space_around():
    _, fields = head_of(get(b"x-A:\t caf\xe9 \x85\xa0 \t", b"coNTent-type:a/b", b"X-Empty:", b"X-Colon: a:b::"))
    assert fields == {
        "HTTP_HOST": "h",
        "HTTP_X_A": "caf\xe9 \x85\xa0",
        "CONTENT_TYPE": "a/b",
        "HTTP_X_EMPTY": "",
        "HTTP_X_COLON": "a:b::",
    }


def test_fields_join_those_that_the_caller_put_in():
    fields = {"REQUEST_METHOD": "?"}
    http1.read_head(get(), fields, LIMITS)
    assert fields == {"REQUEST_METHOD": "?", "HTTP_HOST": "h"}


def test_repeated_fields_are_joined_in_order():
    _, fields = head_of(get(b"X-A: 1", b"Cookie: a=1", b"x-a:", b"X-A: 3 ", b"Cookie:b=2"))
    assert fields["HTTP_X_A"] == "1,,3"
    assert fields["HTTP_COOKIE"] == "a=1; b=2"


@pytest.mark.parametrize(
    "name", [b"X_A", b"X-A_B", b"_", b"Content_Length", b"CONTENT_TYPE", b"Transfer_Encoding", b"Proxy", b"PROXY"]
)
def test_a_name_that_could_stand_for_another_is_dropped(name):
    head, fields = head_of(get(b"X-A: good", name + b": 5", name + b": 6"))
    assert fields == {"HTTP_HOST": "h", "HTTP_X_A": "good"}
    assert head.length == 0


def test_every_token_character_is_allowed_in_a_name_and_a_method():
    head, fields = head_of(get(b"X!#$%&'*+-.^`|~9: v", line=b"!#$%&'*+-.^_`|~a / HTTP/1.1"))
    assert fields["HTTP_X!#$%&'*+_.^`|~9"] == "v"
    assert head.method == "!#$%&'*+-.^_`|~a"


@pytest.mark.parametrize("count", [1, 2, 8])
def test_some_empty_lines_before_the_request_line_are_skipped(count):
    data = b"\r\n" * count + get()
    head, _ = head_of(data + b"rest")
    assert head.end == len(data)


def test_a_head_without_fields():
    assert head_of(b"GET / HTTP/1.0\r\n\r\n") == (http1.Head("GET", "/", 0, 18, 0, False, False), {})


@pytest.mark.parametrize(("version", "minor"), [(b"1.0", 0), (b"1.1", 1), (b"1.2", 1), (b"1.9", 1)])
def test_a_minor_version_above_1_is_read_as_1(version, minor):
    assert head_of(get(line=b"GET / HTTP/" + version))[0].minor == minor


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//x",
        b"/..",
        b"/?",
        b"/a?b?c",
        b"/%zz%",
        b'/a"<>\\^`{|}',
        b"/\xff\x80",
        b"http://h",
        b"hTTps://[::1]:8/x",
    ],
)
def test_targets_are_kept_as_they_come(target):
    assert head_of(get(line=b"GET " + target + b" HTTP/1.1"))[0].target == target.decode("latin-1")


def test_the_target_of_options_may_be_an_asterisk():
    assert head_of(get(line=b"OPTIONS * HTTP/1.1"))[0].target == "*"


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], 0),
        ([b"Content-Length: 0"], 0),
        ([b"Content-Length:\t10 \t"], 10),
        ([b"Content-Length: 0000000000000000010"], 10),
        ([b"transfer-encoding: chunked"], http1.CHUNKED),
        ([b"Transfer-Encoding:\tCHUNKED "], http1.CHUNKED),
        ([b"TE: chunked, trailers"], 0),
    ],
)
def test_the_length_of_the_body(lines, length):
    assert head_of(post(*lines))[0].length == length


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.0", [], False),
        (b"1.1", [b"keep-alive"], True),
        (b"1.0", [b"keep-alive"], True),
        (b"1.0", [b"foo, Keep-ALIVE"], True),
        (b"1.1", [b"close"], False),
        (b"1.1", [b"Close"], False),
        (b"1.1", [b"foo , close"], False),
        (b"1.1", [b"foo,close,bar"], False),
        (b"1.1", [b"foo", b"close"], False),
        (b"1.1", [b"keep-alive", b"close"], False),
        (b"1.0", [b"keep-alive, close"], False),
        (b"1.1", [b"closed, not-close"], True),
        (b"1.0", [b"keep-alived"], False),
        (b"1.1", [b""], True),
        (b"1.1", [b"upgrade"], True),
    ],
)
def test_keep_alive(version, connection, keep_alive):
    data = get(*[b"Connection: " + value for value in connection], line=b"GET / HTTP/" + version)
    assert head_of(data)[0].keep_alive is keep_alive


@pytest.mark.parametrize(
    ("version", "lines", "expects"),
    [
        (b"1.1", [b"Expect: 100-continue", b"Content-Length: 5"], True),
        (b"1.1", [b"Expect: 100-Continue", b"Transfer-Encoding: chunked"], True),
        (b"1.1", [b"Expect: 100-continue"], False),
        (b"1.1", [b"Expect: 100-continue", b"Content-Length: 0"], False),
        (b"1.0", [b"Expect: 100-continue", b"Content-Length: 5"], False),
        (b"1.1", [b"Expect:", b"Content-Length: 5"], False),
    ],
)
def test_a_100_is_for_those_who_wait_with_a_body(version, lines, expects):
    assert head_of(get(*lines, line=b"POST / HTTP/" + version))[0].expects_continue is expects


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "EXAMPLE.com.",
        "h:",
        "h:8080",
        "h:0",
        "h:65535",
        "127.0.0.1",
        "a_b.c",
        "%41b",
        "a!$&'()*+;=b",
        "~-",
    ],
)
def test_good_hosts(host):
    assert head_of(get(host=b"Host: " + host.encode()))[1]["HTTP_HOST"] == host


@pytest.mark.parametrize("host", ["[::1]", "[::1]:8080", "[::ffff:1.2.3.4]", "[v1.a:b]"])
def test_good_addresses(host):
    assert head_of(get(host=b"Host: " + host.encode()))[1]["HTTP_HOST"] == host


# ---- refused ----

REFUSED = [
    # the request line
    (b"GET /\r\n\r\n", 400, "not a request line"),
    (b"GET\r\n\r\n", 400, "not a request line"),
    (get(line=b"GET HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET  / HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET /  HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET / HTTP/1.1 "), 400, "not a request line"),
    (get(line=b"GET /a b HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET /a\tb HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET\t/ HTTP/1.1"), 400, "not an HTTP request|not a request line"),
    (get(line=b"GET\x0b/ HTTP/1.1"), 400, "not an HTTP request|not a request line"),
    (get(line=b"GET\xa0/ HTTP/1.1"), 400, "not an HTTP request|not a request line"),
    (get(line=b" GET / HTTP/1.1"), 400, "not an HTTP request|not a request line"),
    (get(line=b"G@T / HTTP/1.1"), 400, "not an HTTP request|not a request line"),
    (get(line=b"GET / HTTP/1.1 HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET / http/1.1"), 400, "not a request line"),
    (get(line=b"GET / HTTP/1.10"), 400, "not a request line"),
    (get(line=b"GET / HTTP/1"), 400, "not a request line"),
    (get(line=b"GET / HTTP/11.1"), 400, "not a request line"),
    (get(line=b"GET / HTTP/1.x"), 400, "not a request line"),
    (get(line=b"GET / HTTP/\xb2.0"), 400, "not a request line"),
    (get(line=b"GET /\x00 HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET /\x7f HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET /\r HTTP/1.1"), 400, "not a request line"),
    (get(line=b"GET / HTTP/1.1\r"), 400, "not a request line"),
    (b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400, "without CR"),
    (b"GET / HTTP/1.1\n\n", 400, "without CR"),
    (b"\n" + get(), 400, "not an HTTP request|without CR"),
    (b"\r\n" * 9 + get(), 400, "not a request line"),
    (b"\rGET / HTTP/1.1\r\n\r\n", 400, "not an HTTP request|not a request line"),
    (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"\xab" * 200 + b"\r\n\r\n", 400, "not"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2.0"),
    (get(line=b"GET / HTTP/2.0"), 505, "HTTP/2.0"),
    (get(line=b"GET / HTTP/0.9"), 505, "HTTP/0.9"),
    (get(line=b"GET / HTTP/3.1"), 505, "HTTP/3.1"),
    # the target
    (get(line=b"GET /a#b HTTP/1.1"), 400, "fragment"),
    (get(line=b"GET a HTTP/1.1"), 400, "neither a path"),
    (get(line=b"GET ../a HTTP/1.1"), 400, "neither a path"),
    (get(line=b"GET * HTTP/1.1"), 400, "OPTIONS"),
    (get(line=b"OPTIONS *x HTTP/1.1"), 400, "neither a path"),
    (get(line=b"GET h:80 HTTP/1.1"), 400, "neither a path"),
    (get(line=b"GET ftp://h/ HTTP/1.1"), 400, "neither a path"),
    (get(line=b"GET http:/h HTTP/1.1"), 400, "neither a path"),
    (get(line=b"GET http:///x HTTP/1.1"), 400, "host is empty"),
    (get(line=b"GET http://u@h/ HTTP/1.1"), 400, "user name"),
    (get(line=b"GET http://h:x/ HTTP/1.1"), 400, "not a host"),
    (get(line=b"GET http://h\xff/ HTTP/1.1"), 400, "not a host"),
    (get(line=b"CONNECT h:443 HTTP/1.1"), 501, "CONNECT"),
    (get(line=b"CONNECT / HTTP/1.1"), 501, "CONNECT"),
    # the field lines
    (get(b"X-A: a\r\n b"), 400, "folded"),
    (get(b"X-A:\r\n\tb"), 400, "folded"),
    (get(b"X-A: a\r\n "), 400, "folded"),
    (get(b"X: y", host=b" Host: h"), 400, "folded"),
    (get(b"X-A : b"), 400, "white space before the colon"),
    (get(b"X-A\t: b"), 400, "white space before the colon"),
    (get(b"X A: b"), 400, "not a field name"),
    (get(b"X\xe9: b"), 400, "not a field name"),
    (get(b"X\0A: b"), 400, "not a field name"),
    (get(b"X(A: b"), 400, "not a field name"),
    (get(b": b"), 400, "without a name"),
    (get(b":"), 400, "without a name"),
    (get(b"NoColon"), 400, "without a colon"),
    (get(b"X-A: a\rb"), 400, "0x0d in the field 'X-A'"),
    (get(b"X-A: a\r"), 400, "0x0d in the field 'X-A'"),
    (get(b"X-A: a\nX-B: b"), 400, "without CR"),
    (b"GET / HTTP/1.1\r\nHost: h\n\r\n", 400, "without CR"),
    (b"GET / HTTP/1.1\r\nHost: h\r\n\n\r\n\r\n", 400, "without CR"),
    (b"GET / HTTP/1.1\r\nHost: h\r\n\rX\r\n\r\n", 400, "without a colon"),
    *[(get(b"X-A: a%cb" % byte), 400, f"0x{byte:02x}") for byte in [*range(9), 11, 12, *range(14, 32), 127]],
    # Host
    (get(host=None), 400, "no Host"),
    (get(host=None, line=b"GET http://h/ HTTP/1.1"), 400, "no Host"),
    (get(host=None, line=b"GET / HTTP/1.2"), 400, "no Host"),
    (get(b"hOST: h"), 400, "two Host"),
    (get(b"Host: h", line=b"GET / HTTP/1.0"), 400, "two Host"),
    (get(host=b"Host:"), 400, "host is empty"),
    *[
        (get(host=b"Host: " + host), 400, "not a host")
        for host in b"a/b a?b a#b u@h a\\b a|b <h> h% h%4 h%4g \xe9 h:x h:1:2 h:-1 h:123456".split()
        + b"[::1 ::1 [] [::g] [1:2] [::1%25e] [v.a] [::1]x".split()
    ],
    (get(host=b"Host: a b"), 400, "not a host"),
    (get(host=b"Host: a, b"), 400, "not a host"),
    (get(host=b"Host: a,b"), 400, "not a host"),
    (get(line=b"GET http://a,b/ HTTP/1.1"), 400, "not a host"),
    (get(host=b"Host: h:65536"), 400, "not a port"),
    # Content-Length
    *[
        (post(b"Content-Length: " + value), 400, "not a Content-Length")
        for value in b"+5 -5 -0 5_0 0x5 5a 5, ,5 5,5 5.0 abc 5; '5' \xa05 5\x85 \xb2 ~5 12345678901234567890".split()
    ],
    (post(b"Content-Length:"), 400, "not a Content-Length"),
    (post(b"Content-Length: 5 5"), 400, "not a Content-Length"),
    (post(b"Content-Length: 5, 6"), 400, "not a Content-Length"),
    (post(b"Content-Length: 5", b"content-length: 5"), 400, "two Content-Length"),
    (post(b"Content-Length: 5", b"Content-Length:"), 400, "two Content-Length"),
    (post(b"Content-Length: 9999999999999999999"), 413, "9999999999999999999"),
    # Transfer-Encoding
    (post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400, "both"),
    (post(b"Content-Length: 0", b"Transfer-Encoding: cow"), 400, "both"),
    (post(b"Transfer-Encoding: chunked, chunked"), 400, "not the last"),
    (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400, "not the last"),
    (post(b"Transfer-Encoding: chunked, gzip"), 400, "not the last"),
    (post(b"Transfer-Encoding: chunked,"), 400, "not the last"),
    (post(b"Transfer-Encoding: ,chunked"), 400, "not a Transfer-Encoding"),
    (post(b"Transfer-Encoding:"), 400, "not a Transfer-Encoding"),
    (post(b"Transfer-Encoding: chun ked"), 400, "not a Transfer-Encoding"),
    (post(b"Transfer-Encoding: \xa0chunked"), 400, "not a Transfer-Encoding"),
    (post(b'Transfer-Encoding: "chunked"'), 400, "not a Transfer-Encoding"),
    (post(b"Transfer-Encoding: gzip"), 501, "unknown transfer coding: 'gzip'"),
    (post(b"Transfer-Encoding: gzip, chunked"), 501, "unknown transfer coding"),
    (post(b"Transfer-Encoding: identity"), 501, "unknown transfer coding"),
    (post(b"Transfer-Encoding: xchunked"), 501, "unknown transfer coding"),
    (post(b"Transfer-Encoding: chunked;q=1"), 501, "unknown transfer coding"),
    (get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"), 400, "HTTP/1.0"),
    # Expect
    (post(b"Expect: banana", b"Content-Length: 5"), 417, "banana"),
    (post(b"Expect: 100-continue, x", b"Content-Length: 5"), 417, "x"),
]


@pytest.mark.parametrize(("data", "status", "message"), REFUSED, ids=[repr(data[:70])[2:-1] for data, _, _ in REFUSED])
def test_refused_with_the_right_status_and_words(data, status, message):
    def connection():
        if http1.read_head(data, {}, LIMITS) is None:  # a bare LF hides the end of the head
            http1.check_partial(data, 0, LIMITS)

    with pytest.raises(BadRequest, match=message) as caught:
        connection()
    assert caught.value.status == status
    assert read(byte_by_byte(data))[:2] == ([], status)


def test_framing_errors_are_not_masked():
    bad = [b"Content-Length: 5", b"Transfer-Encoding: cow", b"Expect: banana"]
    with pytest.raises(BadRequest, match="both Transfer-Encoding"):
        http1.read_head(get(*bad, host=None, line=b"CONNECT h:1 HTTP/1.1"), {}, LIMITS)


def test_a_message_never_repeats_much_of_what_came():
    with pytest.raises(BadRequest) as caught:
        http1.read_head(get(b"<script>\x1b" + b"x" * 5000), {}, LIMITS)
    assert len(str(caught.value)) < 120
    assert str(caught.value).isprintable()


# ---- incomplete heads ----


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n" * 8 + b"\r",
        b"G",
        b"GET",
        b"GET ",
        b"GET /",
        b"GET / HT",
        b"GET / HTTP/1.1\r",
    ],
)
def test_half_a_request_line_is_waited_for(data):
    assert http1.read_head(data, {}, LIMITS) is None
    assert http1.check_partial(data, 0, LIMITS) == 0


def test_lines_are_looked_at_once():
    data = b"GET / HTTP/1.1\r\nHost: h\r\nX-A"
    assert http1.check_partial(data, 0, LIMITS) == 25
    assert http1.check_partial(data.replace(b"Host", b"Ho@t"), 25, LIMITS) == 25


@pytest.mark.parametrize(
    "data",
    [
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01",
        b"\0",
        b"\n",
        b"\r\n\r\nG\r",
        b"\rG",
        b"GET /\r\n",
        b"GET / HTTP/1.1\n",
        b"Host: h",
        b"GET / HTTP/1.1\r\nHost: h\r\n ",
        b"GET / HTTP/1.1\r\nHost h\r\n",
        b"GET / HTTP/1.1\r\nHost: h\n",
        b"GET / HTTP/1.1\rHost: h\r\r",
        b"GET / HTTP/1.1\r\r",
        b"GET / HTTP/1.1\r\nHost: h\rX-A: b\r\r",
        bytes(range(128, 168)),
    ],
)
def test_what_cannot_become_right_is_refused_before_its_end(data):
    assert http1.read_head(data, {}, LIMITS) is None
    with pytest.raises(BadRequest):
        http1.check_partial(data, 0, LIMITS)


# ---- limits ----

SMALL = http1.Limits(request_line=20, fields=3, field_size=30, head_size=100, body_size=10)


@pytest.mark.parametrize(
    ("good", "bad", "error"),
    [
        (get(line=b"GET /23456 HTTP/1.1 "[:-1]), get(line=b"GET /2345678 HTTP/1.1"), TargetTooLong),
        (get(b"A: " + b"x" * 27), get(b"A: " + b"x" * 28), HeadTooLarge),
        (get(b"A:", b"A:"), get(b"A:", b"A:", b"A:"), HeadTooLarge),
        (get(b"A_B:", b"A_B:"), get(b"A_B:", b"A_B:", b"A_B:"), HeadTooLarge),
        (get(b"Content-Length: 10"), get(b"Content-Length: 11"), BodyTooLarge),
    ],
)
def test_limits(good, bad, error):
    head_of(good, SMALL)
    with pytest.raises(error):
        http1.read_head(bad, {}, SMALL)
    assert read(byte_by_byte(bad), SMALL)[1] == error.status


def test_the_limit_of_the_whole_head():
    limits = SMALL._replace(fields=100, head_size=len(get(b"A: b")))
    head_of(get(b"A: b"), limits)
    head_of(b"\r\n" + get(b"A: b"), limits)
    for data in (get(b"A: bc"), b"\r\n" + get(b"A: bc")):
        with pytest.raises(HeadTooLarge, match="the head is longer than 33 bytes"):
            http1.read_head(data, {}, limits)
        assert read(byte_by_byte(data), limits)[1] == 431


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"A" * 8192, NotImplementedByServer),
        (b"A" * 8190 + b" / HTTP/1.1", NotImplementedByServer),
        (b"A" * 8189 + b" / HTTP/1.1", TargetTooLong),
        (b"GET /" + b"a" * 8187, TargetTooLong),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 8189, HeadTooLarge),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101, HeadTooLarge),
        (b"GET / HTTP/1.1\r\n" + (b"A: " + b"b" * 8000 + b"\r\n") * 9, HeadTooLarge),
    ],
)
def test_a_line_without_an_end_is_refused_as_soon_as_it_is_too_long(data, error):
    assert http1.check_partial(data[:600], 0, LIMITS) >= 0
    with pytest.raises(error):
        http1.check_partial(data, 0, LIMITS)


def test_a_head_without_an_end_is_refused_even_if_nobody_checks():
    with pytest.raises(NotImplementedByServer):
        http1.read_head(b"A" * 70000, {}, LIMITS)


def test_a_target_of_megabytes_is_414_and_not_431():
    with pytest.raises(TargetTooLong):
        http1.read_head(get(line=b"GET /" + b"a" * 1000000 + b" HTTP/1.1"), {}, LIMITS)


# ---- what is remembered ----


def test_what_is_remembered_is_bounded():
    for i in range(1500):
        head_of(get(b"N-%d: v" % i, host=b"Host: h%d" % i))
    head_of(get(b"X" * 500 + b": v", host=b"Host: " + b"h" * 500))
    assert len(head_module._NAMES) <= 1024
    assert len(target_module.KNOWN_HOSTS) <= 1024
    assert max(map(len, [*head_module._NAMES, *target_module.KNOWN_HOSTS])) <= 128


def test_lines_that_are_remembered_are_bounded():
    for i in range(1500):
        head_of(get(b"User-Agent: %d" % i, line=b"GET /%d HTTP/1.1" % i))
    head_of(get(b"User-Agent: " + b"u" * 500, line=b"GET /" + b"a" * 500 + b" HTTP/1.1"))
    assert 0 < len(head_module._LINES) <= 1024
    assert 0 < len(head_module._REQUESTS) <= 1024
    assert max(map(len, [*head_module._LINES, *head_module._REQUESTS])) <= 256


def test_what_may_be_secret_is_not_remembered():
    fields = (b"Authorization: s3cret", b"Cookie: s3cret", b"X-Api-Key: s3cret", b"Proxy-Authorization: s3cret")
    head_of(get(*fields, line=b"GET /?token=s3cret HTTP/1.1"))
    assert not any("s3cret" in line for line in [*head_module._LINES, *head_module._REQUESTS])


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET /a HTTP/1.0", b"GET /?a HTTP/1.1", b"OPTIONS * HTTP/1.1"])
def test_what_is_remembered_says_the_same(line):
    fields = (b"Accept: a", b"accept: b", b"Connection:  close ", b"X-Other: c", b"User_Agent: d", b"Proxy: e")
    data = get(*fields, line=line)
    head_module._LINES.clear()
    head_module._REQUESTS.clear()
    assert head_of(data) == head_of(data)
    assert head_of(data)[1] == {
        "HTTP_HOST": "h",
        "HTTP_ACCEPT": "a,b",
        "HTTP_CONNECTION": "close",
        "HTTP_X_OTHER": "c",
    }


def test_a_host_that_is_remembered_may_still_be_there_only_once():
    head_of(get())
    with pytest.raises(BadRequest, match="two Host"):
        head_of(get(b"Host: h"))


def test_forwarding_fields_are_listed_each_time():
    data = get(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: a")
    for _ in range(3):
        assert head_of(data)[1][http1.FORWARDING] == "HTTP_X_FORWARDED_PROTO HTTP_X_FORWARDED_HOST"
