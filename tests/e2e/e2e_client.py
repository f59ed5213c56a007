"""A client that says exactly what a test wants, and reads answers one after the other."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

PATIENCE = 60.0  # s


class Answer(NamedTuple):
    status: int
    fields: dict[str, str]  # by lower-case name
    body: bytes


class Client:
    """A raw connection. A context manager; all waiting ends after `PATIENCE`, with an error."""

    def __init__(self, address, receive_buffer=None, context=None):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(PATIENCE)
        if receive_buffer:  # before the connection is made, or the window is larger already
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(address)
        if context is not None:  # an ssl.SSLContext
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost", suppress_ragged_eofs=False)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def send(self, data):
        self.sock.sendall(data)

    def get(self, path="/", method="GET", *fields):
        """Send a request, without waiting for the answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *fields, "", ""]
        self.send("\r\n".join(lines).encode())

    def answer(self, method="GET"):
        """Read one answer. Raise EOFError if it ends before its end."""
        status = int(self._line().split()[1])
        fields = {}
        while True:
            line = self._line()
            if not line:
                break
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        if method == "HEAD" or status in {204, 304} or status < 200:
            return Answer(status, fields, b"")
        if fields.get("transfer-encoding") == "chunked":
            return Answer(status, fields, b"".join(self._chunks()))
        if "content-length" in fields:
            return Answer(status, fields, self._exactly(int(fields["content-length"])))
        return Answer(status, fields, self.file.read())

    def ask(self, path="/", method="GET", *fields):
        self.get(path, method, *fields)
        return self.answer(method)

    def rest(self):
        """Read until the server closes the connection. Raise ConnectionResetError if it does so rudely."""
        return self.file.read()

    def _line(self):
        line = self.file.readline(65536)
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the server closed the connection after {line!r}")
        return line[:-2].decode("latin-1")

    def _exactly(self, count):
        data = self.file.read(count)
        if len(data) < count:
            raise EOFError(f"{len(data)} bytes of {count}")
        return data

    def _chunks(self):
        while True:
            size = int(self._line(), 16)
            data = self._exactly(size)
            assert self._line() == ""
            if not size:
                return
            yield data

    def close(self):
        self.file.close()
        self.sock.close()

    def reset(self):
        """Vanish: the server gets RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
