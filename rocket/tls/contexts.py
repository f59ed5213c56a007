"""Certificates on the disk, and the SSL contexts that are made of them."""

from __future__ import annotations

import errno
import logging
import os
import re
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from rocket.connection import NEVER
from rocket.errors import ConfigError
from rocket.tls.connection import TLSConnection, TLSObject
from rocket.tls.variables import Context
from rocket.tls.x509 import Certificate, read_pem

if TYPE_CHECKING:
    import socket

log = logging.getLogger("rocket.tls")

LOOK = 1.0  # s: between two looks at the files, at least
# Forward secrecy and authenticated encryption only: what Mozilla's "intermediate" has, without DHE, for which there
# are no parameters. Names of TLS 1.2; those of 1.3 are all good, and OpenSSL has them on.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
# What OpenSSL says of a key and a certificate that are no pair; the last of a key of another algorithm.
MISMATCHES = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
CERTIFICATE_ENDINGS = (".pem", ".crt")
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+").fullmatch  # in a folder of authorities nothing else is looked at
Signature = tuple[tuple[int, ...], ...]  # what tells that files have changed


@dataclass(frozen=True)
class Settings:
    """What TLS is to be like. Paths are as `open` takes them; "" is none.

    *certfile* has a certificate and its chain in PEM, *keyfile* the key, or "" if certfile has it, too. *certdir* is
    a folder of more such pairs, chosen by the name that a client asks for (SNI, RFC 6066). *ca_certs* is a file or
    folder of certificates that clients' ones must descend from; *cert_reqs* is none, optional or required.
    *minimum* is 1.2 or 1.3. *ciphers* is OpenSSL's list for TLS 1.2, *alpn* what is spoken (RFC 7301).
    """

    certfile: str = ""
    keyfile: str = ""
    password: str = ""
    certdir: str = ""
    ca_certs: str = ""
    cert_reqs: str = "none"
    minimum: str = "1.2"
    ciphers: str = CIPHERS
    alpn: tuple[str, ...] = ("http/1.1",)

    def __repr__(self) -> str:  # without the password
        return f"Settings(certfile={self.certfile!r}, certdir={self.certdir!r})"

    @property
    def wanted(self) -> bool:
        """Whether there is to be TLS at all. Raises ConfigError if there is not, but something is set for it."""
        if self.certfile or self.certdir:
            return True
        for name in ("keyfile", "ca_certs"):
            if getattr(self, name):
                raise ConfigError(f"{name} ({getattr(self, name)}) is given, but no certificate: certfile or certdir")
        if self.cert_reqs != "none":
            raise ConfigError(f"cert_reqs is {self.cert_reqs}, but no certificate is given: certfile or certdir")
        return False


@dataclass(frozen=True)
class _Pair:
    """A certificate and its key on the disk: files that change together."""

    certfile: Path
    keyfile: Optional[Path]

    def signature(self) -> Signature:
        return _signature(self.certfile, *([self.keyfile] if self.keyfile is not None else []))


@dataclass(frozen=True)
class _Loaded:
    """What is in force: replaced as a whole."""

    default: Context
    by_name: dict[str, Context]
    by_pair: dict[_Pair, tuple[Signature, Context]]


