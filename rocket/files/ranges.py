"""Range requests (RFC 9110, section 14): which bytes are asked for. Values in, values out."""

from __future__ import annotations

import re
from typing import Optional

# More ranges than this in one request are not what a client needs, but what an attacker sends (CVE-2011-3192).
MOST = 64

Range = tuple[int, int]  # first byte, and the one after the last

_UNIT = re.compile(r"bytes[ \t]*=(.*)", re.IGNORECASE).fullmatch
_SPEC = re.compile(r"[ \t]*(?:([0-9]{1,32})-([0-9]{0,32})|-([0-9]{1,32}))[ \t]*", re.ASCII).fullmatch


def read_ranges(value: str, size: int) -> Optional[list[Range]]:
    """Return which of *size* bytes the field *value* asks for; [] if they are not there; None to ignore it.

    It is ignored, and all is sent, if the unit is another than bytes, if it is malformed, or if it has more than
    `MOST` ranges (RFC 9110, 14.2, allows it). Ranges that overlap or touch are joined, so that no byte is sent
    twice; they come in the order in which they were asked for. There is nothing to choose from if *size* is 0.
    """
    match = _UNIT(value)
    if match is None or not size:
        return None
    found = []
    specs = [spec for spec in match[1].split(",") if spec.strip(" \t")]  # empty ones: RFC 9110, 5.6.1.2
    if not 0 < len(specs) <= MOST:
        return None
    for spec in specs:
        numbers = _SPEC(spec)
        if numbers is None:
            return None
        first, last, suffix = numbers.groups()
        if suffix is not None:
            start, end = max(0, size - int(suffix)), size
        else:
            if last and int(last) < int(first):
                return None
            start, end = int(first), min(size, int(last) + 1) if last else size
        if start < end:
            found.append((start, end))
    return _joined(found) if len(found) > 1 else found


def _joined(ranges: list[Range]) -> list[Range]:
    """Join ranges that overlap or touch; each is where the first of those in it was."""
    joined: list[tuple[int, Range]] = []
    for (start, end), place in sorted(zip(ranges, range(len(ranges)))):
        if joined and start <= joined[-1][1][1]:
            first, before = joined[-1]
            joined[-1] = min(first, place), (before[0], max(before[1], end))
        else:
            joined.append((place, (start, end)))
    return [each for _, each in sorted(joined)]
