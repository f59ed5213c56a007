"""Connections: the only recv and, with output.py, the only send.

Nothing here waits, but for `Connection.wait`. What the peer has not sent yet, or not taken yet,
is somebody else's business: the connection is parked, and comes back when the peer has moved.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

from rocket import gil
from rocket.errors import ConnectionLost, WriteTimeout
from rocket.output import Output, unacknowledged
from rocket.reset import reset

if TYPE_CHECKING:
    from collections.abc import Sequence

RECEIVE_BYTES = 65536
LOOK = 2.0  # s: at the longest between two looks at a peer that takes nothing
LOOKS = 4  # within the time that it is given, at the least
NEVER = float("inf")
LOST = 1.0  # s: a lock that is held for so long was lost, with a thread that an exception from outside has ended
MSG_MORE: int = getattr(socket, "MSG_MORE", 0)  # Linux: see send(2)


def until_look(timeout: float, still: float = 0.0) -> float:
    """Return how long (s) to wait until a peer is looked at again that has taken nothing for *still* of *timeout* s.

    What a look sees may have happened just after the one before.
    """
    return max(0.0, min(LOOK, timeout / LOOKS, timeout - still))


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int: ...


class Connection:
    """One socket: buffered, file-like, never blocking.

    A connection has one owner at a time: the active queue, a worker, or the reactor. Only the owner
    touches it; handing it over is the owner's last act.

    *peer* is the address of the other side, ("", "") for a unix socket, *endpoint* the (host, port) that
    was connected to, *secure* whether the bytes are protected by TLS. *created* is a `time.monotonic`,
    *requests* counts the requests that were begun.
    """

    __slots__ = (
        "_ending",
        "_output",
        "bucket",
        "buffer",
        "closed",
        "created",
        "deadline",
        "endpoint",
        "environ",
        "eof",
        "fd",
        "keeps_gil",
        "output_limits",
        "peer",
        "request",
        "requests",
        "scanned",
        "secure",
        "since",
        "sock",
        "task",
        "timer",
        "told",
        "trusted",
        "until_close",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: tuple[str, str] = ("", ""),
        endpoint: tuple[str, str] = ("localhost", "0"),
        *,
        secure: bool = False,
        output_limits: tuple[int, int] = (1 << 20, 1 << 28),
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer  # or the client, once a PROXY header has named it
        self.endpoint = endpoint
        self.secure = secure
        self.trusted: Optional[bool] = None  # whether the peer is a proxy to be believed; None: not looked at yet
        self.told: Optional[dict[str, str]] = None  # what a PROXY header says of all its requests, as in their environ
        self.output_limits = output_limits  # bytes: in memory, in a temporary file (see Output)
        self.created = self.since = time.monotonic()
        self.requests = 0
        self.request = ""  # what is being served, for people: "GET /path"
        self.buffer = b""  # read from the peer, not yet used
        self.scanned = 0  # bytes of the buffer known to be the beginning of a message: more must come
        self.eof = False  # the peer has sent its last byte
        self.until_close = False  # where the answer ends only the connection's end will tell (RFC 9112, 6.3)
        self.closed = False
        self.keeps_gil = False  # whether `fill`, `write` and `close` do, see rocket.gil; its worker's
        # What goes on when the connection is ready again; None: a new message is to be read.
        self.task: Any = None  # a `rocket.workers.tasks.Task`, some floors up
        self.environ: Optional[dict[str, Any]] = None  # what is the same for all its requests; a worker's
        self.deadline = NEVER  # monotonic s: when waiting for the peer is given up
        self.timer = NEVER  # monotonic s: when the reactor will look at the deadline
        self.bucket: Optional[dict[Connection, None]] = None  # the reactor's, see there
        self._output: Optional[Output] = None  # accepted by `write`, not yet by the peer
        # Taken to say that it is closed, and to cut it off if it is not: what its owner closes just then may be
        # somebody else's by its number. (Of its own: whoever loses one, loses no more.)
        self._ending = threading.Lock()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self.fd}"
        # Escaped: what a client sends must not begin a line of the log, or speak to a terminal.
        serving = f", {self.request.encode('unicode_escape').decode('ascii')}" if self.request else ""
        peer = ":".join(self.peer) if self.peer[0] else "a unix socket"
        return f"<Connection {state} from {peer}, {self.requests} requests{serving}>"

    def variables(self) -> dict[str, str]:
        """Return what an application is told of how it is secured, in the manner of mod_ssl."""
        return {}

    # ------------------------------------------------------------------ reading

    def fill(self) -> bool:
        """Read once what has come into the buffer; return whether anything came.

        False also at the end of the stream, then *eof* is set. Raises ConnectionLost.
        """
        try:
            data = gil.recv(self.sock, RECEIVE_BYTES) if self.keeps_gil else self.sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            raise ConnectionLost(str(exc)) from exc
        if not data:
            self.eof = True
            return False
        self.buffer = self.buffer + data if self.buffer else data
        return True

    def fill_into(self, view: memoryview) -> int:
        """Read once what has come into *view*, past the buffer; return how many bytes.

        0 if nothing has come, also at the end of the stream, then *eof* is set. Raises ConnectionLost. *view* must
        not be empty, the buffer must be, and the connection not *secure*.
        """
        try:
            count = self.sock.recv_into(view)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            raise ConnectionLost(str(exc)) from exc
        if not count:
            self.eof = True
        return count

    def read(self, size: int = -1) -> Optional[bytes]:
        """Return *size* bytes, or with -1 all that has come; None if they have not come yet.

        At the end of the stream: what is left, b"" once nothing is.
        """
        while size < 0 or len(self.buffer) < size:
            if self.eof or not self.fill():
                if self.eof or (size < 0 and self.buffer):
                    break
                self.scanned = len(self.buffer)
                return None
        taken = self.buffer if size < 0 else self.buffer[:size]
        self.buffer = self.buffer[len(taken) :]
        self.scanned = 0
        return taken

    def readline(self, limit: int = 8190) -> Optional[bytes]:
        """Return a line with its line feed, or *limit* bytes of a longer one; None if it has not come whole.

        At the end of the stream: what is left, b"" once nothing is.
        """
        while True:
            end = self.buffer.find(b"\n", self.scanned, limit) + 1
            if not end and len(self.buffer) >= limit:
                end = limit
            if not end and not self.eof:
                self.scanned = len(self.buffer)
                if self.fill():
                    continue
                if not self.eof:
                    return None
            self.scanned = 0
            line = self.buffer[: end or None]
            self.buffer = self.buffer[len(line) :]
            return line

    # ------------------------------------------------------------------ writing

    def write(self, data: bytes) -> bool:
        """Send *data*, or keep what the peer does not take now; return whether all of it went.

        Raises ConnectionLost. Kept bytes go by `flush`; see `unsent` and `output`.
        """
        if self._output is not None:
            self._output.add(data)
            return self.flush()
        try:
            sent = gil.send(self.sock, data) if self.keeps_gil else self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            raise ConnectionLost(str(exc)) from exc
        if sent == len(data):
            return True
        self.output.add(memoryview(data)[sent:])
        return False

    def write_parts(self, parts: Sequence[bytes]) -> bool:
        """Send *parts* as one, without joining them; the rest is as with `write`."""
        if self._output is not None or not hasattr(self.sock, "sendmsg"):
            return self.write(b"".join(parts))
        try:
            sent = self.sock.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            raise ConnectionLost(str(exc)) from exc
        for part in parts:
            if sent < len(part):
                self.output.add(memoryview(part)[sent:])
            sent = max(0, sent - len(part))
        return self._output is None

    def write_file(
        self, file: HasFileno, offset: int, count: int, on_done: Callable[[], None], head: bytes = b""
    ) -> bool:
        """Send *head*, then *count* bytes of the regular *file* from *offset* on, by sendfile(2); else as `write`.

        *on_done* is called once, when the last byte went or the connection is closed. If the file ends
        early the connection is lost: what was promised cannot be sent.
        """
        if head and not self._write_before(head):
            self.write(head)
        self.output.add_file(file.fileno(), offset, count, on_done)
        return self.flush()

    def _write_before(self, head: bytes) -> bool:
        """Send *head* so that it goes in one packet with what follows at once; False, and nothing done, if not."""
        if not MSG_MORE or self.secure or self._output is not None:
            return False
        try:
            sent = self.sock.send(head, MSG_MORE)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            raise ConnectionLost(str(exc)) from exc
        if sent < len(head):
            self.output.add(memoryview(head)[sent:])
        return True

    @property
    def output(self) -> Output:
        """What the peer has not taken yet; made when it is asked for."""
        if self._output is None:
            self._output = self._new_output()
            self._output.unacknowledged = unacknowledged(self.fd)
        return self._output

    def _new_output(self) -> Output:
        memory, spool = self.output_limits
        return Output(memory=memory, spool=spool, secure=self.secure)

    @property
    def unsent(self) -> bool:
        """Whether the peer has yet to take some of what was written."""
        return self._output is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is to be sent, or done, and the peer may still speak."""
        return self._output is None and self.task is None and not self.eof

    def flush(self) -> bool:
        """Send what is kept, or some of it; return whether all of it went. Raises ConnectionLost."""
        if self._output is not None:
            try:
                progress = self._output.progress
                if not self._output.flush(self.sock):
                    if self._output.progress > progress:
                        self._output.moved_at = time.monotonic()
                        self._output.unacknowledged = unacknowledged(self.fd)
                    return False
            except OSError as exc:
                raise ConnectionLost(str(exc)) from exc
            self._drop_output()
        return True

    def stands_still(self) -> float:
        """Return for how long (s) the peer has taken nothing of what was written; 0.0 if nothing is left.

        As of this look and the ones before: by what went, and by the bytes that the peer has yet to
        acknowledge (tcp(7), TIOCOUTQ), if the system tells.
        """
        output = self._output
        if output is None:
            return 0.0
        now = time.monotonic()
        left = unacknowledged(self.fd)
        if left is not None and output.unacknowledged is not None and left < output.unacknowledged:
            output.moved_at = now
        output.unacknowledged = left
        return now - output.moved_at

    def give_up_on_reader(self) -> None:
        """Have `stands_still` say from now on that the peer has taken nothing for ever, unless it takes something."""
        if self._output is not None:
            self._output.moved_at = -NEVER

    def cut_off(self) -> None:
        """End it also while another thread, its owner, is at it: who waits is woken, and can send nothing more.

        The descriptor stays open, for the owner to close: by its number it could write to a stranger. An answer whose
        end only the end of the connection tells is reset, where that is possible, or it would look like a whole one.
        """
        held = self._ending.acquire(timeout=LOST)
        try:
            if self.closed:
                return
            if self.unsent:
                self.reset_on_close()
            if not (self.until_close and not self.secure and reset(self.sock)):
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected any more
        finally:
            if held:
                self._ending.release()

    def reset_on_close(self) -> None:
        """Have `close` reset the connection: what the peer has not taken is dropped by the kernel, too."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # it is not connected any more

    def wait(self, *, writable: bool, timeout: float) -> bool:
        """Block until the peer has sent, or taken, something; False after *timeout* seconds.

        Only for applications that ask for more than the peer gives: it holds a thread.
        """
        waiter = select.poll()
        waiter.register(self.fd, select.POLLOUT if writable else select.POLLIN)
        return bool(waiter.poll(timeout * 1000))

    def drain_output(self, timeout: float) -> None:
        """Block until the peer has taken all that is kept. Raises WriteTimeout after *timeout* s without progress."""
        still = 0.0
        while not self.flush():
            if self.wait(writable=True, timeout=until_look(timeout, still)):
                still = 0.0
                continue
            still = self.stands_still()
            if still >= timeout:
                self.reset_on_close()
                raise WriteTimeout(f"the peer took nothing for {timeout:g} s")

    # ------------------------------------------------------------------ ending

    def shutdown(self) -> None:
        """Say that nothing more will be sent; the peer may still send."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise ConnectionLost(str(exc)) from exc

    def close(self) -> None:
        """Give the descriptor back. Idempotent; never raises."""
        if not self._end():
            return
        if self.until_close and self._output is not None:
            self.reset_on_close()  # or what was sent of the answer would look like all of it
        self.buffer = b""
        self.task = None
        try:
            if self.keeps_gil:
                gil.close(self.sock)
            else:
                self.sock.close()
        except OSError:
            pass  # ECONNRESET here is the peer's; the descriptor is given back all the same (close(2))
        self._drop_output()

    def detach(self) -> socket.socket:
        """Hand the socket over to the caller, who closes it from now on. What was not sent yet is dropped."""
        self._end()
        self.task = None
        self._drop_output()
        return self.sock

    def _end(self) -> bool:
        """Say that it is closed; return whether it was not."""
        held = self._ending.acquire(timeout=LOST)
        try:
            was, self.closed = self.closed, True
        finally:
            if held:
                self._ending.release()
        return not was

    def _drop_output(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            output.close()
