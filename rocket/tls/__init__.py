"""TLS (RFC 8446, RFC 5246): certificates, connections, and what a request is told of them. The only import of ssl.

The parts: `Contexts` loads what `Settings` name, and takes changed files up; a `TLSConnection` is a connection
whose bytes go through OpenSSL; `variables.py` is what an application learns, `x509.py` what a certificate says.
"""

from rocket.tls.connection import TLSConnection
from rocket.tls.contexts import Contexts, Settings
from rocket.tls.selfsigned import make_self_signed

__all__ = ["Contexts", "Settings", "TLSConnection", "make_self_signed"]
