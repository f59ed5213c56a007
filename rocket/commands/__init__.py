"""The commands of `rocket`, a file each; `rocket/cli.py` puts them together.

What several of them share: the flags (flags.py), the application (application.py), and here what they use of Rocket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Protocol

if TYPE_CHECKING:
    from rocket.config import Config


class Runs(Protocol):
    """What `rocket serve` asks of a server."""

    def describe(self) -> list[str]: ...
    def serve_forever(self, on_ready: Callable[[], object]) -> None: ...
    def stop(self) -> None: ...


def _make_server(app: Any, config: Config) -> Runs:
    from rocket.server import Server

    return Server(app, config=config)


def _available() -> Mapping[str, Optional[str]]:
    from rocket.monitors import available

    return available()


def _choose() -> tuple[str, str]:
    from rocket.monitors import MONITORS, choose

    taken, why = choose()
    return next(name for name, monitor in MONITORS.items() if monitor is taken), why


@dataclass(frozen=True)
class Parts:
    """What the commands use of Rocket. Pass others as click's *obj* to try the commands without them."""

    make_server: Callable[[Any, Config], Runs] = _make_server
    available: Callable[[], Mapping[str, Optional[str]]] = _available
    choose: Callable[[], tuple[str, str]] = _choose  # the name, and why
