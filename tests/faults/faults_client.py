"""Clients by the thousand, and the one among them that only wants to be served."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque

from e2e_client import Client

PATIENCE = 60.0  # s
HALF = b"GET /hello HTTP/1.1\r\nHost: test\r\n"  # the end of a head is missing
GET = HALF + b"\r\n"


class Lateness(threading.Thread):
    """Sleeps 10 ms again and again, and notes how late it wakes up: what the machine does to everybody."""

    def __init__(self):
        super().__init__(name="lateness", daemon=True)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._notes = deque([0.0], maxlen=6000)  # s; of the last minute

    def run(self):
        while not self._stopping.is_set():
            began = time.monotonic()
            time.sleep(0.01)
            late = time.monotonic() - began - 0.01
            with self._lock:
                self._notes.append(late)

    def stop(self):
        self._stopping.set()
        self.join()

    @property
    def worst(self):
        with self._lock:
            return max(self._notes)


lateness = Lateness()  # started with the first test of this folder


def allowed(seconds):
    """Return *seconds*, and more where the machine has been late by itself: a request needs some wake-ups."""
    return seconds + 6 * lateness.worst


def request(path, *fields, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *fields, "", ""]).encode()


def ask(address, path="/hello", *fields, context=None):
    """Return one answer, over a connection of its own."""
    with Client(address, context=context) as client:
        return client.ask(path, "GET", *fields)


def tell(address, data):
    """Return a client that has sent *data*."""
    client = Client(address)
    client.send(data)
    return client


def read_all(client):
    """Return what comes until the server closes; a reset ends it too."""
    data = b""
    try:
        while True:
            block = client.sock.recv(65536)
            if not block:
                return data
            data += block
    except ConnectionResetError:
        return data


class Crowd:
    """Many connections, looked after by a thread of its own.

    Each sends *first*, then a byte of *more* every *pause* seconds, and reads what comes if *reads*. `answers` has
    what each that the server has ended got, `ages` how long each lived, in seconds.
    """

    def __init__(self, address, count, *, first=b"", more=b"", pause=1.0, reads=True, receive_buffer=None):
        self.answers = []
        self.ages = []
        self._more = more
        self._pause = pause
        self._stopping = False
        self._ended = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._open = {}  # socket -> [when it was opened, what it has got]
        for _ in range(count):
            began = time.monotonic()  # the server's clock cannot begin before
            sock = _connect(address, receive_buffer)
            if first:
                sock.sendall(first)
            sock.setblocking(False)
            self._open[sock] = [began, b""]
            if reads:
                self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._stopping = True
        self._thread.join()
        for sock in self._open:
            sock.close()
        self._selector.close()

    def wait(self, count=None, patience=PATIENCE):
        """Wait until the server has ended *count* of them, or all; return whether it did."""
        with self._ended:
            left = 0 if count is None else len(self._open) + len(self.ages) - count
            return self._ended.wait_for(lambda: len(self._open) <= left, patience)

    @property
    def got(self):
        """What each of those that live has got so far."""
        return [got for _, got in list(self._open.values())]

    def _run(self):
        due = time.monotonic() + self._pause
        while not self._stopping and self._open:
            for key, _ in self._selector.select(min(0.1, max(0.0, due - time.monotonic()))):
                self._read(key.fileobj)
            if time.monotonic() >= due:
                due += self._pause
                self._send()

    def _send(self):
        if self._more:
            for sock in self._open:
                try:
                    sock.send(self._more)
                except OSError:
                    pass  # it is read to the end all the same

    def _read(self, sock):
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if data:
            self._open[sock][1] += data
            return
        self._selector.unregister(sock)
        sock.close()
        with self._ended:
            began, got = self._open.pop(sock)
            self.ages.append(time.monotonic() - began)
            self.answers.append(got)
            self._ended.notify_all()


def _connect(address, receive_buffer):
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if receive_buffer:  # before the connection is made, or the window is larger already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(address)
    return sock


class Normal:
    """A client that asks for /hello all the time, on connections fresh and kept. Each answer must come."""

    def __init__(self, address, pause=0.01, context=None):
        self.times = []  # s
        self._context = context
        self._address = address
        self._pause = pause
        self._failure = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stopping.set()
        self._thread.join()
        if self._failure is not None and exc == (None, None, None):
            raise self._failure

    def at(self, share):
        """Return the time that this share of the requests did not take longer than."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def median(self):
        return self.at(0.5)

    def _run(self):
        try:
            while not self._stopping.wait(self._pause):
                began = time.monotonic()
                with Client(self._address, context=self._context) as client:
                    for _ in range(2):
                        assert client.ask("/hello").body == b"hello\n"
                        now = time.monotonic()
                        self.times.append(now - began)
                        began = now
        except Exception as exc:
            self._failure = exc
