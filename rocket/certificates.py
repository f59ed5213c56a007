"""Which sockets are under TLS, and with which certificates: from options and binds to `rocket.tls.Contexts`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Optional

from rocket.config import OPTIONS
from rocket.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rocket.binds import Bind
    from rocket.config import Config
    from rocket.tls import Contexts

MANY = 5  # certificates are named in one line
NEED_TLS = ("certfile", "certdir", "self_signed", "keyfile", "ca_certs", "cert_reqs")
Settings = tuple[tuple[str, str], ...]  # what a bind says of its own


def secured(binds: Sequence[Bind], config: Config) -> list[Bind]:
    """Return *binds*, all of them under TLS if *config* has a certificate and none says `tls:` itself."""
    if any(bind.tls is not None for bind in binds) or not _wants_tls(config):
        return list(binds)
    return [replace(bind, tls={}) for bind in binds]


class Certificates:
    """The contexts of a server's sockets: one for each set of values. Raises ConfigError."""

    def __init__(self, binds: Sequence[Bind], config: Config) -> None:
        self._contexts: dict[Settings, Contexts] = {}
        self._made: set[Settings] = set()  # those that have a self-signed one
        for bind in binds:
            key = _settings(bind)
            if key is not None and key not in self._contexts:
                self._contexts[key] = _load(bind, dict(key), config)
                if config.self_signed and "certfile" not in dict(key):
                    self._made.add(key)

    def of(self, bind: Bind) -> Optional[Contexts]:
        """Return what the connections of *bind* are protected with; None: nothing."""
        key = _settings(bind)
        return None if key is None else self._contexts[key]

    def describe(self) -> list[str]:
        """Return a line for each of the contexts, for a person."""
        lines = []
        for key, contexts in self._contexts.items():
            kind = "a self-signed certificate, for trying only," if key in self._made else "certificates"
            shown = "; ".join(f"{each} until {each.not_after:%Y-%m-%d}" for each in contexts.certificates[:MANY])
            more = len(contexts.certificates) - MANY
            lines.append(
                f"TLS {contexts.settings.minimum} or newer, {kind} for {shown}"
                + (f"; and {more} more" if more > 0 else "")
            )
        return lines


def _wants_tls(config: Config) -> bool:
    return any(getattr(config, name) != OPTIONS[name].default for name in NEED_TLS)


def _settings(bind: Bind) -> Optional[Settings]:
    return None if bind.tls is None else tuple(sorted(bind.tls.items()))


def _load(bind: Bind, own: dict[str, str], config: Config) -> Contexts:
    from rocket.tls import Contexts, Settings, make_self_signed  # not needed by who serves plain HTTP: 2 MB

    if own.keys() & {"certfile"} and "keyfile" not in own:
        own["keyfile"] = ""  # the options' key belongs to the options' certificate
    values = config.replace(**own) if own else config
    settings = Settings(
        certfile=values.certfile,
        keyfile=values.keyfile,
        password=values.keyfile_password,
        certdir=values.certdir,
        ca_certs=values.ca_certs,
        cert_reqs=values.cert_reqs,
        minimum=values.min_tls_version,
        ciphers=values.ciphers,
        alpn=values.alpn,
    )
    if config.self_signed and "certfile" not in own:
        if values.certfile or values.certdir:
            raise ConfigError("self_signed makes a certificate, but certfile or certdir has one: give only one of them")
        return make_self_signed(lambda path: Contexts(replace(settings, certfile=path), reload=False))
    if not settings.wanted:
        raise ConfigError(f"bind: {str(bind)!r} has no certificate: cert=FILE, or the option certfile or certdir")
    return Contexts(settings)
