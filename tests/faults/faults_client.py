"""Clients by the thousand, and the one among them that only wants to be served."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from contextlib import contextmanager

PATIENCE = 30.0  # s
HEAD = b"GET /hello HTTP/1.1\r\nHost: test\r\n"
GET = HEAD + b"\r\n"


def request(path, *fields, method="GET", body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(address, receive_buffer=None):
    """Return a connected, blocking socket. One with a small *receive_buffer* (bytes) soon takes no more."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(address)
    return sock


def read_all(sock):
    """Return what comes until the server closes; a reset ends it too."""
    data = b""
    try:
        while True:
            block = sock.recv(65536)
            if not block:
                return data
            data += block
    except ConnectionResetError:
        return data


def ask(address, path="/hello", *fields, method="GET", body=b""):
    """Return the status and the body of one answer, over a connection of its own."""
    with connect(address) as sock:
        sock.sendall(request(path, "Connection: close", *fields, method=method, body=body))
        head, _, content = read_all(sock).partition(b"\r\n\r\n")
    assert head, f"no answer to {path}"
    return int(head.split()[1]), content


def reset(sock):
    """Close *sock* with an RST."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


class Crowd:
    """Many connections, looked after by a thread of its own.

    Each sends *first*, then a piece of *more* every *pause* seconds, for as long as the server keeps it.
    Only reads if *reads*. After `close`: `answers` has what each that the server ended has got, and `ages` how long it
    lived, in seconds.
    """

    def __init__(self, address, count, *, first=b"", more=b"", pause=1.0, reads=True, receive_buffer=None):
        self.answers = []
        self.ages = []
        self._more = more
        self._pause = pause
        self._reads = reads
        self._stopping = False
        self._ended = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._open = {}  # socket -> [when it was opened, what it has got, pieces sent]
        for _ in range(count):
            sock = connect(address, receive_buffer)
            if first:
                sock.sendall(first)
            sock.setblocking(False)
            self._open[sock] = [time.monotonic(), b"", 0]
            if reads:
                self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __len__(self):
        return len(self._open)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @property
    def sockets(self):
        return list(self._open)

    def wait(self, patience):
        """Wait until the server has ended all of them; return whether it did within *patience* s."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._open, patience)

    def close(self):
        self._stopping = True
        self._thread.join()
        for sock in self.sockets:
            sock.close()
        self._selector.close()

    def _run(self):
        due = time.monotonic() + self._pause
        while not self._stopping and self._open:
            left = min(0.1, max(0.0, due - time.monotonic()))
            if self._reads:
                for key, _ in self._selector.select(left):
                    self._read(key.fileobj)
            else:
                time.sleep(left)
            if time.monotonic() >= due:
                due += self._pause
                if self._more:
                    self._send_all()

    def _send_all(self):
        for sock, entry in list(self._open.items()):
            at = entry[2] % len(self._more)
            entry[2] += 1
            try:
                sock.send(self._more[at : at + 1])
            except BlockingIOError:
                pass
            except OSError:
                if not self._reads:
                    self._end(sock)

    def _read(self, sock):
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._open[sock][1] += data
        else:
            self._end(sock)

    def _end(self, sock):
        began, got, _ = self._open[sock]
        self.ages.append(time.monotonic() - began)
        self.answers.append(got)
        if self._reads:
            self._selector.unregister(sock)
        sock.close()
        with self._ended:
            del self._open[sock]
            self._ended.notify_all()


class Normal:
    """A client that asks for /hello again and again, on connections fresh and kept, and takes the time (s)."""

    def __init__(self, address, path="/hello", pause=0.01):
        self.times = []
        self.failed = []
        self._address = address
        self._request = request(path)
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stopping.set()
        self._thread.join()

    def share_within(self, limit):
        """Return which share of the requests took less than *limit* seconds."""
        assert not self.failed, self.failed
        assert self.times
        return sum(each < limit for each in self.times) / len(self.times)

    def percentile(self, share):
        assert not self.failed, self.failed
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def median(self):
        return self.percentile(0.5)

    def _run(self):
        while not self._stopping.wait(self._pause):
            try:
                self._round()
            except OSError as exc:
                self.failed.append(repr(exc))

    def _round(self):
        """Ask twice over one connection."""
        began = time.monotonic()
        with connect(self._address) as sock:
            for _ in range(2):
                sock.sendall(self._request)
                data = b""
                while not data.endswith(b"hello\n"):
                    block = sock.recv(65536)
                    if not block:
                        self.failed.append(f"cut after {data!r}")
                        return
                    data += block
                now = time.monotonic()
                self.times.append(now - began)
                began = now


@contextmanager
def normal_client(address):
    """Run a normal client beside what the block does."""
    with Normal(address) as client:
        yield client
