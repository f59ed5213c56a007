"""Conditions: validators, dates, and the order in which RFC 9110 wants them looked at."""

import os
import time
from types import SimpleNamespace

import pytest
from files_helpers import age
from hypothesis import given
from hypothesis import strategies as st

from rocket.files.conditions import Validators, check, if_range, read_date, validators
from rocket.http1 import http_date

MODIFIED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the RFC's example
DATE, EARLIER, LATER = (http_date(MODIFIED + difference) for difference in (0, -1, 1))
STRONG = Validators('"a-b"', MODIFIED)
WEAK = Validators('W/"a-b"', MODIFIED)


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_the_three_forms_of_a_date(value):
    assert read_date(value) == MODIFIED


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 30 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        f"{DATE}, {DATE}",
        "Sun, 06 Nov 0000 08:49:37 GMT",
    ],
)
def test_what_is_no_date_is_none(value):
    assert read_date(value) is None


@given(st.integers(0, 253402300799))
def test_dates_that_we_write_are_read(moment):
    assert read_date(http_date(moment)) == moment


def test_a_year_of_two_digits_is_never_more_than_fifty_years_ahead():
    year = time.gmtime().tm_year
    for ahead, expected in ((49, year + 49), (51, year - 49)):
        found = read_date(f"Monday, 01-Jan-{(year + ahead) % 100:02d} 00:00:00 GMT")
        assert time.gmtime(found).tm_year == expected


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 0),
        ({"IF_NONE_MATCH": '"a-b"'}, 304),
        ({"IF_NONE_MATCH": 'W/"a-b"'}, 304),
        ({"IF_NONE_MATCH": '"x,y", W/"z" ,"a-b"'}, 304),
        ({"IF_NONE_MATCH": "*"}, 304),
        ({"IF_NONE_MATCH": '"x"'}, 0),
        ({"IF_NONE_MATCH": "a-b"}, 0),
        ({"IF_NONE_MATCH": ""}, 0),
        ({"IF_NONE_MATCH": '"x,"a-b,y"'}, 0),
        ({"IF_MODIFIED_SINCE": DATE}, 304),
        ({"IF_MODIFIED_SINCE": LATER}, 304),
        ({"IF_MODIFIED_SINCE": EARLIER}, 0),
        ({"IF_MODIFIED_SINCE": "yesterday"}, 0),
        ({"IF_NONE_MATCH": '"x"', "IF_MODIFIED_SINCE": LATER}, 0),  # the tag is more exact
        ({"IF_NONE_MATCH": '"a-b"', "IF_MODIFIED_SINCE": EARLIER}, 304),
        ({"IF_MATCH": '"a-b"'}, 0),
        ({"IF_MATCH": "*"}, 0),
        ({"IF_MATCH": '"x", "a-b"'}, 0),
        ({"IF_MATCH": '"x"'}, 412),
        ({"IF_MATCH": 'W/"a-b"'}, 412),  # strong comparison
        ({"IF_MATCH": '"x"', "IF_UNMODIFIED_SINCE": LATER}, 412),
        ({"IF_MATCH": '"a-b"', "IF_UNMODIFIED_SINCE": EARLIER}, 0),
        ({"IF_UNMODIFIED_SINCE": EARLIER}, 412),
        ({"IF_UNMODIFIED_SINCE": DATE}, 0),
        ({"IF_UNMODIFIED_SINCE": "yesterday"}, 0),
        ({"IF_MATCH": '"a-b"', "IF_NONE_MATCH": '"a-b"'}, 304),
        ({"IF_MATCH": '"x"', "IF_NONE_MATCH": '"a-b"'}, 412),
        ({"IF_UNMODIFIED_SINCE": EARLIER, "IF_NONE_MATCH": '"a-b"'}, 412),
    ],
)
def test_conditions_in_their_order(fields, status):
    assert check({f"HTTP_{name}": value for name, value in fields.items()}, STRONG) == status


def test_a_weak_tag_never_matches_where_a_strong_one_is_wanted():
    assert check({"HTTP_IF_MATCH": 'W/"a-b"'}, WEAK) == 412
    assert check({"HTTP_IF_MATCH": '"a-b"'}, WEAK) == 412
    assert check({"HTTP_IF_NONE_MATCH": '"a-b"'}, WEAK) == 304


@pytest.mark.parametrize(
    ("value", "current", "counts"),
    [
        (None, WEAK, True),
        ('"a-b"', STRONG, True),
        (' "a-b" ', STRONG, True),
        ('W/"a-b"', STRONG, False),
        ('"x"', STRONG, False),
        ('"x", "a-b"', STRONG, False),  # one tag only
        ("*", STRONG, False),
        ('W/"a-b"', WEAK, False),
        (DATE, STRONG, True),
        (LATER, STRONG, False),  # exactly this date (RFC 9110, 13.1.5)
        (EARLIER, STRONG, False),
        (DATE, WEAK, False),
        ("yesterday", STRONG, False),
    ],
)
def test_if_range(value, current, counts):
    assert if_range(value, current) is counts


def status(**fields):
    return SimpleNamespace(**{"st_mtime": 1e9, "st_mtime_ns": 10**18, "st_size": 5, "st_ino": 7, **fields})


def test_the_tag_is_another_for_another_inode_time_or_size():
    others = [status(st_ino=8), status(st_mtime_ns=10**18 + 1), status(st_size=6)]
    tags = {validators(each, 2e9).etag for each in [status(), *others]}
    assert len(tags) == 4
    assert all(tag.startswith('"') for tag in tags)


def test_the_tag_is_weak_while_another_change_could_have_the_same_time(tmp_path):
    path = tmp_path / "new"
    path.write_bytes(b"x")
    assert not validators(os.stat(path), os.stat(path).st_mtime + 0.5).strong
    age(path)
    assert validators(os.stat(path), time.time()).strong
    age(path, -7200)  # in the future: nothing is known
    found = validators(os.stat(path), time.time())
    assert not found.strong
    assert found.modified <= time.time()


def test_a_time_before_the_epoch_is_no_error():
    assert validators(status(st_mtime=-1e15, st_mtime_ns=-(10**24)), 1e9).modified == 0
