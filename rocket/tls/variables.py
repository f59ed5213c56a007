"""What an application learns of a TLS connection: the variables of Apache's mod_ssl, by the same names."""

from __future__ import annotations

import logging
import ssl
from datetime import datetime, timezone
from functools import lru_cache
from typing import Optional

from rocket.tls.x509 import Certificate, read_der, show_name, show_time

log = logging.getLogger("rocket.tls")

# mod_ssl's names of the attributes of a distinguished name, where they are not the usual ones.
ATTRIBUTES = {"title": "T", "initials": "I", "GN": "G", "SN": "S", "description": "D", "emailAddress": "Email"}
KNOWN = frozenset({"C", "ST", "L", "O", "OU", "CN", "T", "I", "G", "S", "D", "UID", "Email"})


class Context(ssl.SSLContext):
    """An SSL context that knows its certificate."""

    certificate: Certificate


def ssl_variables(tls: ssl.SSLObject, server_name: Optional[str]) -> dict[str, str]:
    """Return what is true of the connection as long as it lives. All values are latin-1, as PEP 3333 wants them.

    The names and forms are those of https://httpd.apache.org/docs/2.4/mod/mod_ssl.html#envvars; what Python cannot
    tell (SSL_SECURE_RENEG, SSL_SRP_*) is not there.
    """
    cipher, _, bits = tls.cipher() or ("", "", 0)
    session = tls.session
    found = {
        "HTTPS": "on",
        "SSL_PROTOCOL": tls.version() or "",
        "SSL_CIPHER": cipher,
        "SSL_CIPHER_USEKEYSIZE": str(bits),
        "SSL_CIPHER_ALGKEYSIZE": str(bits),
        "SSL_CIPHER_EXPORT": "false",
        "SSL_COMPRESS_METHOD": tls.compression() or "NULL",
        "SSL_SESSION_ID": session.id.hex() if session is not None else "",
        "SSL_SESSION_RESUMED": "Resumed" if tls.session_reused else "Initial",
        "SSL_VERSION_LIBRARY": ssl.OPENSSL_VERSION,
        "SSL_CLIENT_VERIFY": "NONE",
    }
    if server_name:
        found["SSL_TLS_SNI"] = _latin_1(server_name)
    if isinstance(tls.context, Context):
        found.update(_describe("SSL_SERVER", tls.context.certificate))
    der = tls.getpeercert(binary_form=True)
    if der:  # only one that was verified: OpenSSL ends the handshake over any other
        found["SSL_CLIENT_VERIFY"] = "SUCCESS"
        found["SSL_CLIENT_CERT"] = ssl.DER_cert_to_PEM_cert(der)
        try:
            certificate = read_der(der)
        except ValueError as exc:  # OpenSSL reads more than we do
            log.warning("what a client's certificate says is not in its SSL_CLIENT_*: %s", exc)
        else:
            found.update(_describe("SSL_CLIENT", certificate))
            left = certificate.not_after - datetime.now(timezone.utc)
            found["SSL_CLIENT_V_REMAIN"] = str(max(0, left.days))
    return found


@lru_cache(maxsize=256)  # kept connections of one client, and all of one server, have the same
def _describe(prefix: str, certificate: Certificate) -> dict[str, str]:
    found = {
        f"{prefix}_M_VERSION": str(certificate.version),
        f"{prefix}_M_SERIAL": f"{certificate.serial:X}",
        f"{prefix}_V_START": show_time(certificate.not_before),
        f"{prefix}_V_END": show_time(certificate.not_after),
        f"{prefix}_A_SIG": certificate.signature_algorithm,
        f"{prefix}_A_KEY": certificate.key_algorithm,
    }
    for letter, name in (("S", certificate.subject), ("I", certificate.issuer)):
        found[f"{prefix}_{letter}_DN"] = show_name(name)
        seen: dict[str, int] = {}
        for attribute, value in name:
            short = ATTRIBUTES.get(attribute, attribute)
            if short not in KNOWN:
                continue
            number = seen[short] = seen.get(short, -1) + 1
            found.setdefault(f"{prefix}_{letter}_DN_{short}", value)
            if number:  # mod_ssl counts from 0, and leaves _0 out where there is but one
                found.setdefault(f"{prefix}_{letter}_DN_{short}_0", found[f"{prefix}_{letter}_DN_{short}"])
                found[f"{prefix}_{letter}_DN_{short}_{number}"] = value
    for number, name_ in enumerate(certificate.dns):
        found[f"{prefix}_SAN_DNS_{number}"] = name_
    for number, mail in enumerate(certificate.mails):
        found[f"{prefix}_SAN_Email_{number}"] = mail
    return {name: _latin_1(value) for name, value in found.items()}


def _latin_1(text: str) -> str:
    return text.encode("utf-8").decode("latin-1")
