"""A folder's contents as a page. Names are anybody's: nothing in them may become markup, a scheme or a path."""

from __future__ import annotations

import html
import os
import stat
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote_from_bytes

MOST = 10_000  # entries: a page of a megabyte and more; the rest is counted, not shown

# Nothing on the page may load or run anything, should a name get through the escaping after all.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; }}
table {{ border-collapse: collapse; width: 100%; }}
th {{ text-align: left; }}
th, td {{ padding: .15em .6em; border-bottom: 1px solid #8884; }}
td:first-child {{ overflow-wrap: anywhere; white-space: pre-wrap; }}
.number {{ text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
<thead><tr><th>Name</th><th class="number">Size</th><th class="number">Changed (UTC)</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>{note}
</body>
</html>
"""


class Entry(NamedTuple):
    """A file or folder as it is shown."""

    name: bytes
    is_folder: bool
    size: int  # bytes
    modified: float  # s since the epoch


def entry(name: bytes, status: os.stat_result) -> Entry:
    return Entry(name, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime)


def render(names: Sequence[bytes], entries: Iterable[Entry], left_out: int) -> bytes:
    """Return the page for the folder at *names*, with folders first, then by name. *left_out* entries are not shown."""
    title = "/" + "".join(_shown(name) + "/" for name in names)
    rows = ['<tr><td><a href="../">../</a></td><td class="number"></td><td class="number"></td></tr>'] if names else []
    rows += [_row(each) for each in sorted(entries, key=lambda each: (not each.is_folder, each.name))]
    note = f"\n<p>{left_out} more are not shown.</p>" if left_out else ""
    return _PAGE.format(title=title, rows="\n".join(rows), note=note).encode()


def _row(each: Entry) -> str:
    slash = "/" if each.is_folder else ""
    size = "" if each.is_folder else _size(each.size)
    # "./": a name such as "javascript:x" is no scheme.
    link = f"./{quote_from_bytes(each.name, safe='')}{slash}"
    return (
        f'<tr><td><a href="{link}">{_shown(each.name)}{slash}</a></td>'
        f'<td class="number">{size}</td><td class="number">{_date(each.modified)}</td></tr>'
    )


def _shown(name: bytes) -> str:
    return html.escape(name.decode("utf-8", "replace"))


def _date(modified: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(modified))
    except (OverflowError, ValueError, OSError):  # some file systems keep any 64 bits
        return ""


def _size(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    number = size / 1024
    units = iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    unit = next(units)
    while number >= 1023.5:
        number, unit = number / 1024, next(units)
    return f"{number:.1f} {unit}" if number < 99.95 else f"{number:.0f} {unit}"
