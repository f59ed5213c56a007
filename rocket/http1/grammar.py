"""The alphabets of RFC 9110 and RFC 9112, once, as pieces of regular expressions.

No piece can backtrack for more than the length of its input: neighbours never share a character
(a value therefore includes the white space around it, which is stripped afterwards).
"""

from __future__ import annotations

from typing import NamedTuple, Union

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110, 5.6.2
VALUE = r"[\t\x20-\x7e\x80-\xff]*"  # RFC 9110, 5.5, with the white space around it
FIELD = TOKEN + ":" + VALUE
# Neither "#" (a fragment is never sent, RFC 9112, 3.2) nor white space. The "unwise" rest of ASCII and raw bytes
# above it are no URI (RFC 3986), but browsers and scripts send them, and there is one way only to read them.
TARGET = r"[\x21\x22\x24-\x7e\x80-\xff]+"
REQUEST_LINE = f"({TOKEN}) ({TARGET}) HTTP/1\\.([0-9])"


class Limits(NamedTuple):
    """How much of a request is read, in bytes (*fields*: how many lines)."""

    request_line: int = 8190
    fields: int = 100
    field_size: int = 8190  # one field line, without its CRLF
    head_size: int = 65536
    body_size: int = 1 << 30


def quote(text: Union[str, bytes]) -> str:
    """Return the beginning of what a peer sent, fit for a message."""
    shown = text.decode("latin-1") if isinstance(text, bytes) else text
    return ascii(shown if len(shown) <= 60 else shown[:60] + "...")
