"""What may be sent, and where to: nowhere but to the application that was started."""

import pytest

from rocket.bench.load import LoadSpec
from rocket.errors import ConfigError
from rocket.tuning.requests import parse


def paths(*urls):
    return parse(urls, None, "", ()).paths


def test_nothing_said_is_the_root():
    requests = parse((), None, "", ())
    assert (requests.paths, requests.method, requests.headers, requests.body) == (("/",), "GET", (), "")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a", "/a"),
        ("/a?b=c&d=e%20f", "/a?b=c&d=e%20f"),
        ("/grüße?ä=ö", "/gr%C3%BC%C3%9Fe?%C3%A4=%C3%B6"),
        ("/a b", "/a%20b"),
        ("/a#fragment", "/a"),
        ("http://127.0.0.1:9/x?y", "/x?y"),
        ("http://localhost", "/"),
        ("http://[::1]:80/x", "/x"),
    ],
)
def test_paths_and_urls_of_this_host(url, path):
    assert paths(url) == (path,)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "http://10.0.0.1/a", "//example.com/a", "https://127.0.0.1/", "ftp://localhost/",
     "http://127.0.0.1.example.com/", "http://[::1/", "a/b", "", "http:///a"],
)  # fmt: skip
def test_anything_else_is_refused_by_name(url):
    with pytest.raises(ConfigError, match="--url"):
        paths(url)


def test_another_host_is_told_why():
    with pytest.raises(ConfigError, match="only the application that is started here is driven"):
        paths("http://example.com/")


def test_line_ends_in_a_path_end_no_line():
    assert not set("\r\n") & set(paths("/a\r\nHost: b")[0])


def test_a_body_is_posted_as_a_form_unless_told_otherwise(tmp_path):
    requests = parse((), None, "a=1", ())
    assert (requests.method, requests.headers) == ("POST", (("Content-Type", "application/x-www-form-urlencoded"),))
    (tmp_path / "body.json").write_text('{"ä": 1}')
    requests = parse((), "put", f"@{tmp_path / 'body.json'}", ("content-type: application/json",))
    assert (requests.method, requests.headers) == ("PUT", (("content-type", "application/json"),))
    assert requests.body == '{"ä": 1}'


def test_a_host_of_ones_own_takes_the_place_of_ours():
    headers = parse((), None, "", ("host: www.example.com",)).headers
    request = LoadSpec(port=1, headers=headers).requests()[0]
    assert [line for line in request.split(b"\r\n") if line.lower().startswith(b"host")] == [b"Host: www.example.com"]


@pytest.mark.parametrize(
    ("method", "data", "header", "named"),
    [
        ("G T", "", "A: b", "--method"),
        (None, "@/nowhere/body", "A: b", "/nowhere/body"),
        (None, "", "no colon", "--header"),
        (None, "", "a b: c", "--header"),
        (None, "", "A: b\r\nC: d", "--header"),
        (None, "", "Content-Length: 5", "Content-Length is not yours"),
    ],
)
def test_mistakes_are_named(method, data, header, named):
    with pytest.raises(ConfigError, match=named):
        parse((), method, data, (header,))


def test_a_body_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "body").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        parse((), None, f"@{tmp_path / 'body'}", ())
