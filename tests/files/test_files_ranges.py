"""Ranges: which bytes a Range field asks for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocket.files.ranges import MOST, read_ranges


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 9110, 14.1.2, of 10,000 bytes
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(9500, 10000)]),
        ("bytes=9500-", [(9500, 10000)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        ("bytes=500-600,601-999", [(500, 1000)]),
        ("bytes=500-700,601-999", [(500, 1000)]),
        ("bytes=0-", [(0, 10000)]),
        ("BYTES = 0-0", [(0, 1)]),
        ("bytes= 0-0 ,\t5-6, ,", [(0, 1), (5, 7)]),
        ("bytes=9999-99999", [(9999, 10000)]),
        ("bytes=0-99999999999999999999999999", [(0, 10000)]),
        ("bytes=-99999", [(0, 10000)]),
        ("bytes=700-800,0-9", [(700, 801), (0, 10)]),
        ("bytes=700-800,0-9,750-900", [(700, 901), (0, 10)]),
        ("bytes=0-1,20000-", [(0, 2)]),
        # not there
        ("bytes=10000-", []),
        ("bytes=10000-10001,-0", []),
        ("bytes=-0", []),
        # ignored
        ("items=0-1", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-0", None),
        ("bytes=0-1,5-3", None),
        ("bytes=0-1;2-3", None),
        ("bytes=+1-2", None),
        ("bytes=0x1-2", None),
        ("bytes=1_0-20", None),
        ("bytes=\u0661-2", None),
        ("bytes=0 - 1", None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_ranges_of_ten_thousand_bytes(value, expected):
    assert read_ranges(value, 10000) == expected


def test_an_empty_file_has_no_ranges_to_choose_from():
    assert read_ranges("bytes=0-", 0) is None
    assert read_ranges("bytes=-1", 0) is None


def test_too_many_ranges_are_ignored():
    """CVE-2011-3192: each of a thousand ranges would be the whole file."""
    assert read_ranges("bytes=" + ",".join(f"{5 * i}-{5 * i}" for i in range(MOST)), 10000) is not None
    assert read_ranges("bytes=" + ",".join(f"{5 * i}-{5 * i}" for i in range(MOST + 1)), 10000) is None
    assert read_ranges("bytes=" + ",".join(["0-"] * 1000), 10000) is None


SPECS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)) | st.integers(0, 60), min_size=1, max_size=10)


@given(SPECS, st.integers(1, 50))
def test_all_bytes_that_were_asked_for_come_once_and_no_others(specs, size):
    specs = [spec if isinstance(spec, int) else tuple(sorted(spec)) for spec in specs]
    value = "bytes=" + ",".join(f"-{spec}" if isinstance(spec, int) else f"{spec[0]}-{spec[1]}" for spec in specs)
    asked = set()
    for spec in specs:
        asked |= set(range(max(0, size - spec), size) if isinstance(spec, int) else range(spec[0], spec[1] + 1))
    found = read_ranges(value, size)
    sent = [byte for start, end in found for byte in range(start, end)]
    assert sorted(sent) == sorted(asked & set(range(size)))


@given(st.text("bytes=0123456789-, \t", max_size=40) | st.text(max_size=20), st.integers(0, 1 << 40))
def test_nothing_breaks_it(value, size):
    for start, end in read_ranges(value, size) or ():
        assert 0 <= start < end <= size
        assert re.match(r"(?i)bytes", value)
