"""Where an HTTP/1.1 answer ends (RFC 9112, section 6.3): what a load generator must know of one, and no more."""

from __future__ import annotations

import re
from typing import Optional

from rocket.errors import RocketError

MAX_HEAD = 65536
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked[ \t]*\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[^\r\n]*close", re.IGNORECASE)
_KEEP = re.compile(rb"\r\nconnection:[^\r\n]*keep-alive", re.IGNORECASE)
UNTIL_CLOSE = -1
CHUNKED = -2


class Unreadable(RocketError):
    """What came is not an answer."""


class Answer:
    """Read one answer, in pieces. Its body is counted, not kept."""

    __slots__ = ("_buffer", "_left", "_no_body", "body_length", "has_length", "head", "keeps", "status")

    def __init__(self, *, no_body: bool = False) -> None:
        """*no_body*: to a HEAD request."""
        self.status = 0  # until its head is there
        self.head = b""
        self.keeps = True  # whether the connection may be used again
        self.has_length = False  # whether its head has a Content-Length
        self.body_length = 0
        self._no_body = no_body
        self._buffer = b""
        self._left: Optional[int] = None  # bytes of the body, or of this chunk with its line end

    def feed(self, data: bytes) -> bool:
        """Take what was received; return whether the answer is complete.

        Raises Unreadable if it is none, or if there is more than one answer: nobody has asked for a second.
        """
        if self._left is None:
            data = self._buffer + data
            if not self._read_head(data):
                return False
            data, self._buffer = self._buffer, b""
        if self._left == CHUNKED:
            return self._read_chunks(data)
        self.body_length += len(data)
        if self._left == UNTIL_CLOSE:
            return False
        self._left = (self._left or 0) - len(data)
        if self._left < 0:
            raise Unreadable(f"{-self._left} bytes more than the answer has")
        return self._left == 0

    def end(self) -> bool:
        """Return whether the answer is complete now that the connection is closed."""
        return self._left == UNTIL_CLOSE

    def _read_head(self, data: bytes) -> bool:
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(data) > MAX_HEAD or (len(data) >= 8 and not data.startswith(b"HTTP/1.")):
                    raise Unreadable(f"not an answer: {data[:40]!r}")
                self._buffer = data
                return False
            found = _STATUS.match(data)
            if found is None:
                raise Unreadable(f"not an answer: {data[:40]!r}")
            self.status = int(found[2])
            if self.status >= 200:
                break
            data = data[end:]  # an interim answer (100, 103); the answer follows
        self.head = head = data[:end]
        self._buffer = data[end:]
        self.keeps = _CLOSE.search(head) is None and (found[1] == b"1" or _KEEP.search(head) is not None)
        length = _LENGTH.search(head)
        self.has_length = length is not None
        if self._no_body or self.status in {204, 304}:
            self._left = 0
        elif _CHUNKED.search(head) is not None:
            self._left = CHUNKED
        elif length is not None:
            self._left = int(length[1])
        else:
            self._left, self.keeps = UNTIL_CLOSE, False
        return True

    def _read_chunks(self, data: bytes) -> bool:
        data = self._buffer + data
        place = 0
        while True:
            line = data.find(b"\r\n", place)
            if line < 0:
                break
            try:
                size = int(data[place:line].partition(b";")[0], 16)
            except ValueError:
                raise Unreadable(f"not a chunk's size: {data[place:line][:40]!r}") from None
            if size == 0:
                end = data.find(b"\r\n\r\n", line)  # after the trailers, if there are any
                if end < 0:
                    break
                if end + 4 < len(data):
                    raise Unreadable(f"{len(data) - end - 4} bytes more than the answer has")
                return True
            if len(data) < line + 2 + size + 2:
                break
            self.body_length += size
            place = line + 2 + size + 2
        self._buffer = data[place:]
        return False
