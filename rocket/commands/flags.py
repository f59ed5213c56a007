"""Flags from the declared options, and the configuration that they give with the other sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import click

from rocket.config import OPTIONS, Config
from rocket.errors import ConfigError
from rocket.options import Option


class Grouped(click.Option):
    """A flag that knows under which heading `--help` shows it."""

    group = "Other"


class Configured(click.Command):
    """A command that shows its flags under the options' groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "group", Grouped.group), []).append(record)
        sections[Grouped.group] = sections.pop(Grouped.group)  # the last one
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def read_threads(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Optional[tuple[int, int]]:
    """Read `N` or `MIN:MAX`."""
    if value is None:
        return None
    low, colon, high = value.partition(":")
    try:
        pair = int(low), int(high if colon else low)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not N or MIN:MAX", ctx, param) from None
    if not 1 <= pair[0] <= pair[1]:
        raise click.BadParameter(f"{value!r} must be at least 1, and MIN not above MAX", ctx, param)
    return pair


def _flag(declared: Option) -> Grouped:
    """Return the flag for a declared option. It takes any text: `Config` knows what is right."""
    flag, text = declared.flag, f"{declared.help}  [default: {declared.show(declared.default)}]"
    if isinstance(declared.default, bool):
        made = Grouped([f"{flag}/--no-{flag[2:]}", declared.name], default=None, help=text)
    elif isinstance(declared.default, tuple):
        short = ["-b"] if declared.name == "bind" else []
        made = Grouped(
            [*short, flag, declared.name], multiple=True, metavar=declared.kind.metavar, help=text, default=None
        )
    else:
        made = Grouped([flag, declared.name], metavar=declared.kind.metavar, help=text)
    made.group = declared.group
    return made


def configured(command: click.Command) -> click.Command:
    """Add a flag for each option, and those that concern several."""
    flags = [_flag(declared) for declared in OPTIONS.values() if not declared.kind.python_only]
    threads = Grouped(
        ["-t", "--threads"],
        callback=read_threads,
        metavar="N|MIN:MAX",
        help="Short for --min-threads and --max-threads.",
    )
    threads.group = OPTIONS["max_threads"].group
    file = Grouped(
        ["--config", "file"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Take options from this TOML file, not from ./rocket.toml or [tool.rocket] in ./pyproject.toml.",
    )
    folder = Grouped(["--chdir"], type=click.Path(path_type=Path), metavar="DIR", help="Change to this folder first.")
    command.params += [*flags, threads, file, folder]
    return command


def load_config(
    threads: Optional[tuple[int, int]], file: Optional[Path], chdir: Optional[Path], flags: Mapping[str, object]
) -> Config:
    """Return the configuration, from *flags* and all other sources. Change the folder if asked to."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if threads is not None:
        for name in ("min_threads", "max_threads"):
            if name in given:
                raise click.UsageError(f"--threads and {OPTIONS[name].flag} contradict each other")
        given["min_threads"], given["max_threads"] = threads
    if chdir is not None:
        file = file and file.absolute()
        try:
            os.chdir(chdir)
        except OSError as exc:
            raise ConfigError(f"cannot change to the folder {chdir}: {exc.strerror}") from exc
    return Config.load(given, os.environ, Path(), file)
