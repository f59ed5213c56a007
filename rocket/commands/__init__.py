"""Commands of `rocket` with a file each: a function *make* that `rocket/cli.py` registers the result of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Protocol

import click

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from rocket.config import Config


class LoadConfig(Protocol):
    """From the values of the flags that `Tools.configured` adds, and from all other sources. Raises ConfigError."""

    def __call__(
        self,
        threads: Optional[tuple[int, int]],
        file: Optional[Path],
        chdir: Optional[Path],
        flags: Mapping[str, object],
    ) -> Config: ...


@dataclass(frozen=True)
class Tools:
    """What all commands that take the server's options share; the command line has it."""

    configured: Callable[[click.Command], click.Command]  # adds a flag for each option
    command_class: type[click.Command]  # shows them under their headings
    load_config: LoadConfig
    load_application: Callable[[str], WSGIApplication]  # from "module:name"; raises click's errors
