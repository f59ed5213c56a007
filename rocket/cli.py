"""The command line: `rocket` and its commands, which are in rocket/commands/.

click is imported here and there only.

Exit codes: 0 stopped, 1 an address cannot be listened on, 2 a wrong option, 4 the application cannot be imported.
What a command needs is imported when it runs, so that `rocket --help` is quick.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import click

from rocket.commands import Parts
from rocket.commands.application import load_application
from rocket.commands.bench import bench
from rocket.commands.check import check
from rocket.commands.options import config, options
from rocket.commands.serve import files, serve, version_line
from rocket.commands.simulate import simulate
from rocket.commands.tune import tune, tune_target
from rocket.errors import BindError, ConfigError, MonitorUnavailable

__all__ = ["Parts", "load_application", "main"]


class CannotBind(click.ClickException):
    exit_code = 1


class CannotWrite(click.ClickException):
    exit_code = 1


class WrongOption(click.ClickException):
    exit_code = 2


class Rocket(click.Group):
    """Turns Rocket's errors into a line and an exit code, and has the standard descriptors open before all else."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ConfigError, MonitorUnavailable) as exc:
            raise WrongOption(str(exc)) from exc
        except BindError as exc:
            raise CannotBind(exc.strerror or str(exc)) from exc
        except OSError as exc:
            if exc.errno != errno.ENOSPC or exc.filename is not None:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or what is left of it is tried again at our end
            raise CannotWrite(f"cannot write standard output: {exc.strerror}") from exc

    def main(self, *args: Any, **kwargs: Any) -> Any:
        from rocket.stderr import open_standard_descriptors

        open_standard_descriptors()
        return super().main(*args, **kwargs)


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(version_line())
        ctx.exit()


@click.group(cls=Rocket, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it and exit."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """A threaded HTTP/1.1 and WSGI server."""
    ctx.ensure_object(Parts)


@main.command()
@click.pass_obj
def monitors(parts: Parts) -> None:
    """Show which monitors this host has, and which one `auto` takes."""
    available = parts.available()
    width = max(map(len, available))
    for name, reason in available.items():
        click.echo(f"{name:{width}}  {'available' if reason is None else 'no: ' + reason}")
    taken, why = parts.choose()
    click.echo(f"\nauto takes {taken}: {why}")


for command in (serve, files, bench, options, config, simulate, check, tune, tune_target):
    main.add_command(command)
