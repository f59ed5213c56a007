"""Certificates for trying things out, which no client trusts."""

from __future__ import annotations

import os
import socket
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable, TypeVar

from rocket.errors import ConfigError

T = TypeVar("T")
LIFETIME = timedelta(days=90)  # browsers do not take one that is valid for more than 398 days


def make_self_signed(use: Callable[[str], T]) -> T:
    """Make a certificate for this host, and return what *use* does with its path. The file is gone afterwards.

    It has the key, too. Raises ConfigError if the package trustme is missing.
    """
    try:
        import trustme
    except ImportError as exc:
        raise ConfigError("self_signed needs the package trustme: pip install 'rocket[tls]'") from exc
    names = dict.fromkeys(["localhost", "127.0.0.1", "::1", *_host_name()])
    end = datetime.now(timezone.utc) + LIFETIME
    leaf = trustme.CA().issue_cert(
        *names, organization_name="Rocket", organization_unit_name="self-signed", not_after=end
    )
    with tempfile.TemporaryDirectory(prefix="rocket-") as folder:  # only its owner can look into it (mkdtemp(3))
        path = Path(folder) / "self-signed.pem"
        path.touch(mode=0o600)
        leaf.private_key_and_cert_chain_pem.write_to_path(os.fspath(path))
        return use(os.fspath(path))


def _host_name() -> list[str]:
    """Return the host's name, if it can stand in a certificate."""
    name = socket.gethostname()
    return [name] if name.isascii() and all(name.replace("-", "").split(".")) else []
