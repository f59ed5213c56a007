"""Response heads: what an application may say, and how it is written."""

import locale

import pytest

from rocket.errors import ApplicationError
from rocket.http1 import CONTINUE, REASONS, error_response, format_head, http_date
from rocket.http1 import response as response_module


def test_a_response_head():
    head = format_head("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13"), ("X-L", "caf\xe9\t")])
    assert head == (
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nX-L: caf\xe9\t\r\n",
        200,
        13,
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("200 OK", "HTTP/1.1 200 OK"),
        ("999 Message here", "HTTP/1.1 999 Message here"),
        ("404 Pas trouv\xe9", "HTTP/1.1 404 Pas trouv\xe9"),
        ("200 ", "HTTP/1.1 200 "),
        ("200", "HTTP/1.1 200 "),
    ],
)
def test_statuses(status, line):
    for _ in range(2):  # the second comes from the cache
        head = format_head(status, [])
        assert head.text == line + "\r\n"
        assert head.code == int(status[:3])


class Text(str):
    pass


@pytest.mark.parametrize(
    "status",
    [
        "",
        "abc",
        "20 OK",
        "2000 OK",
        "200OK",
        " 200 OK",
        "200\tOK",
        "099 x",
        "+20 OK",
        "\u0662\u0660\u0660 OK",
        "100 Continue",
    ],
)
def test_statuses_that_are_none(status):
    with pytest.raises(ApplicationError, match="status"):
        format_head(status, [])


@pytest.mark.parametrize("reason", ["a\rb", "a\nb", "OK\n", "a\0", "\x7f", "\u20ac", "OK\r\nX: y"])
def test_reasons_that_would_break_the_line(reason):
    with pytest.raises(ApplicationError, match="status"):
        format_head("200 " + reason, [])


@pytest.mark.parametrize("status", [b"200 OK", 200, None, Text("200 OK"), []])
def test_a_status_is_a_str(status):
    format_head("200 OK", [])
    with pytest.raises(ApplicationError, match="status"):
        format_head(status, [])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (("X A", "b"), "'X A'"),
        (("X:", "b"), "'X:'"),
        (("", "b"), "''"),
        (("X\r\nY", "b"), "not a header name"),
        (("X\xe9", "b"), "not a header name"),
        (("X-A", "a\r\nSet-Cookie: b"), "'\\\\r' of the header X-A"),
        (("X-A", "a\nb"), "'\\\\n' of the header X-A"),
        (("X-A", "a\n"), "'\\\\n' of the header X-A"),
        (("X-A", "\0"), "X-A"),
        (("X-A", "\x7f"), "X-A"),
        (("X-A", "\u20ac"), "X-A is not latin-1"),
        (("Content-Type", "a\r"), "Content-Type"),
        (("X-A", b"b"), "must be str"),
        ((b"X-A", "b"), "must be str"),
        (("X-A", None), "must be str"),
        (("X-A", 5), "must be str"),
        ((Text("X-A"), "b"), "must be str"),
        (("X-A", Text("a/b")), "must be str"),
        (["X-A", "b"], "tuple of two"),
        (("X-A",), "tuple of two"),
        (("X-A", "b", "c"), "tuple of two"),
        ("ab", "tuple of two"),
        (None, "tuple of two"),
        (("Content-Length", "+5"), "Content-Length: '\\+5'"),
        (("Content-Length", "5 "), "Content-Length"),
        (("Content-Length", ""), "Content-Length"),
        (("Content-Length", "5\r\n"), "Content-Length"),
        (("Content-Length", "\u0665"), "Content-Length"),
        (("Upgrade", "h2c"), "Upgrade is the server's business"),
        (("Trailer", "X"), "Trailer"),
        (("te", "trailers"), "te is"),
        (("Proxy-Authenticate", "Basic"), "Proxy-Authenticate"),
    ],
)
def test_refused_headers(header, words):
    format_head("200 OK", [("Content-Type", "a/b")])
    with pytest.raises(ApplicationError, match=words):
        format_head("200 OK", [("Content-Type", "a/b"), header])


