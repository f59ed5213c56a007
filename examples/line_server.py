"""A `rocket.Worker` for another protocol than HTTP: a command a line, an answer a line.

::

    $ python examples/line_server.py &
    $ printf 'SET colour red\\nGET colour\\nQUIT\\n' | nc 127.0.0.1 7777
    OK
    red
    BYE

What a worker must know:

* `serve` takes one turn: one message, or one step towards it. It does not wait for the peer; it returns
  an `After` that says what the connection waits for.
* A pool thread has a worker of its own. What all share, here the store, comes in as *app*.
* What cannot be served is refused by the server, too, in HTTP's words: `refuse` says it in the protocol's.
* Answers may be written as if the peer took them at once: what it does not take is kept, and sent later.
"""

from __future__ import annotations

import threading
import time
from typing import ClassVar

from rocket import After, Connection, Server, Worker


class Store:
    """Names and values. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}  # guarded by the lock

    def set(self, name: str, value: str) -> None:
        with self._lock:
            self._values[name] = value

    def get(self, name: str) -> str | None:
        with self._lock:
            return self._values.get(name)


class LineWorker(Worker):
    """Answer ``SET name value``, ``GET name`` and ``QUIT``, from the `Store` that the server was given."""

    longest_line: ClassVar[int] = 1024  # bytes
    line_timeout: ClassVar[float] = 10.0  # s: from a line's first byte to its last

    def serve(self, connection: Connection) -> After:
        begun = connection.scanned > 0  # some of this line was here before
        line = connection.readline(self.longest_line)
        if line is None:
            if not begun:  # counted from the first byte: one byte now and then does not prolong it
                connection.deadline = time.monotonic() + self.line_timeout
            return After.READ_MORE
        if not line:
            return After.CLOSE  # the peer has said all
        connection.requests += 1
        if not line.endswith(b"\n"):
            return self.refuse(connection, 400, "the line is not whole, or too long")
        answer, after = self.answer(line.decode("utf-8", "replace").split())
        connection.write(answer.encode() + b"\n")
        return after

    def refuse(self, connection: Connection, status: int, message: str) -> After:
        connection.write(f"ERROR {message}\n".encode())
        return After.LINGER  # the peer may still be sending, and should read this first

    def answer(self, words: list[str]) -> tuple[str, After]:
        """Return the answer to a command, and what becomes of the connection."""
        store: Store = self.app
        command = words[0].upper() if words else ""
        if command == "SET" and len(words) == 3:
            store.set(words[1], words[2])
            return "OK", After.NEXT
        if command == "GET" and len(words) == 2:
            return store.get(words[1]) or "NONE", After.NEXT
        if command == "QUIT":
            return "BYE", After.CLOSE
        return "ERROR there are SET name value, GET name and QUIT", After.NEXT


if __name__ == "__main__":
    # A peer may be silent between two lines for keep_alive seconds.
    Server(Store(), worker=LineWorker, bind="127.0.0.1:7777", keep_alive=600).serve_forever()
