"""An application, servers of it, and clients by hand: for tests of the whole server. Nothing here is a fixture."""

import http.client
import socket
import threading
from contextlib import contextmanager

from core_helpers import PATIENCE

from rocket import Server

GET = b"GET /%s HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n"
BIG = 24 << 20  # bytes: more than the sockets' buffers take


class App:
    """/ says hello; /wait waits for `release`; /big is BIG; /echo returns the body; /environ remembers it."""

    def __init__(self):
        self.server = None  # the last one of it
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()
        self.environ = {}

    def __call__(self, environ, start_response):
        body = self.answer(environ["PATH_INFO"], environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    def answer(self, path, environ):
        """Return the body of *path*'s answer."""
        if path == "/wait":
            self.begun.release()
            assert self.release.wait(PATIENCE)
        elif path == "/big":
            return [b"x" * BIG]
        elif path == "/echo":
            return [environ["wsgi.input"].read()]
        elif path == "/environ":
            self.environ = dict(environ)
        return [b"hello"]


@contextmanager
def serving(app, **defaults):
    """What starts a server of *app*, with *defaults* unless told otherwise; stopped at the end whatever it does."""
    servers = []

    def serve(**options):
        server = app.server = Server(app, **{"defer_accept": False, **defaults, **options})
        servers.append(server)
        server.start()
        return server

    yield serve
    app.release.set()
    for server in servers:
        server.stop()


def connect(server, data=b""):
    sock = socket.create_connection(server.addresses[0], timeout=PATIENCE)
    if data:
        sock.sendall(data)
    return sock


def ask(server, path="", method="GET", body=None):
    connection = http.client.HTTPConnection(*server.addresses[0], timeout=PATIENCE)
    try:
        connection.request(method, "/" + path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def answer(sock):
    """Read one answer with a Content-Length from *sock*; return head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            return data, b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        part = sock.recv(1 << 20)
        assert part, "the answer was cut"
        body += part
    return head, body


def rest(sock):
    """Read until the end, which may be a reset."""
    data = b""
    try:
        while part := sock.recv(1 << 20):
            data += part
    except ConnectionResetError:
        pass
    return data


def rocket_threads():
    return [t for t in threading.enumerate() if t.name.startswith("rocket-")]
