"""Certificates on the disk, and the client's side of a TLS connection, byte for byte. Nothing here is a fixture."""

import ctypes
import os
import ssl
import threading
from contextlib import contextmanager

import pytest
import trustme

GET = b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n"


class Files:
    """Writes certificates of an authority into a folder."""

    def __init__(self, authority, folder):
        self.authority = authority
        self.folder = folder
        self.stamp = 1_700_000_000  # s: modification times, which differ however quick the test is

    def issue(self, *names, **options):
        return self.authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA, **options)

    def write(self, name, data):
        """Write a file in one step, as one that a server looks at should be."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_bytes(data)
        self.stamp += 1
        os.utime(new, (self.stamp, self.stamp))
        new.replace(path)
        return str(path)

    def pem(self, *names, path="server.pem", **options):
        """Write certificate, chain and key into one file; return its path."""
        return self.write(path, self.issue(*names, **options).private_key_and_cert_chain_pem.bytes())

    def pair(self, *names, path="server"):
        """Write certificate and key into files of their own; return their paths."""
        leaf = self.issue(*names)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return self.write(f"{path}.crt", chain), self.write(f"{path}.key", leaf.private_key_pem.bytes())

    def authorities(self, authority=None, path="ca.pem"):
        return self.write(path, (authority or self.authority).cert_pem.bytes())


def client_context(authority=None, certificate=None, maximum=None):
    """What a client that trusts *authority*, or anybody, begins a connection with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Python 3.9 sets it, and would take a cut stream for a whole one.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    if maximum is not None:
        context.maximum_version = maximum
    return context


class Peer:
    """A client that encrypts and decrypts in memory, so that a test may cut its bytes where it wants."""

    def __init__(self, sock, context, server_name):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name)

    def hello(self):
        """Return the bytes that a handshake begins with."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self.outgoing.read()

    def shake(self, connection=None):
        """Do the handshake with *connection*, both sides in turn; or with a server."""
        done = False
        while not done:
            done = True
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                done = False
            if self.outgoing.pending:
                self.sock.sendall(self.outgoing.read())
                if connection is not None:
                    connection.handshake()
            if not done:
                self.incoming.write(self.sock.recv(65536))

    def encrypt(self, data):
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data):
        self.sock.sendall(self.encrypt(data))

    def ask_for_key_update(self):
        """Return a message that makes the other side change its keys, and say so (RFC 8446, 4.6.3).

        Python's ssl has no function for it; so OpenSSL's is called, on the SSL object that the Python object has.
        """
        import _ssl

        try:
            update = ctypes.CDLL(_ssl.__file__).SSL_key_update
        except (AttributeError, OSError):
            pytest.skip("this Python's OpenSSL cannot be called")
        # struct PySSLSocket: the object's head, a pointer to the socket, the SSL*. The same in 3.9 to 3.14.
        where = id(self.tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        update.argtypes = [ctypes.c_void_p, ctypes.c_int]
        assert update(ctypes.c_void_p.from_address(where).value, 1) == 1
        self.tls.do_handshake()
        return self.outgoing.read()

    def ending(self):
        """Return a close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def read(self, count):
        """Return *count* bytes; fewer only if the stream ends, rightly. Raises ssl.SSLError if it was cut."""
        data = b""
        while len(data) < count:
            try:
                block = self.tls.read(count - len(data))
            except ssl.SSLWantReadError:
                came = self.sock.recv(65536)
                if came:
                    self.incoming.write(came)
                else:
                    self.incoming.write_eof()
                continue
            if not block:
                return data
            data += block
        return data


@contextmanager
def reading(peer, count):
    """Read *count* bytes in a thread meanwhile; give a list that they are put into at the end."""
    got = []
    thread = threading.Thread(target=lambda: got.append(peer.read(count)), daemon=True)
    thread.start()
    yield got
    thread.join(20)
    assert not thread.is_alive(), "they did not come"