@pytest.mark.parametrize("headers", [(), iter([]), {}, None, (("A", "b"),)])
def test_headers_must_be_a_list(headers):
    with pytest.raises(ApplicationError, match="must be a list"):
        format_head("200 OK", headers)


def test_content_length_once():
    length = ("Content-Length", "5")
    assert format_head("200 OK", [length, ("content-length", "05")]).text.lower().count("content-length") == 1
    with pytest.raises(ApplicationError, match="two Content-Length headers: 5 and 6"):
        format_head("200 OK", [length, ("content-length", "6")])


def test_no_content_length_in_204_but_in_304():
    assert format_head("204 No Content", [("Content-Length", "5")])[:3] == ("HTTP/1.1 204 No Content\r\n", 204, 5)
    assert "Content-Length: 5\r\n" in format_head("304 Not Modified", [("Content-Length", "5")]).text


@pytest.mark.parametrize(
    ("header", "wants_close"),
    [
        (("Connection", "close"), True),
        (("connection", "foo, Close"), True),
        (("Connection", "keep-alive"), False),
        (("Connection", "closed"), False),
        (("Keep-Alive", "timeout=5"), False),
        (("Transfer-Encoding", "chunked"), False),
    ],
)
def test_the_server_decides_about_the_connection(header, wants_close):
    head = format_head("200 OK", [header, ("X-A", "b")])
    assert head.text == "HTTP/1.1 200 OK\r\nX-A: b\r\n"
    assert head.wants_close is wants_close


def test_what_is_dropped_is_checked_too():
    with pytest.raises(ApplicationError):
        format_head("200 OK", [("Connection", "close\r\nX: y")])


def test_date_and_server_are_noticed():
    head = format_head("200 OK", [("DATE", "x"), ("server", "y")])
    assert (head.has_date, head.has_server) == (True, True)
    assert head.text.endswith("DATE: x\r\nserver: y\r\n")


def test_equal_headers_all_stay():
    head = format_head("200 OK", [("Set-Cookie", "a"), ("Set-Cookie", "a"), ("Vary", "x"), ("Vary", "x")])
    assert head.text.count("\r\n") == 5


def test_what_is_remembered_is_bounded_and_no_secret():
    for i in range(3000):
        headers = [("Content-Type", f"a/{i}"), ("Set-Cookie", f"id={i}"), ("X-Token", f"{i}")]
        format_head(f"{200 + i % 700} {i}", headers)
    format_head("200 " + "x" * 1000, [("Content-Type", "x" * 1000)])
    lines = response_module._LINES
    assert 0 < len(lines) <= 1024
    assert {name for name, _ in lines} <= {"Content-Type", "Vary"}
    assert len(response_module._STATUSES) <= 256
    assert max(map(len, [*lines.values(), *response_module._STATUSES])) <= 256


def test_dates():
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(0.9) == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_dates_know_no_locale():
    before = locale.setlocale(locale.LC_TIME)
    try:
        locale.setlocale(locale.LC_TIME, "")
        assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    finally:
        locale.setlocale(locale.LC_TIME, before)


def test_an_error_response():
    assert error_response(431, "too <b>much</b> \u20ac", "D", "rocket", retry_after=3) == (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nDate: D\r\nConnection: close\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 56\r\n"
        b"Server: rocket\r\nRetry-After: 3\r\n\r\n431 Request Header Fields Too Large\ntoo <b>much</b> \xe2\x82\xac\n"
    )


def test_an_error_response_to_head_has_no_body():
    whole = error_response(400, "x", "D", "")
    assert error_response(400, "x", "D", "", head_only=True) == whole[: whole.index(b"\r\n\r\n") + 4]
    assert b"Server" not in whole


def test_reasons():
    assert REASONS[200] == "OK"
    assert {400, 408, 413, 414, 417, 431, 500, 501, 503, 505} <= set(REASONS)
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"
