"""TLS for measurements: a client's socket that waits for nobody, and the certificate that all servers get."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, TypeVar, Union

T = TypeVar("T")
Buffer = Union[bytes, memoryview]


def client_context() -> ssl.SSLContext:
    """Return what a client connects with: it trusts everybody, as wrk does, and never goes on with an old session.

    So each connection costs the server a full handshake (RFC 8446, 2); and a server whose certificate was made a moment
    ago can be measured.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SecureSocket:
    """A connected socket under TLS with the methods that a generator calls on one without.

    Non-blocking: what would wait raises BlockingIOError, as a plain socket does; `ssl` has exceptions of its own for
    that, which are an OSError each and would pass for failures.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """*sock* is ours from now on, and no good any more. Its descriptor stays the same."""
        self._sock = context.wrap_socket(sock, do_handshake_on_connect=False)

    def fileno(self) -> int:
        return self._sock.fileno()

    def handshake(self) -> int:
        """Go on with the handshake. Return 0 if it is done, else the event to wait for. Raises OSError."""
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        return 0

    def send(self, data: Buffer) -> int:
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            raise BlockingIOError from exc

    def recv(self, size: int) -> bytes:
        """Return what is there. *size* must be at least a record's 16 KiB: what OpenSSL keeps, no selector sees."""
        try:
            return self._sock.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            raise BlockingIOError from exc

    def close(self) -> None:
        self._sock.close()


def probe(sock: socket.socket, context: ssl.SSLContext) -> str:
    """Return what a handshake on *sock*, which may block, agrees on: "TLSv1.3 TLS_AES_256_GCM_SHA384". Closes it.

    Raises OSError, of which ssl.SSLError is one.
    """
    with sock, context.wrap_socket(sock) as secure:
        cipher = secure.cipher()
        return f"{secure.version()} {cipher[0] if cipher else ''}".strip()


# --- The certificate -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyPair:
    """The files of a certificate and its key, in PEM."""

    certificate: str
    key: str  # PKCS #8, the one format that granian reads


def with_key_pair(use: Callable[[KeyPair], T]) -> T:
    """Make a certificate as `rocket serve --self-signed` does, and return what *use* does with it; then it is gone.

    Raises ConfigError if the package trustme is missing.
    """
    from rocket.tls import make_self_signed

    def split(path: str) -> T:
        from cryptography.hazmat.primitives import serialization  # trustme needs it, too

        both = Path(path).read_bytes()
        key = serialization.load_pem_private_key(both, None)
        with tempfile.TemporaryDirectory(prefix="rocket-bench-") as folder:  # only its owner can look into it
            pair = KeyPair(os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem"))
            Path(pair.certificate).write_bytes(both[both.index(b"-----BEGIN CERTIFICATE-----") :])
            Path(pair.key).write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            return use(pair)

    return make_self_signed(split)


def missing() -> Optional[str]:
    """Return why no certificate can be made here; None if one can."""
    try:
        import cryptography
        import trustme
    except ImportError as exc:
        return f"it needs the package {exc.name} for a certificate: pip install 'rocket[bench]'"
    assert cryptography
    assert trustme
    return None
