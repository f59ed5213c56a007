"""`rocket bench`: the monitors beside each other, Rocket beside other servers, and two runs beside each other.

Ctrl-C ends a run: what was measured until then is shown, and written.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from rocket.errors import ConfigError

if TYPE_CHECKING:
    from rocket.bench.report import Report

INTERRUPTED = 130  # exit code, as a shell's for a program that SIGINT ended


@click.group()
def bench() -> None:
    """Measure: the monitors, or Rocket beside other servers."""


def _names(_ctx: click.Context, _param: click.Parameter, value: Optional[str]) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them, each once and in order. 10_000 is one, too."""
    found = set()
    for text in value.split(","):
        try:
            found.add(int(text))
        except ValueError:
            raise click.BadParameter(f"{text.strip()!r} is not a whole number", ctx, param) from None
    return tuple(sorted(found))


def _measuring(seconds: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that all measurements have; *seconds* is the default."""
    options = [
        click.option("--seconds", type=float, default=seconds, show_default=True, help="Of each load that counts."),
        click.option("--rounds", type=int, default=5, show_default=True, help="After a warm-up; 4 tell things apart."),
        click.option("--budget", type=float, metavar="SECONDS", help="Take no longer: fewer rounds, then less of one."),
        click.option("--options", "server_options", default="", metavar="TEXT", help="Further options for Rocket."),
        click.option("--wrk", is_flag=True, help="Load by wrk, not by our own generator."),
        click.option(
            "--output", type=click.Path(path_type=Path, file_okay=False), help="Write JSON, CSV, PNG, SVG here."
        ),
    ]

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@bench.command()
@click.option("--monitors", callback=_names, metavar="NAMES", help="With commas between.  [default: all of the host]")
@click.option("--idle", callback=_numbers, default="0,100,500,1000,5000,10000", show_default=True, metavar="NUMBERS")
@click.option("--active", callback=_numbers, default="1,16,64", show_default=True, metavar="NUMBERS")
@_measuring(0.5)
def monitors(
    monitors: tuple[str, ...],
    idle: tuple[int, ...],
    active: tuple[int, ...],
    *,
    seconds: float,
    rounds: int,
    budget: Optional[float],
    server_options: str,
    wrk: bool,
    output: Optional[Path],
) -> None:
    """Compare the monitors, over idle connections times active ones.

    Requests/s, latency, CPU, system calls and memory, and how long an idle server takes to wake up.
    """
    from rocket.bench.monitors import Comparison, Plan

    plan = Plan(
        monitors=monitors,
        idle=idle,
        active=active,
        seconds=seconds,
        rounds=rounds,
        options=server_options,
        wrk=wrk,
    )
    with _nothing_yet():
        comparison = Comparison(plan, command=_command())
    for line in comparison.refused:
        click.echo(line, err=True)
    _carry_out(comparison, rounds, budget, output, "monitors")


@bench.command()
@click.option("--scenarios", callback=_names, metavar="NAMES", help="With commas between.  [default: all]")
@click.option("--servers", callback=_names, metavar="NAMES", help="With commas between.  [default: all installed]")
@click.option("--python", default=sys.executable, metavar="PATH", help="A Python with the peers.  [default: this one]")
@click.option("--threads", type=int, default=8, show_default=True, help="Of each server, where 64 is not the point.")
@_measuring(2.0)
def peers(
    scenarios: tuple[str, ...],
    servers: tuple[str, ...],
    python: str,
    *,
    threads: int,
    seconds: float,
    rounds: int,
    budget: Optional[float],
    server_options: str,
    wrk: bool,
    output: Optional[Path],
) -> None:
    """Compare Rocket with waitress, cheroot, gunicorn, granian and bjoern."""
    from rocket.bench.peers import SCENARIOS, Comparison, Plan

    plan = Plan(
        scenarios=scenarios or tuple(SCENARIOS),
        servers=servers,
        python=python,
        threads=threads,
        seconds=seconds,
        rounds=rounds,
        options=server_options,
        wrk=wrk,
    )
    with _nothing_yet():
        comparison = Comparison(plan, command=_command())
    if comparison.absent:
        words = ", ".join(f"{name} ({why})" for name, why in comparison.absent.items())
        click.echo(f"left out: {words}", err=True)
    for line in comparison.refused:
        click.echo(line, err=True)
    _carry_out(comparison, rounds, budget, output, "peers")


@bench.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--markdown", is_flag=True, help="Tables for a document.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Draw it again, and write it, here.")
def show(file: Path, markdown: bool, output: Optional[Path]) -> None:
    """Show the JSON of an earlier run again."""
    from rocket.bench import report
    from rocket.bench.table import document

    found = report.read(file)
    if output is not None:
        _write(found, output, file.stem)
    if markdown:
        click.echo(document(found))
    else:
        _print(found)


@bench.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
def agree(first: Path, second: Path) -> None:
    """Say whether two runs order the same things alike. Exit code 1 if they contradict each other."""
    from rocket.bench import report

    one, other = report.read(first), report.read(second)
    contradictions = 0
    for figure, words in (("rate", "requests/s"), ("cpu", "CPU per request")):
        found = report.agreement(one, other, figure)
        contradictions += len(found["contradict"])
        click.echo(f"{words}: " + ", ".join(f"{kind} {len(lines)}" for kind, lines in found.items()))
        for kind in ("contradict", "one cannot tell"):
            for line in found[kind]:
                click.echo(f"  {kind}: {line}")
    if contradictions:
        sys.exit(1)


# --- What they share -------------------------------------------------------------------------------------------------


def _command() -> str:
    """Return what to type for the same again."""
    given = sys.argv[1:]
    if given[:1] != ["bench"]:  # by a script of its own, bench/monitors.py
        given = ["bench", str(click.get_current_context().command.name), *given]
    return shlex.join(["rocket", *given])


def _carry_out(comparison: Any, rounds: int, budget: Optional[float], output: Optional[Path], name: str) -> None:
    """Say how long it will take, measure, show and write what was found."""
    from rocket.bench.rounds import affordable

    if output is not None:
        _try_to_write(output)  # now, not after ten minutes
    if not comparison.steps:
        raise ConfigError("nothing is left to measure: " + "; ".join(comparison.refused or ["no server can do that"]))
    _check_budget(comparison, budget)
    fitting = affordable(comparison.steps, rounds, budget)
    less = f", as {rounds} do not fit into {budget:g} s" if fitting < rounds else ""
    click.echo(
        f"about {_minutes(comparison.seconds(fitting))}: a warm-up and {fitting} round{'s' if fitting > 1 else ''} of "
        f"{len(comparison.steps)} measurements{less}. Ctrl-C shows what is there by then.",
        err=True,
    )
    with _nothing_yet(), _watcher() as watcher:
        report = comparison.run(watcher, budget=budget)
    if report["cells"]:
        try:
            _print(report)
        finally:  # also if nobody reads it to the end: `| head`
            if output is not None:
                _write(report, output, name)
    else:
        for line in report["problems"]:
            click.echo(f"warning: {line}", err=True)
        for why in dict.fromkeys(each["why"] for each in report["left_out"]):
            click.echo(f"left out: {why}", err=True)
        click.echo(f"nothing was measured to the end{': ' if report['ended'] else ''}{report['ended']}", err=True)
    if report["ended"] == "interrupted":
        sys.exit(INTERRUPTED)
    if not report["cells"]:
        sys.exit(1)


@contextlib.contextmanager
def _nothing_yet() -> Iterator[None]:
    """Have Ctrl-C say that nothing was measured, where it comes before the first step."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted: nothing was measured", err=True)
        sys.exit(INTERRUPTED)


