"""Clients that do little: idle connections, and slow senders. In processes of their own.

An *idle* client has sent one request, read the answer, and says nothing more. A *slow* one sends the head of a request,
a byte a second, and never comes to its end; cut off, it begins again. A *computing* one asks for /compute again and
again, which keeps one of the server's threads computing.

By hand, until standard input ends: ``python -m rocket.bench.crowd '{"port": 8000, "count": 1000}'``.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from rocket.bench.answers import Answer
from rocket.bench.limits import raise_open_files, room
from rocket.bench.load import LoadError, environment
from rocket.bench.start import start

KINDS = ("idle", "slow", "computing")
AT_ONCE = 50  # connections opened, and requests sent, together: less than any server's backlog
FROM_ONE_ADDRESS = 10_000  # connections; an address has no more ports than 28,232 on Linux, 16,384 elsewhere
IP_BIND_ADDRESS_NO_PORT = 24  # ip(7), Linux; Python has the name since 3.12
PATIENCE = 20.0  # s for one step of a connection
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
COMPUTE = b"GET /compute HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_HEAD = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nX-Slow: "  # and then x for ever


class Crowd:
    """*count* clients of the kind *kind*. A context manager: they are gone when the block is left.

    Made, all of them are connected. Raises LoadError if that is not possible.
    """

    def __init__(self, port: int, count: int, kind: str = "idle") -> None:
        self._processes: list[subprocess.Popen[str]] = []
        try:
            share = min(FROM_ONE_ADDRESS, room())
            while count > 0:
                self._start(port, min(share, count), kind, len(self._processes))
                count -= share
            for process in self._processes:
                self._ask(process)
        except BaseException:
            self.stop()
            raise

    def _start(self, port: int, count: int, kind: str, number: int) -> None:
        spec = {"port": port, "count": count, "kind": kind, "number": number}
        self._processes.append(
            start(
                [sys.executable, "-m", "rocket.bench.crowd", json.dumps(spec)],
                env=environment(),
                start_new_session=True,
            )
        )

    @staticmethod
    def _ask(process: subprocess.Popen[str]) -> int:
        """Return how many of its clients *process* says are connected."""
        assert process.stdout is not None
        line = process.stdout.readline()
        found = json.loads(line) if line else {"error": f"the clients' process ended with {process.wait()}"}
        if "error" in found:
            raise LoadError(found["error"])
        return int(found["open"])

    def still_open(self) -> int:
        """Return how many are still connected."""
        total = 0
        for process in self._processes:
            assert process.stdin is not None
            try:
                process.stdin.write("?\n")
                process.stdin.flush()
            except BrokenPipeError:
                continue
            total += self._ask(process)
        return total

    def stop(self) -> None:
        """End them. Any number of times."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


# --- In the process of the clients -----------------------------------------------------------------------------------


def _source(number: int) -> Optional[str]:
    """Return the address that the clients of process *number* connect from, as each has its own ports; None: the usual.

    All of 127/8 is this host on Linux; elsewhere only 127.0.0.1 is.
    """
    return f"127.0.0.{1 + number}" if number and sys.platform.startswith("linux") else None


def _connect(port: int, source: Optional[str]) -> socket.socket:
    sock = socket.socket()
    try:
        # Closed by a reset: 10,000 connections in TIME_WAIT leave too few ports for the next server's clients on macOS.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if source is not None:
            # connect() chooses the port: it knows the destination, and may take one that leads elsewhere already.
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


def _idle(port: int, count: int, source: Optional[str]) -> list[socket.socket]:
    """Return *count* connections that have had an answer each."""
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        some = [_connect(port, source) for _ in range(min(AT_ONCE, count - len(sockets)))]
        for sock in some:
            sock.sendall(REQUEST)
        for sock in some:
            answer = Answer()
            while not answer.feed(data := sock.recv(65536)):
                if not data:
                    raise LoadError(f"the server closed connection {len(sockets) + 1} instead of answering")
            if not answer.keeps:
                raise LoadError("the server keeps no connections, so none can be idle")
            sock.setblocking(False)
        sockets += some
    return sockets


