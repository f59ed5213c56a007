"""Chunked bodies, both ways (RFC 9112, section 7.1)."""

from __future__ import annotations

import re

from rocket.errors import BadRequest, BodyTooLarge, HeadTooLarge
from rocket.http1.grammar import FIELD, TOKEN, Limits, quote

LAST_CHUNK = b"0\r\n\r\n"
EXTENSION_LINE = 4096  # bytes of a line with a chunk's size and its extensions
TRAILER = 8190  # bytes of a trailer's line, if the limits allow more for a field
EXTENSIONS = 16384  # bytes of extensions in one body; CVE-2024-21647 had no limit

_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_plain_size = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match
_EXTENSION = f";{TOKEN}(?:=(?:{TOKEN}|{_QUOTED}))?"
_size_line = re.compile(f"([0-9A-Fa-f]{{1,16}})((?:{_EXTENSION})*)\r\n".encode("latin-1")).fullmatch
_trailer = re.compile(f"{FIELD}\r\n".encode("latin-1")).fullmatch

_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)  # what is expected next


def chunk(data: bytes) -> bytes:
    """Return *data*, which must not be empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkedBody:
    """Decode a chunked body that comes in any pieces.

    Strict: nothing but CRLF ends a line, no white space around a size (RFC 9110, 5.6.3, would have it read), extensions
    must follow the grammar. Trailers are checked like header fields, counted, and dropped.
    Do not feed it any more once it is `done` or has raised.
    """

    __slots__ = (
        "_extensions",
        "_held",
        "_left",
        "_limits",
        "_state",
        "_total",
        "_trailers",
        "_trailers_size",
        "done",
        "rest",
    )

    def __init__(self, limits: Limits) -> None:
        self.done = False  # the last chunk and the trailers have come
        self.rest = b""  # what came after them; valid once done
        self._limits = limits
        self._state = _SIZE
        self._left = 0  # bytes of the chunk that have not come yet
        self._held = b""  # the beginning of a line; never longer than a line may be
        self._total = 0  # of all sizes
        self._extensions = 0
        self._trailers = 0
        self._trailers_size = 0

    def feed(self, data: bytes) -> bytes:
        """Return what *data* holds of the content. `BadRequest`, `BodyTooLarge`."""
        if self._held:
            data, self._held = self._held + data, b""
        state, left = self._state, self._left
        size = len(data)
        parts = []
        at = 0
        while at < size:
            if state == _DATA:
                part = data[at : at + left]
                parts.append(part)
                at += len(part)
                left -= len(part)
                if left:
                    break
                state = _DATA_END
            elif state == _DATA_END:
                if data.startswith(b"\r\n", at):
                    at += 2
                    state = _SIZE
                elif size - at == 1 and data[at] == 13:
                    self._held = b"\r"
                    break
                else:
                    raise BadRequest(f"a chunk is not as long as it says: {quote(data[at : at + 2])} follows it")
            elif state == _SIZE:
                match = _plain_size(data, at)
                if match is not None:
                    at = match.end()
                    left = int(match[1], 16)
                else:
                    line, at = self._read_line(data, at, EXTENSION_LINE)
                    if not line:
                        break
                    left = self._read_size(line)
                self._total += left
                if self._total > self._limits.body_size:
                    raise BodyTooLarge(f"the body is longer than {self._limits.body_size} bytes")
                state = _DATA if left else _TRAILERS
            else:
                line, at = self._read_line(data, at, min(self._limits.field_size, TRAILER))
                if not line:
                    break
                if line == b"\r\n":
                    self.done = True
                    self.rest = data[at:]
                    break
                self._check_trailer(line)
        self._state, self._left = state, left
        return b"".join(parts)

    def _read_line(self, data: bytes, start: int, limit: int) -> tuple[bytes, int]:
        """Return a line with its end and the index after it; or nothing, and hold what there is of it.

        A line that comes byte by byte is copied and searched once a byte. *limit* is small, so that this is cheaper
        than the call itself, and no more than a constant.
        """
        end = data.find(b"\n", start) + 1
        if (end or len(data)) - start > limit + 2:
            raise HeadTooLarge(f"a line of the chunked body is longer than {limit} bytes")
        if end:
            return data[start:end], end
        if -1 < data.find(b"\r", start) < len(data) - 1:
            raise BadRequest(f"a CR without LF in the chunked body: {quote(data[start:])}")
        self._held = data[start:]
        return b"", start

    def _read_size(self, line: bytes) -> int:
        match = _size_line(line)
        if match is None:
            raise BadRequest(f"not the size of a chunk: {quote(line)}")
        self._extensions += len(match[2])
        if self._extensions > EXTENSIONS:
            raise BadRequest(f"more than {EXTENSIONS} bytes of chunk extensions")
        return int(match[1], 16)

    def _check_trailer(self, line: bytes) -> None:
        if _trailer(line) is None:
            raise BadRequest(f"not a trailer field: {quote(line)}")
        self._trailers += 1
        self._trailers_size += len(line)
        if self._trailers > self._limits.fields or self._trailers_size > self._limits.head_size:
            raise HeadTooLarge(f"more than {self._limits.fields} trailers, or {self._limits.head_size} bytes of them")