class Contexts:
    """The SSL contexts of a listener: the default one, and those for the names that clients ask for.

    Loads all at once; raises ConfigError, which names the option and the file. `current` takes up files that
    have changed since: for connections that are new, while the others go on with what they have. What cannot be
    loaded then is told once, and the old certificate stays. With *reload* false the files are read only once.
    Any thread.
    """

    def __init__(self, settings: Settings, *, reload: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        # Absolute: the application may change the folder, and the files are looked at again.
        self._certfile = _absolute(settings.certfile)
        self._keyfile = _absolute(settings.keyfile)
        self._certdir = _absolute(settings.certdir)
        self._ca_certs = _absolute(settings.ca_certs)
        self._shared_signature = self._sign_shared()  # before they are read: a change in between is seen later
        self._loaded = self._load_all()
        self._look_at = clock() + LOOK if reload else NEVER  # when the files are looked at again
        self._looking = threading.Lock()  # who looks; the others go on with what there is
        self._complained: dict[Path, Signature] = {}  # what was told of, guarded by _looking

    def current(self) -> Context:
        """Return the context for a new connection. Looks at the files at most once a second, and only when asked."""
        if self._clock() >= self._look_at and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._look_at = self._clock() + LOOK
                self._looking.release()
        return self._loaded.default

    def connection(self, sock: socket.socket, *args: Any, **options: Any) -> TLSConnection:
        """Return a `TLSConnection` over *sock*; the other arguments are as for `Connection`."""
        return TLSConnection(sock, *args, start=self.start, **options)

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> TLSObject:
        """Return the server's side of a new connection, whose bytes come and go by the two."""
        made = self.current().wrap_bio(incoming, outgoing, server_side=True)
        assert isinstance(made, TLSObject)
        return made

    @property
    def certificates(self) -> list[Certificate]:
        """What is in force, the default first."""
        loaded = self._loaded
        others = [context.certificate for _, context in loaded.by_pair.values() if context is not loaded.default]
        return [loaded.default.certificate, *others]

    # ------------------------------------------------------------------ choosing

    def _choose(self, tls: ssl.SSLObject, name: Optional[str], _context: ssl.SSLContext) -> None:
        """Take the certificate for *name*, which the client asks for. Called by OpenSSL in the handshake."""
        if name is None:
            return
        tls.server_name = name  # type: ignore[attr-defined]  # it is a TLSObject
        name = name.lower().rstrip(".")
        by_name = self._loaded.by_name
        context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])  # RFC 9525, 6.3
        if context is not None and context is not tls.context:
            tls.context = context

    # ------------------------------------------------------------------ looking at the files

    def _look(self) -> None:
        """Load what has changed. One thread at a time; never raises."""
        loaded = self._loaded
        try:
            shared = self._sign_shared()
            if shared != self._shared_signature:
                old: dict[_Pair, tuple[Signature, Context]] = {}
            else:
                old = loaded.by_pair
                if all(pair.signature() == known for pair, (known, _) in old.items()) and self._pairs() == list(old):
                    return
            new = self._load_all(old, keep=loaded.by_pair)
        except Exception as exc:  # whatever is on the disk, connections are accepted
            path = self._certdir or self._certfile or Path()
            self._complain(path, _signature(path), exc)
            return
        self._shared_signature = shared
        if new.by_pair != loaded.by_pair:
            self._loaded = new
            log.info("certificates taken up: %s", "; ".join(str(each) for each in self.certificates))

    def _complain(self, path: Path, signature: Signature, exc: Exception) -> None:
        if self._complained.get(path) != signature:
            self._complained[path] = signature
            log.warning("the old certificate stays: %s", exc)

    def _sign_shared(self) -> Signature:
        return _signature(self._ca_certs) if self._ca_certs is not None else ()

    def _pairs(self) -> list[_Pair]:
        """Return the pairs that there are, the default first. Raises ConfigError."""
        pairs = [_Pair(self._certfile, self._keyfile)] if self._certfile is not None else []
        if self._certdir is None:
            return pairs
        try:
            files = sorted(path for path in self._certdir.iterdir() if path.suffix in CERTIFICATE_ENDINGS)
        except OSError as exc:
            raise ConfigError(f"certdir ({self._certdir}): {exc.strerror}") from exc
        found = [_Pair(path, key if (key := path.with_suffix(".key")).exists() else None) for path in files]
        if not found:
            raise ConfigError(f"certdir ({self._certdir}) has no certificate: no file named *.pem or *.crt")
        found.sort(key=lambda pair: pair.certfile.stem != "default")
        return pairs + found

    # ------------------------------------------------------------------ loading

    def _load_all(
        self,
        known: Optional[dict[_Pair, tuple[Signature, Context]]] = None,
        keep: Optional[dict[_Pair, tuple[Signature, Context]]] = None,
    ) -> _Loaded:
        """Load all pairs but those that are *known* and unchanged. Raises ConfigError, or with *keep* warns, and
        keeps what is there of a pair that cannot be loaded."""
        by_pair: dict[_Pair, tuple[Signature, Context]] = {}
        for pair in self._pairs():
            signature = pair.signature()
            if known and pair in known and known[pair][0] == signature:
                by_pair[pair] = known[pair]
                continue
            try:
                by_pair[pair] = signature, self._load(pair)
            except ConfigError as exc:
                if keep is None:
                    raise
                self._complain(pair.certfile, signature, exc)
                before = next((had for other, had in keep.items() if other.certfile == pair.certfile), None)
                if before is not None:
                    by_pair[pair] = before
        if not by_pair:
            raise ConfigError("no certificate is left")
        default = next(iter(by_pair.values()))[1]
        by_name: dict[str, Context] = {}
        for _, context in by_pair.values():
            for name in context.certificate.hosts:
                by_name.setdefault(name.lower(), context)
        return _Loaded(default, by_name, by_pair)

    def _load(self, pair: _Pair) -> Context:
        """Return a context with the certificate of *pair*. Raises ConfigError."""
        settings = self.settings
        certificate = _read_certificate(pair.certfile, self._option(pair))
        context = Context(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = TLSObject
        context.certificate = certificate
        context.minimum_version = VERSIONS[settings.minimum]
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError as exc:
            raise ConfigError(f"ciphers: OpenSSL knows none of {settings.ciphers!r}") from exc
        self._load_pair(context, pair)
        if settings.alpn:
            context.set_alpn_protocols(list(settings.alpn))
        self._load_authorities(context)
        context.sni_callback = self._choose
        _warn_of_time(pair.certfile, certificate)
        return context

    def _load_pair(self, context: Context, pair: _Pair) -> None:
        key = pair.keyfile or pair.certfile
        key_option = "keyfile" if pair.certfile == self._certfile and pair.keyfile else self._option(pair)
        try:
            with key.open("rb") as file:  # OpenSSL would not say which of the two it cannot read
                has_key = b"PRIVATE KEY-----" in file.read()
        except OSError as exc:
            raise ConfigError(f"{key_option} ({key}): {exc.strerror}") from exc
        if not has_key:
            where = (
                "; give keyfile" if key_option == "certfile" else f", and there is no {key.with_suffix('.key').name}"
            )
            raise ConfigError(f"{key_option} ({key}) has no private key in PEM{where if pair.keyfile is None else ''}")
        asked = False

        def password() -> str:  # not asked for on the terminal, as OpenSSL does by itself
            nonlocal asked
            asked = True
            if not self.settings.password:
                raise ConfigError(f"the key in {key} is encrypted: give keyfile_password")
            return self.settings.password

        try:
            context.load_cert_chain(pair.certfile, pair.keyfile, password)
        except ConfigError:
            raise
        except ssl.SSLError as exc:
            if exc.reason in MISMATCHES:
                raise ConfigError(f"the key in {key} does not belong to the certificate in {pair.certfile}") from exc
            if asked:
                raise ConfigError(f"keyfile_password is not that of the key in {key}") from exc
            raise ConfigError(f"cannot load the certificate in {pair.certfile}, with its key in {key}: {exc}") from exc
        except (OSError, ValueError) as exc:  # ValueError: a password that is too long
            raise ConfigError(f"cannot load {pair.certfile}: {exc}") from exc

    def _load_authorities(self, context: Context) -> None:
        settings, path = self.settings, self._ca_certs
        if path is None:
            if settings.cert_reqs != "none":
                raise ConfigError(f"cert_reqs is {settings.cert_reqs}: give ca_certs, whose certificates are trusted")
            return
        if settings.cert_reqs == "none":  # who gives it, wants his clients checked
            raise ConfigError(
                f"ca_certs ({path}) is given, but cert_reqs is none: no client is asked for a certificate"
            )
        try:
            if path.is_dir():
                if not any(map(_HASHED, os.listdir(path))):
                    raise ConfigError(
                        f"ca_certs ({path}) has no certificate that OpenSSL would find, as 9d66eef0.0: "
                        "`openssl rehash` makes these names"
                    )
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except ssl.SSLError as exc:
            raise ConfigError(f"ca_certs ({path}) has no certificates in PEM: {exc.reason}") from exc
        except OSError as exc:
            raise ConfigError(f"ca_certs ({path}): {exc.strerror or os.strerror(errno.ENOENT)}") from exc
        context.verify_mode = VERIFY[settings.cert_reqs]

    def _option(self, pair: _Pair) -> str:
        return "certfile" if pair.certfile == self._certfile else "certdir"


def _read_certificate(path: Path, option: str) -> Certificate:
    try:
        certificate = read_pem(path.read_text("ascii", "replace"))
    except OSError as exc:
        raise ConfigError(f"{option} ({path}): {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(f"{option} ({path}): {exc}") from exc
    if certificate is None:
        raise ConfigError(f"{option} ({path}) has no certificate in PEM")
    return certificate


def _absolute(path: str) -> Optional[Path]:
    return Path(os.path.abspath(path)) if path else None


def _signature(*paths: Path) -> Signature:
    """Return what is another after a change of the files, also of a symbolic link to them."""
    return tuple(map(_sign, paths))


def _sign(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as exc:
        return (exc.errno or 0,)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size


def _warn_of_time(path: Path, certificate: Certificate) -> None:
    now = datetime.now(timezone.utc)
    if certificate.not_after < now:
        log.warning("the certificate in %s expired on %s", path, certificate.not_after)
    elif certificate.not_before > now:
        log.warning("the certificate in %s is not valid before %s", path, certificate.not_before)