def _closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextmanager
def _asked() -> Iterator[selectors.BaseSelector]:
    """Yield a selector that is ready when somebody asks, or standard input has ended."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        yield selector


def _wait_idle(sockets: list[socket.socket]) -> None:
    """Answer each line with how many are open, until there is none."""
    for _ in sys.stdin:
        sockets[:] = [sock for sock in sockets if not _closed(sock)]
        print(json.dumps({"open": len(sockets)}), flush=True)


def _be_slow(port: int, count: int, source: Optional[str]) -> None:
    """Send a byte on each connection in each second, and open again those that the server has closed."""
    clients: dict[int, tuple[socket.socket, int]] = {}
    first = True
    with _asked() as selector:
        while True:
            for i in range(count):
                if i not in clients:
                    try:
                        sock = _connect(port, source)
                    except OSError:
                        if first:
                            raise
                        continue  # a server may refuse such clients: the next second is another chance
                    sock.setblocking(False)
                    clients[i] = sock, 0
                sock, place = clients[i]
                try:
                    sock.send(SLOW_HEAD[place : place + 1] or b"x")
                    clients[i] = sock, place + 1
                except BlockingIOError:
                    pass
                except OSError:
                    sock.close()
                    del clients[i]
                    continue
                if _closed(sock):
                    sock.close()
                    del clients[i]
            if first:
                print(json.dumps({"open": len(clients)}), flush=True)
                first = False
            begin = time.monotonic()
            while (left := begin + 1.0 - time.monotonic()) > 0:
                if selector.select(left):
                    if not sys.stdin.readline():
                        return
                    print(json.dumps({"open": len(clients)}), flush=True)


def _have_computed(port: int, count: int, source: Optional[str]) -> None:
    """Ask for /compute on each of *count* connections, again with each answer; open again what the server closes."""
    with _asked() as selector:
        for _ in range(count):
            _ask_again(selector, _connect(port, source))
        print(json.dumps({"open": count}), flush=True)
        while True:
            for key, _ in selector.select():
                sock, answer = key.fileobj, key.data
                if not isinstance(sock, socket.socket):  # standard input
                    if not sys.stdin.readline():
                        return
                    print(json.dumps({"open": len(selector.get_map()) - 1}), flush=True)
                    continue
                try:
                    data = sock.recv(65536)
                except OSError:
                    data = b""
                if data and not answer.feed(data):
                    continue
                selector.unregister(sock)
                if not (data and answer.keeps):
                    sock.close()
                    sock = _connect(port, source)
                _ask_again(selector, sock)


def _ask_again(selector: selectors.BaseSelector, sock: socket.socket) -> None:
    sock.sendall(COMPUTE)
    selector.register(sock, selectors.EVENT_READ, Answer())


def main(text: str) -> int:
    """Be the clients that *text* describes, until standard input ends."""
    spec: dict[str, Any] = json.loads(text)
    port, count = int(spec["port"]), int(spec["count"])
    kind, source = spec.get("kind", "idle"), _source(int(spec.get("number", 0)))
    try:
        if kind not in KINDS:
            raise LoadError(f"kind {kind!r} is none of {', '.join(KINDS)}")
        refused = raise_open_files(count)
        if refused is not None:
            raise LoadError(refused)
        if kind == "slow":
            _be_slow(port, count, source)
        elif kind == "computing":
            _have_computed(port, count, source)
        else:
            sockets = _idle(port, count, source)
            print(json.dumps({"open": len(sockets)}), flush=True)
            _wait_idle(sockets)
    except (OSError, LoadError) as exc:
        print(json.dumps({"error": f"the {kind} clients: {exc}"}), flush=True)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
