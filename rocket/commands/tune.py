"""`rocket tune`: drive an application, find its limit and the options that suit it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from rocket.commands.application import NoApplication, check_name, from_folder, load_application
from rocket.commands.flags import Configured, configured, load_config

if TYPE_CHECKING:
    from rocket.config import Config
    from rocket.tuning.session import Outcome
    from rocket.tuning.trial import Requests, Target

LONGEST_BUDGET = 3600.0  # s


@configured
@click.command(
    cls=Configured,
    epilog="It sends what you tell it to, many times: name URLs that may be asked for often, and a database that "
    "is there to be tried. docs/tuning.md explains what is measured.",
)
@click.argument("app")
@from_folder
@click.option("--url", "urls", multiple=True, metavar="PATH", help="What to ask for, in turn.  [default: /]")
@click.option("--method", default=None, metavar="NAME", help="[default: GET, or POST with --data]")
@click.option("--data", default="", metavar="TEXT", help="The body of each request; @FILE takes it from a file.")
@click.option("--header", "headers", multiple=True, metavar="NAME: VALUE", help="A field of each request.")
@click.option(
    "--connections",
    type=click.IntRange(2, 10_000),
    default=128,
    show_default=True,
    help="Clients at the same time, at most: what you expect in the worst hour.",
)
@click.option("--idle", type=click.IntRange(0, 20_000), default=0, help="Idle connections beside them.  [default: 0]")
@click.option(
    "--budget",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds that it may take, without the application's start.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep figures (JSON), a picture (PNG; rocket[bench]) and what the application has printed in this folder.",
)
@click.option("--quiet", is_flag=True, help="Do not tell of each step.")
@click.pass_context
def tune(
    ctx: click.Context,
    /,
    app: str,
    *,
    app_dir: Path,
    urls: tuple[str, ...],
    method: Optional[str],
    data: str,
    headers: tuple[str, ...],
    connections: int,
    idle: int,
    budget: float,
    output: Optional[Path],
    quiet: bool,
    threads: Optional[tuple[int, int]],
    file: Optional[Path],
    chdir: Optional[Path],
    **flags: object,
) -> None:
    """Drive the WSGI application APP, say what limits it, and print the options that suit it.

    It is started in a process of its own, on a free port of the loopback interface, with the options that
    `rocket serve` would take; the clients are another process. The result is a [tool.rocket] table.
    """
    from rocket.bench.limits import raise_open_files
    from rocket.tuning.requests import parse
    from rocket.tuning.trial import Target

    check_name(app)
    requests = parse(urls, method, data, headers)
    _check_budget(budget, connections)
    config = load_config(threads, file, chdir, flags)
    sys.path.insert(0, str(app_dir.resolve()))  # a policy or monitor may be there, too
    _check_names(config)
    short = raise_open_files(connections + idle)
    if short is not None:
        raise click.UsageError(short)
    if output is not None:
        _make_folder(output)
    with Target([app, "--app-dir", str(app_dir.resolve())]) as target:
        outcome = _session(target, app, requests, config, clients=connections, idle=idle, budget=budget, quiet=quiet)
        try:
            _print(outcome, config, target)
        finally:  # also if nobody reads it to the end: `| head`
            if output is not None:
                _save(output, outcome, config, target, app=app, requests=requests)
    ctx.exit(0 if outcome.complete else 1)


@click.command("tune-target", hidden=True)
@click.argument("app")
@from_folder
@click.argument("orders", type=int)
@click.argument("answers", type=int)
def tune_target(app: str, app_dir: Path, orders: int, answers: int) -> None:
    from rocket.tuning.target import end_with, obey, open_pipes

    end_with(orders)
    orders_file, answers_file = open_pipes(orders, answers)
    sys.path.insert(0, str(app_dir.resolve()))
    obey(load_application(app), orders_file, answers_file)


def _check_budget(budget: float, clients: int) -> None:
    from rocket.tuning.session import least_budget

    least, why = least_budget(clients)
    if not budget >= least:  # nan, too
        raise click.UsageError(
            f"--budget: {budget:g} s is too short: at least {least} s are needed ({why}). "
            "Give more, or fewer --connections"
        )
    if budget > LONGEST_BUDGET:
        raise click.UsageError(f"--budget: {budget:g} s is more than {LONGEST_BUDGET:g} s")


def _check_names(config: Config) -> None:
    """Refuse what cannot be written into a file and tried: objects are possible from Python only."""
    from rocket import monitors, pools

    pools.load(config.scaling)  # type: ignore[arg-type]  # it says what is wrong
    monitors.load(config.monitor)  # type: ignore[arg-type]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise click.UsageError(f"--output: cannot make the folder {folder}: {exc.strerror}") from exc


def _session(
    target: Target,
    app: str,
    requests: Requests,
    config: Config,
    *,
    clients: int,
    idle: int,
    budget: float,
    quiet: bool,
) -> Outcome:
    """Measure, and return what is known; also after Ctrl-C."""
    from rocket.bench.load import LoadError
    from rocket.tuning.report import now_from, untuned
    from rocket.tuning.session import Outcome, Session
    from rocket.tuning.trial import Driver, TargetFailed, surroundings

    now = now_from(config)
    try:
        target.wait()
        port = target.start({**untuned(config), **now.options()})
        notes = _probe(port, requests, target)
        outcome = Outcome(now, surroundings(target.server), clients, idle=idle, notes=notes)
        driver = Driver(target, requests, untuned(config), idle)
    except TargetFailed as exc:
        click.echo(target.output(), err=True, nl=False)
        if exc.code is None:
            raise click.ClickException(str(exc)) from exc
        kind = NoApplication if exc.code == NoApplication.exit_code else click.ClickException
        raise kind(f"{app} could not be started") from exc
    except KeyboardInterrupt:
        raise click.ClickException("interrupted before anything was measured") from None
    tell = (lambda _: None) if quiet else (lambda line: click.echo(line, err=True))
    try:
        Session(driver.measure, outcome, budget=budget, tell=tell).run()
    except KeyboardInterrupt:
        outcome.notes.append("interrupted: this is what was known by then")
    except (TargetFailed, LoadError) as exc:
        click.echo(target.output()[-4000:], err=True, nl=False)
        outcome.notes.append(f"ended early: {exc}")
    return outcome


def _probe(port: int, requests: Requests, target: Target) -> list[str]:
    """Ask for each URL once. Return warnings; raise ClickException where measuring has no sense."""
    notes = []
    for path, status, body in _ask(port, requests, target):
        if status >= 400:
            if status == 400 or status >= 500:
                click.echo(target.output()[-4000:], err=True, nl=False)  # why
            text = " ".join(body.split())[:120].rstrip(".")
            raise click.ClickException(
                f"{requests.method} {path} answers {status}: {text}. {_advice(status, port, requests)}"
            )
        if status >= 300:
            notes.append(f"{path} answers {status}, a redirection: that is what was measured, not where it leads")
    return notes


def _ask(port: int, requests: Requests, target: Target) -> list[tuple[str, int, str]]:
    """Return what `probe` does. Raises TargetFailed, which says so if there is no answer because the process ended."""
    from rocket.tuning.trial import TargetFailed, probe

    try:
        return probe(port, requests)
    except TargetFailed:
        target.check()
        raise


def _advice(status: int, port: int, requests: Requests) -> str:
    if status != 400:
        return "Name a URL that works (--url)"
    host = dict(requests.headers).get("Host", f"127.0.0.1:{port}")
    return (
        f"Name a URL that works (--url); or it is the Host {host!r} that the application refuses (Django: "
        "ALLOWED_HOSTS): then name one that it takes, --header 'Host: www.example.com'"
    )


def _print(outcome: Outcome, config: Config, target: Target) -> None:
    from rocket.tuning import report

    if not any(sample.requests for sample in outcome.sweep):
        click.echo(target.output()[-4000:], err=True, nl=False)  # why
        click.echo("\n".join(["nothing was measured", *outcome.notes]))
        return
    _print_table("Rising concurrency, a thread for each client", *report.sweep_table(outcome))
    click.echo(report.SWEEP_NOTE)
    if outcome.rounds:
        _print_table(f"Settings, {outcome.load} clients, interleaved rounds", *report.rounds_table(outcome))
    if outcome.rates:
        _print_table(f"Rising rate, {outcome.verdict.choice}", *report.rates_table(outcome))
        _print_lines(report.RATES_NOTE)
    click.echo("")
    _print_lines(*report.conclusion(outcome), *(f"Note: {note}." for note in outcome.notes))
    if not outcome.complete:
        click.echo("Note: it was not finished, so the block below is a guess.")
    click.echo(f"\nFor pyproject.toml or rocket.toml, after {outcome.seconds:.0f} s:\n")
    click.echo(report.block(outcome, config))


def _print_lines(*lines: str) -> None:
    """Print sentences; in a terminal, broken between words."""
    width = shutil.get_terminal_size().columns
    for line in lines:
        whole = not sys.stdout.isatty()
        click.echo(line if whole else textwrap.fill(line, width, subsequent_indent="    ", break_on_hyphens=False))


def _print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rocket.tuning.report import plain

    click.echo("")
    click.secho(title, bold=True)  # where that is not possible, click leaves it out
    click.echo(plain(head, rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))


def _save(folder: Path, outcome: Outcome, config: Config, target: Target, *, app: str, requests: Requests) -> None:
    import json

    from rocket.tuning import report
    from rocket.tuning.trial import save_output

    try:
        figures = report.as_dict(outcome, config, app=app, paths=requests.paths)
        half = folder / ".tune.json.part"
        half.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        half.replace(folder / "tune.json")  # whole, or not at all
        save_output(target, folder)
        if outcome.sweep:
            from rocket.tuning.picture import draw

            draw(outcome, folder / "tune.png", f"{app} {' '.join(requests.paths)}")
    except ImportError:
        click.echo(f"\nNo picture: matplotlib is missing (pip install 'rocket[bench]'). Figures in {folder}", err=True)
        return
    except OSError as exc:
        raise click.ClickException(f"cannot write to {folder}: {exc.strerror}") from exc
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted while {folder} was written") from None
    click.echo(f"\nFigures and picture in {folder}", err=True)
