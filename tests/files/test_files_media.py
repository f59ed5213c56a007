"""Types by name, and content codings."""

import mimetypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocket.files.media import choose, content_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"index.html", "text/html; charset=utf-8"),
        (b"a.TXT", "text/plain; charset=utf-8"),
        (b"a.css", "text/css; charset=utf-8"),
        (b"a.js", "text/javascript; charset=utf-8"),
        (b"a.mjs", "text/javascript; charset=utf-8"),
        (b"a.json", "application/json"),
        (b"a.svg", "image/svg+xml"),
        (b"a.png", "image/png"),
        (b"a.webp", "image/webp"),
        (b"a.woff2", "font/woff2"),
        (b"a.wasm", "application/wasm"),
        (b"a.tar.gz", "application/gzip"),
        (b"a.js.gz", "application/gzip"),
        (b"a.js.br", "application/octet-stream"),
        (b"a.js.zst", "application/zstd"),
        (b"a.bin", "application/octet-stream"),
        (b"README", "application/octet-stream"),
        (b"html", "application/octet-stream"),
        (b"a.html~", "application/octet-stream"),
        (b"data:text/html,x", "application/octet-stream"),  # a name, not a URL
        (b"http://x/a.html", "text/html; charset=utf-8"),
        (b"\xff\xfe.html", "text/html; charset=utf-8"),
    ],
)
def test_types(name, expected):
    assert content_type(name, "utf-8") == expected


def test_another_charset_or_none():
    assert content_type(b"a.txt", "") == "text/plain"
    assert content_type(b"a.txt", "iso-8859-15") == "text/plain; charset=iso-8859-15"


def test_types_that_the_application_adds_count(monkeypatch):
    mimetypes.add_type("application/x-rocket-test", ".rckt")
    assert content_type(b"a.rckt", "utf-8") == "application/x-rocket-test"


ALL = {"br": 1, "zstd": 1, "gzip": 1}


@pytest.mark.parametrize(
    ("accept", "offered", "expected"),
    [
        ("gzip, deflate, br, zstd", ALL, "br"),
        ("gzip", ALL, "gzip"),
        ("x-gzip", ALL, "gzip"),
        ("GZIP", ALL, "gzip"),
        ("gzip", {"br": 1}, ""),
        ("", ALL, ""),
        ("identity", ALL, ""),
        ("*", ALL, "br"),
        ("*;q=0", ALL, ""),
        ("gzip;q=0", ALL, ""),
        ("br;q=0, *", ALL, "zstd"),
        ("br;q=0.1, gzip;q=0.9", ALL, "gzip"),
        ("br ; q=0.1 ,gzip; Q=0.90", ALL, "gzip"),
        ("gzip;q=0.5, identity;q=0.9", ALL, ""),
        ("gzip;q=0.5, identity;q=0.5", ALL, "gzip"),
        ("gzip;q=0.5, *;q=0.9", {"gzip": 1}, ""),
        ("identity;q=0, gzip;q=0.1", ALL, "gzip"),
        ("gzip;q=2", ALL, ""),  # malformed
        ("gzip;q=0.0001, br;q=1.000", ALL, "br"),
        ("gzip;level=9", ALL, ""),
        (",,gzip,", ALL, "gzip"),
    ],
)
def test_codings(accept, offered, expected):
    assert choose(accept, offered) == expected


@given(st.text(max_size=40))
def test_any_accept_encoding_gives_a_coding_that_is_offered(accept):
    assert choose(accept, ALL) in {"", *ALL}
