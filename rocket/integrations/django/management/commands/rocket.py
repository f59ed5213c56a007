"""``python manage.py rocket [ADDRESS]``: serve the project's WSGI application. It takes Rocket's options as flags."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any, Optional

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.core.servers.basehttp import get_internal_wsgi_application
from django.db import connections

from rocket.config import OPTIONS, Config
from rocket.errors import BindError, ConfigError, MonitorUnavailable
from rocket.options import Option
from rocket.server import Server
from rocket.stderr import patient_stderr


class Command(BaseCommand):
    help = "Serve this project with Rocket, until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("address", nargs="?", help="Port, or host:port. The same as --bind.")
        parser.add_argument("--config", metavar="FILE", type=Path, help="Take options from this TOML file.")
        parser.add_argument(
            "--nostatic", action="store_true", help="Leave static files to others, also while DEBUG is on."
        )
        parser.add_argument(
            "--insecure", action="store_true", help="Serve static files also while DEBUG is off, as runserver does."
        )
        groups: dict[str, Any] = {}
        for declared in OPTIONS.values():
            if not declared.kind.python_only:
                if declared.group not in groups:
                    groups[declared.group] = parser.add_argument_group(declared.group)
                _add_flag(groups[declared.group], declared)

    def handle(self, *, address: Optional[str], **given: Any) -> None:
        flags = {name: given[name] for name in OPTIONS if given.get(name) is not None}
        if address is not None:
            if "bind" in flags:
                raise CommandError(f"both an address ({address}) and --bind ({flags['bind'][0]})", returncode=2)
            flags["bind"] = f"127.0.0.1:{address}" if address.isdigit() else address
        try:
            config = Config.load(flags, os.environ, Path(), given["config"])
            config = config.replace(on_thread_exit=connections.close_all)
            server = Server(self.application(static=not given["nostatic"], always=given["insecure"]), config=config)
            with patient_stderr(), _Logging(config.log_level):
                server.serve_forever(lambda: self.tell(server))
        except (ConfigError, MonitorUnavailable) as exc:
            raise CommandError(str(exc), returncode=2) from exc
        except BindError as exc:
            raise CommandError(exc.strerror or str(exc), returncode=1) from exc

    def application(self, *, static: bool, always: bool) -> Any:
        """Return what WSGI_APPLICATION names; with *static* files before it in DEBUG, or *always*, as in runserver."""
        app = get_internal_wsgi_application()
        if not static or not (settings.DEBUG or always) or "django.contrib.staticfiles" not in settings.INSTALLED_APPS:
            return app
        from django.contrib.staticfiles.handlers import StaticFilesHandler

        return StaticFilesHandler(app)

    def tell(self, server: Server) -> None:
        for line in [*server.describe(), f"settings {settings.SETTINGS_MODULE!r}, DEBUG is {settings.DEBUG}"]:
            self.stdout.write(line)


def _add_flag(group: Any, declared: Option) -> None:
    """Add the flag of *declared*. It takes any text: `Config` knows what is right."""
    text = f"{declared.help}  [default: {declared.show(declared.default)}]".replace("%", "%%")
    if isinstance(declared.default, bool):
        group.add_argument(declared.flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif isinstance(declared.default, tuple):
        group.add_argument(declared.flag, action="append", metavar=declared.kind.metavar, help=text)
    else:
        group.add_argument(declared.flag, metavar=declared.kind.metavar, help=text)


class _Logging:
    """Print Rocket's messages to standard error, if the project's LOGGING does not see to them."""

    def __init__(self, level: str) -> None:
        self._logger = logging.getLogger("rocket")
        self._handler = logging.StreamHandler()
        self._level = level.upper()
        self._before = self._logger.level

    def __enter__(self) -> None:
        seen: Optional[logging.Logger] = self._logger
        while seen is not None:
            if any(not isinstance(handler, logging.NullHandler) for handler in seen.handlers):
                return
            seen = seen.parent if seen.propagate else None
        self._logger.addHandler(self._handler)
        self._logger.setLevel(self._level)

    def __exit__(self, *exc_info: object) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._before)
