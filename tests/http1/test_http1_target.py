"""Targets split into what WSGI wants."""

import pytest

from rocket.errors import BadRequest
from rocket.http1 import split_target


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", ("/", "", None)),
        ("/a?b", ("/a", "b", None)),
        ("/a?", ("/a", "", None)),
        ("/?b?c=d&e", ("/", "b?c=d&e", None)),
        ("//x/../y", ("//x/../y", "", None)),
        ("///x", ("///x", "", None)),
        ("/a+b?c+d", ("/a+b", "c+d", None)),
        ("/%2541", ("/%41", "", None)),
        ("/%C3%A9%ff", ("/\xc3\xa9\xff", "", None)),
        ("/\xe9%20", ("/\xe9 ", "", None)),
        ("/%2F%2e", ("//.", "", None)),
        ("/a%3Fb", ("/a?b", "", None)),
        ("/%zz%4%", ("/%zz%4%", "", None)),
        ("/%u0041", ("/%u0041", "", None)),
        ("/a?x=%00%20%zz", ("/a", "x=%00%20%zz", None)),
        ("http://h/a%20b?c", ("/a b", "c", "h")),
        ("HTTPS://[::1]:8", ("/", "", "[::1]:8")),
        ("http://h?c", ("/", "c", "h")),
        ("http://h/?c?/", ("/", "c?/", "h")),
        ("http://h//x", ("//x", "", "h")),
    ],
)
def test_split(target, expected):
    assert split_target("GET", target) == expected


def test_an_asterisk_stays():
    assert split_target("OPTIONS", "*") == ("*", "", None)


@pytest.mark.parametrize("target", ["/a%00b", "http://h/%00", "http://u:p@h/", "http://", "http://h:99999/", "x", "*"])
def test_refused(target):
    with pytest.raises(BadRequest):
        split_target("GET", target)
