"""Conditional requests (RFC 9110, section 13): validators, and what becomes of a request that names some."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import NamedTuple, Optional

# s: what changes twice within its clock's tick has the same time both times. FAT has ticks of 2 s; Linux's own file
# systems have 1 to 10 ms.
TICK = 2.0

CONDITIONS = frozenset(("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE"))


class Validators(NamedTuple):
    """What tells one content of a file from another."""

    etag: str
    modified: int  # s since the epoch, and not in the future (RFC 9110, 8.8.2.1)

    @property
    def strong(self) -> bool:
        return self.etag[0] == '"'


def validators(status: os.stat_result, now: float) -> Validators:
    """Return the validators of a file as of *now*, a `time.time`.

    The tag names the inode, the time of the last change in nanoseconds, and the size: another file in its place has
    another inode, another content another time. That fails only for a change within the same tick of the clock; so
    the tag is weak (RFC 9110, 8.8.1) until the last change is longer ago than a tick. It also fails if somebody
    sets the time back on purpose after writing as many bytes into the same inode: that is asking for it.
    """
    strength = "" if now - status.st_mtime > TICK else "W/"
    tag = f'{strength}"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
    return Validators(tag, int(max(0, min(status.st_mtime, now))))


def check(fields: Mapping[str, str], current: Validators) -> int:
    """Return how a GET or HEAD with *fields* is to be answered: 304, 412, or 0 for as if there were no condition.

    *fields* are under their CGI names. The order is that of RFC 9110, 13.2.2.
    """
    match = fields.get("HTTP_IF_MATCH")
    if match is not None:
        if not _names(match, current.etag, weak=False):
            return 412
    elif (since := _date_in(fields, "HTTP_IF_UNMODIFIED_SINCE")) is not None and current.modified > since:
        return 412
    none_match = fields.get("HTTP_IF_NONE_MATCH")
    if none_match is not None:
        return 304 if _names(none_match, current.etag, weak=True) else 0
    since = _date_in(fields, "HTTP_IF_MODIFIED_SINCE")
    return 304 if since is not None and current.modified <= since else 0


def if_range(value: Optional[str], current: Validators) -> bool:
    """Whether the Range field counts, by the value of If-Range (RFC 9110, 13.1.5): only if nothing has changed."""
    if value is None:
        return True
    if not current.strong:
        return False
    value = value.strip(" \t")
    return value == current.etag or read_date(value) == current.modified


_TAGS = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")').findall


def _names(value: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of tags has *etag* in it, by the weak or by the strong comparison (RFC 9110, 8.8.3.2)."""
    if value.strip(" \t") == "*":
        return True
    if weak:
        opaque = etag[etag.index('"') :]
        return any(tag == opaque for _, tag in _TAGS(value))
    return any(mark + tag == etag for mark, tag in _TAGS(value)) and etag[0] == '"'


def _date_in(fields: Mapping[str, str], name: str) -> Optional[int]:
    value = fields.get(name)
    return None if value is None else read_date(value)


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMS = [
    re.compile(form).fullmatch
    for form in (
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
]


@functools.lru_cache(maxsize=256)
def read_date(value: str) -> Optional[int]:
    """Return an HTTP-date (RFC 9110, 5.6.7: any of three forms) in seconds since the epoch; None if it is none."""
    match = next(filter(None, (form(value.strip(" \t")) for form in _FORMS)), None)
    if match is None:
        return None
    parts = match.groupdict()
    year = int(parts["year"])
    if len(parts["year"]) == 2:  # more than 50 years ahead means the century before
        today = datetime.now(timezone.utc).year
        year += today - today % 100
        year -= 100 if year > today + 50 else 0
    try:
        moment = datetime(
            year,
            _MONTHS.index(parts["month"]) + 1,
            int(parts["day"]),
            int(parts["hour"]),
            int(parts["minute"]),
            min(59, int(parts["second"])) if parts["second"] == "60" else int(parts["second"]),  # a leap second
            tzinfo=timezone.utc,
        )
    except ValueError:  # the 30th of February
        return None
    return int(moment.timestamp())