def _check_budget(comparison: Any, budget: Optional[float]) -> None:
    """Refuse a budget in which nothing could be measured. Raises ConfigError."""
    if budget is None:
        return
    if not budget > 0:
        raise ConfigError(f"budget ({budget:g}) must be above 0")
    least = comparison.seconds(0) + comparison.steps[0].seconds
    if budget < least:
        raise ConfigError(
            f"budget ({budget:g} s) is too short: a warm-up of {len(comparison.steps)} measurements and the first "
            f"that counts take about {least:.0f} s. Give more, or ask for less"
        )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _print(report: Report) -> None:
    from rocket.bench.measure import describe
    from rocket.bench.table import show

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    words = describe(report["machine"])
    click.echo("\n" + (words if width is None else textwrap.fill(words, width, break_on_hyphens=False)))
    click.echo(f"{report['command']}\n")  # in a line of its own, to be copied
    click.echo(show(report, width=width))


def _try_to_write(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".rocket-bench"
        probe.touch()
        probe.unlink()
    except OSError as exc:
        raise ConfigError(f"cannot write to {folder}: {exc.strerror}") from exc


def _write(report: Report, folder: Path, name: str) -> None:
    from rocket.bench.picture import draw
    from rocket.bench.report import save

    try:
        for path in save(report, folder, name):
            click.echo(f"wrote {path}", err=True)
        for path in draw(report, folder, name):
            click.echo(f"drew {path}", err=True)
    except ImportError:
        click.echo("no picture: matplotlib is not installed (pip install 'rocket[bench]')", err=True)
    except OSError as exc:
        raise ConfigError(f"cannot write to {folder}: {exc.strerror}") from exc
    except KeyboardInterrupt:
        again = shlex.join(["rocket", "bench", "show", str(folder / f"{name}.json"), "--output", str(folder)])
        click.echo(f"interrupted while it was written; draw it again: {again}", err=True)
        sys.exit(INTERRUPTED)


def _watcher() -> Any:
    from rocket.bench.progress import Bar, Lines

    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        return Bar()
    return Lines(lambda line: click.echo(line, err=True))
