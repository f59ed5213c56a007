"""Requests whose bytes came before: what they say is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.http1 import Head

LONGEST = 256  # bytes: programs' requests are shorter, browsers' are longer, and seldom come twice
SECRETS = frozenset(("HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_PROXY_AUTHORIZATION"))


class HeadCache:
    """Remember the heads of short requests without a body, once they have come twice.

    Health checks, API clients and load balancers send the same bytes again and again; reading them again takes a
    quarter of Rocket's own time (bench/request.py). Shared by all workers: single look-ups, stores and `clear` are
    atomic, and a lost entry does not matter. Bounded by *size*; what may hold a secret is not kept.
    """

    def __init__(self, size: int = 128) -> None:
        # The bytes -> the endpoint they came to, the request for people, its head, its fields and the endpoint's base.
        self.known: dict[bytes, tuple[tuple[str, str], str, Head, dict[str, Any]]] = {}
        self._once: dict[bytes, None] = {}
        self._size = size

    def note(self, data: bytes, connection: Connection, head: Head, fields: dict[str, Any]) -> None:
        """Take in that *data*, at most LONGEST bytes, is a whole request. *fields* is copied, if it is kept."""
        if connection.secure or connection.told is not None or not SECRETS.isdisjoint(fields):
            return
        if data not in self._once:
            if len(self._once) >= self._size:
                self._once.clear()
            self._once[data] = None
            return
        if len(self.known) >= self._size:
            self.known.clear()
        self.known[data] = connection.endpoint, connection.request, head, fields.copy()
