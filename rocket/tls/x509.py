"""What a certificate says (X.509, RFC 5280): names, times, keys. Reads DER; checks nothing, that is OpenSSL's business.

The standard library decodes only the certificate of a verified peer, and not a server's own.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from collections.abc import Iterator

INTEGER, BIT_STRING, OID, UTC_TIME = 0x02, 0x03, 0x06, 0x17
VERSION, EXTENSIONS = 0xA0, 0xA3  # explicit tags of a TBSCertificate (RFC 5280, 4.1)
MAIL, DNS, ADDRESS = 0x81, 0x82, 0x87  # of a GeneralName (RFC 5280, 4.2.1.6)
CHARSETS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x14: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
SUBJECT_ALT_NAME = "2.5.29.17"
# The attributes' names of RFC 4514, section 3, and of OpenSSL.
NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
ALGORITHMS = {
    "1.2.840.113549.1.1.1": "rsaEncryption",
    "1.2.840.113549.1.1.10": "rsassaPss",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.10045.2.1": "id-ecPublicKey",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.3.101.112": "ED25519",
    "1.3.101.113": "ED448",
}
_PEM = re.compile(
    r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.*?-----END (?:X509 |TRUSTED )?CERTIFICATE-----", re.S
)
Name = tuple[tuple[str, str], ...]  # attributes and their values, in the certificate's order


@dataclass(frozen=True)
class Certificate:
    """One certificate. *dns*, *addresses* and *mails* are its alternative names; times are UTC."""

    version: int
    serial: int
    issuer: Name
    subject: Name
    not_before: datetime
    not_after: datetime
    key_algorithm: str
    signature_algorithm: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    mails: tuple[str, ...]
    pem: str

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names it is for; without alternative names, the common name."""
        return self.dns + self.addresses or tuple(value for name, value in self.subject if name == "CN")

    def __str__(self) -> str:
        return ", ".join(self.hosts) or show_name(self.subject) or f"serial number {self.serial:X}"


def read_pem(text: str) -> Optional[Certificate]:
    """Return the first certificate in the PEM *text*; None if there is none. Raises ValueError."""
    match = _PEM.search(text)
    if match is None:
        return None
    pem = re.sub("(BEGIN|END) (X509|TRUSTED) ", r"\1 ", match[0])
    return read_der(ssl.PEM_cert_to_DER_cert(pem))


def read_der(der: bytes) -> Certificate:
    """Return what the DER bytes of a certificate say. Raises ValueError."""
    try:
        return _read_certificate(der)
    except (IndexError, StopIteration, OverflowError, UnicodeError) as exc:
        raise ValueError("the certificate is damaged") from exc


def show_name(name: Name) -> str:
    """Return *name* as RFC 2253 writes it, last attribute first, in ASCII: what OpenSSL does for mod_ssl."""
    return ",".join(f"{attribute}={_escape(value)}" for attribute, value in reversed(name))


def show_time(moment: datetime) -> str:
    """Return *moment* as OpenSSL does: ``Jan  5 09:34:43 2018 GMT``."""
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * moment.month - 3 : 3 * moment.month]  # not the locale's
    return f"{month} {moment.day:2} {moment:%H:%M:%S} {moment.year} GMT"


def _escape(value: str) -> str:
    parts = []
    data = value.encode()
    for i, byte in enumerate(data):
        character = chr(byte)
        at_an_end = (i == 0 and character in "# ") or (i == len(data) - 1 and character == " ")
        if not 32 <= byte < 127:
            parts.append(f"\\{byte:02X}")
        else:
            parts.append("\\" * (at_an_end or character in ',+"\\<>;') + character)
    return "".join(parts)


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Split DER (ITU-T X.690, section 8.1) into elements: (tag, content, all of it)."""
    at = 0
    while at < len(data):
        tag, length, begin = data[at], data[at + 1], at + 2
        if length & 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[at + 2 : begin], "big")
        if begin + length > len(data):
            raise IndexError
        yield tag, data[begin : begin + length], data[at : begin + length]
        at = begin + length


def _parts(data: bytes) -> list[bytes]:
    return [content for _, content, _ in _elements(data)]


def _read_certificate(der: bytes) -> Certificate:
    body, algorithm, _ = _parts(next(_elements(der))[1])
    fields = list(_elements(body))
    version = 1
    if fields[0][0] == VERSION:
        version = 1 + int.from_bytes(_parts(fields.pop(0)[1])[0], "big")
    serial, _, issuer, validity, subject, key = (content for _, content, _ in fields[:6])
    begin, end = _elements(validity)
    dns, addresses, mails = _alternative_names(fields[6:])
    return Certificate(
        version=version,
        serial=int.from_bytes(serial, "big", signed=True),
        issuer=_read_name(issuer),
        subject=_read_name(subject),
        not_before=_read_time(*begin[:2]),
        not_after=_read_time(*end[:2]),
        key_algorithm=_algorithm(_parts(key)[0]),
        signature_algorithm=_algorithm(algorithm),
        dns=dns,
        addresses=addresses,
        mails=mails,
        pem=ssl.DER_cert_to_PEM_cert(der),
    )


def _algorithm(data: bytes) -> str:
    number = _read_oid(_parts(data)[0])
    return ALGORITHMS.get(number, number)


def _read_oid(data: bytes) -> str:
    numbers, value = [], 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _read_time(tag: int, data: bytes) -> datetime:
    text = data.decode("ascii")
    if tag == UTC_TIME:  # two digits of the year: RFC 5280, 4.1.2.5.1
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _read_name(data: bytes) -> Name:
    found = []
    for relative in _parts(data):
        for pair in _parts(relative):
            (_, kind, _), (tag, value, _) = _elements(pair)
            number = _read_oid(kind)
            text = value.decode(CHARSETS.get(tag, "latin-1"), "replace")
            found.append((NAMES.get(number, number), text))
    return tuple(found)


def _alternative_names(fields: list[tuple[int, bytes, bytes]]) -> tuple[tuple[str, ...], ...]:
    dns, addresses, mails = [], [], []
    extensions = next((_parts(content)[0] for tag, content, _ in fields if tag == EXTENSIONS), b"")
    for extension in _parts(extensions):
        parts = _parts(extension)
        if _read_oid(parts[0]) != SUBJECT_ALT_NAME:
            continue
        for tag, value, _ in _elements(_parts(parts[-1])[0]):
            # Authorities sign what they are given: names that are not as they should be are no reason to refuse it all.
            if tag == DNS:
                dns.append(value.decode("utf-8", "replace").lower())
            elif tag == ADDRESS and len(value) in {4, 16}:
                addresses.append(str(ipaddress.ip_address(value)))
            elif tag == MAIL:
                mails.append(value.decode("utf-8", "replace"))
    return tuple(dns), tuple(addresses), tuple(mails)
