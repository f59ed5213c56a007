"""What a peer has not taken yet: bytes in memory, then in a temporary file, and files by sendfile(2)."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import tempfile
import termios
import time
from collections import deque
from typing import TYPE_CHECKING, Callable, Optional, Union

from rocket.errors import ConnectionLost

if TYPE_CHECKING:
    import socket

log = logging.getLogger("rocket.connection")  # by which operators know it

READ_BYTES = 65536  # of a file, or in a block of memory
SMALL = 4096  # bytes: less than this is copied together with its neighbours while it is kept
FLUSH_BYTES = 4 << 20  # what goes in one turn at most: a peer that takes it as fast as we send must not hold a thread
# What sendfile(2) says of a file, not of the socket. Some file systems have it not: they are read the usual way, which
# also finds out what is wrong if the file cannot be read at all.
NO_SENDFILE = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EIO, errno.ESTALE))


class Output:
    """What the peer has not taken yet: bytes in memory, then in a temporary file, or files to send.

    *memory* and *spool* are bytes: how much is kept in memory, and how much more in a temporary file;
    `full` tells that both are used up. Not for two threads at once: the connection's owner has it.
    """

    __slots__ = (
        "_held",
        "_parts",
        "_secure",
        "_spooled",
        "memory",
        "moved_at",
        "progress",
        "size",
        "spool",
        "unacknowledged",
    )

    def __init__(self, *, memory: int = 1 << 20, spool: int = 1 << 28, secure: bool = False) -> None:
        self.memory = memory
        self.spool = spool
        self.size = 0  # bytes kept, without files
        self.progress = 0  # bytes that went since the output was made
        self.moved_at = time.monotonic()  # when the peer was last seen to take something
        self.unacknowledged: Optional[int] = None  # bytes of what went, when it was looked at last
        self._secure = secure  # TLS: the kernel cannot encrypt what sendfile(2) reads
        self._parts: deque[Union[memoryview, bytearray, Range]] = deque()
        self._held = 0  # bytes kept in memory
        self._spooled: Optional[Spool] = None

    @property
    def full(self) -> bool:
        """Whether no more should be added before some of it has gone."""
        if self._spooled is None and self._held > self.memory:
            return True  # no disk to spool to
        return self.size >= self.memory + self.spool

    def add(self, data: Union[bytes, memoryview]) -> None:
        """Keep *data*. It is not copied while it is in memory: the caller does not change it."""
        self.size += len(data)
        if not self._to_disk(data):
            self._spooled = None
            self._held += len(data)
            if len(data) >= SMALL:
                self._parts.append(memoryview(data))
            elif self._parts and isinstance(last := self._parts[-1], bytearray) and len(last) < READ_BYTES:
                last += data  # a block of its own would cost 150 bytes more than it holds
            else:
                self._parts.append(bytearray(data))

    def _to_disk(self, data: Union[bytes, memoryview]) -> bool:
        """Spool *data* if it is to be; False, and nothing done, if not, or if there is no room on the disk."""
        spooled = self._spooled
        if spooled is None and (self._held + len(data) <= self.memory or not self.spool):
            return False
        try:
            # Another file past the limit: what was sent of this one is only given back with all of it.
            if spooled is None or spooled.end >= self.spool:
                spooled = Spool()
        except OSError:  # no descriptor, no directory
            return False
        if not spooled.append(data):
            if spooled is not self._spooled:
                spooled.close()
            return False
        if spooled is not self._spooled:
            self._spooled = spooled
            self._parts.append(spooled)
        return True

    def add_file(self, fd: int, offset: int, count: int, on_done: Callable[[], None]) -> None:
        """Keep *count* bytes of the file *fd* from *offset* on. *on_done* is called once."""
        self._spooled = None
        self._parts.append(Range(fd, offset, count, on_done))

    def flush(self, sock: socket.socket) -> bool:
        """Send what the socket takes, or a turn's worth; return whether nothing is left. Raises OSError."""
        end = self.progress + FLUSH_BYTES
        while self._parts:
            if self.progress >= end:
                return False
            part = self._parts[0]
            try:
                sent = part.send(sock, self._secure) if isinstance(part, Range) else sock.send(part)
            except (BlockingIOError, InterruptedError):
                return False
            self.progress += sent
            if isinstance(part, Range):
                if isinstance(part, Spool):
                    self.size -= sent
                if part.count == 0:
                    if part is self._spooled:
                        self._spooled = None
                    self._parts.popleft()
                    part.close()
            else:
                self.size -= sent
                self._held -= sent
                if sent == len(part):
                    self._parts.popleft()
                else:
                    self._parts[0] = part[sent:]
        return True

    def close(self) -> None:
        """Let go of everything."""
        while self._parts:
            part = self._parts.popleft()
            if isinstance(part, Range):
                part.close()


class Range:
    """Some bytes of a file on their way to a socket."""

    __slots__ = ("_on_done", "_reads", "count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int, on_done: Callable[[], None]) -> None:
        self._reads = not hasattr(os, "sendfile")  # OpenBSD and NetBSD have none
        self.fd = fd
        self.offset = offset
        self.count = count
        self._on_done: Optional[Callable[[], None]] = on_done

    def send(self, sock: socket.socket, secure: bool) -> int:
        """Send some; return how many bytes. Raises OSError, also when the file has become shorter."""
        if not self.count:
            return 0
        if secure or self._reads:
            sent = sock.send(self._read())
        else:
            try:
                sent = os.sendfile(sock.fileno(), self.fd, self.offset, min(self.count, FLUSH_BYTES))
            except OSError as exc:
                if exc.errno not in NO_SENDFILE:
                    raise
                self._reads = True
                return self.send(sock, secure)
        if not sent:
            raise self._too_short()
        self.offset += sent
        self.count -= sent
        return sent

    def _too_short(self) -> ConnectionLost:
        # Not the peer's fault, and nothing can be done: it was told how much there is.
        log.warning("a file that is being sent has become shorter: cut off, %d bytes are missing", self.count)
        return ConnectionLost(f"the file ended {self.count} bytes early")

    def _read(self, most: int = READ_BYTES) -> bytes:
        try:
            return os.pread(self.fd, min(self.count, most), self.offset)
        except OSError as exc:
            log.warning("a file that is being sent cannot be read: %s; cut off, %d bytes are missing", exc, self.count)
            raise

    def close(self) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            try:
                on_done()
            except Exception:
                log.exception("what was to be done after a file was sent failed")


class Spool(Range):
    """Bytes in a temporary file, appended at its end while its beginning is sent."""

    __slots__ = ("_file",)

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed when it was sent)
        super().__init__(self._file.fileno(), 0, 0, self._file.close)

    @property
    def end(self) -> int:
        """The file's size in bytes."""
        return self.offset + self.count

    def append(self, data: Union[bytes, memoryview]) -> bool:
        """Write *data* at the end; False, and nothing changed, if the disk is full."""
        view = memoryview(data)
        end = self.end
        written = 0
        try:
            while written < len(view):
                written += os.pwrite(self.fd, view[written:], end + written)
        except OSError:  # ENOSPC, EDQUOT: the caller keeps it in memory
            return False
        self.count += len(view)
        return True


def unacknowledged(fd: int) -> Optional[int]:
    """Return how many bytes of what was sent the peer has yet to acknowledge; None if the system does not tell."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (OSError, ValueError):  # ValueError: it is closed
        return None
