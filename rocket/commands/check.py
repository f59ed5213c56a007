"""`rocket check`: look for what will go wrong, before there is traffic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from rocket.commands.application import from_folder, load_application
from rocket.commands.flags import Configured, configured, load_config

if TYPE_CHECKING:
    from rocket.checks import Finding, Subject

PAGES = "docs/checks.md"
_BALANCERS = ("alb", "nginx", "traefik", "caddy", "gcp", "envoy")  # those of rocket.checks, which is imported late


@configured
@click.command(
    cls=Configured,
    epilog="Exit code 0: nothing was found; 1: something was; 2: an option cannot be; 4: the application cannot be "
    f"imported. {PAGES} has a section for each number.",
)
@click.argument("app", required=False)
@from_folder
@click.option("--behind", metavar="NAME", help="The load balancer in front: " + ", ".join(_BALANCERS) + ".")
@click.option("--ignore", multiple=True, metavar="RKT-...", help="Leave this check out; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def check(
    ctx: click.Context,
    /,
    app: Optional[str],
    *,
    app_dir: Path,
    behind: Optional[str],
    ignore: tuple[str, ...],
    as_json: bool,
    threads: Optional[tuple[int, int]],
    file: Optional[Path],
    chdir: Optional[Path],
    **flags: object,
) -> None:
    """Look at the options, the host and the application APP for what will go wrong under traffic.

    Takes what `rocket serve` takes. Nothing is listened on. Without APP its databases are not looked at.
    """
    from rocket import checks
    from rocket.binds import parse_binds
    from rocket.certificates import Certificates, secured

    left_out = _numbers(ignore)
    if behind is not None and behind.lower() not in _BALANCERS:
        raise click.UsageError(f"--behind: {behind!r} is none of {', '.join(_BALANCERS)}")
    config = load_config(threads, file, chdir, flags)
    sys.path.insert(0, str(app_dir.resolve()))  # also without APP: a policy or monitor may be there
    application = checks.Application()
    if app is not None:
        with redirect_stdout(sys.stderr):  # ours is for the findings
            load_application(app)
            application = checks.look_at(app)
    Certificates(secured(parse_binds(config.bind), config), config)  # what cannot be is a ConfigError: 2, as `serve`
    subject = checks.Subject(config, checks.read_host(), application, behind and behind.lower())
    findings = checks.run(subject, left_out)
    click.echo(_as_json(findings, subject, left_out) if as_json else _as_text(findings, subject, left_out))
    ctx.exit(1 if findings else 0)


def _numbers(given: Sequence[str]) -> frozenset[str]:
    """Return the numbers of checks in *given*, each of which may be several with commas."""
    from rocket.checks import CHECKS

    known = {check.number for check in CHECKS}
    wanted = frozenset(number.strip().upper() for text in given for number in text.split(","))
    for number in sorted(wanted - known):
        raise click.UsageError(f"--ignore: there is no check {number!r}; they are {min(known)} to {max(known)}")
    return wanted


def _as_json(findings: Sequence[Finding], subject: Subject, ignored: frozenset[str]) -> str:
    import json
    from dataclasses import asdict

    from rocket.checks import CHECKS

    return json.dumps(
        {
            "findings": [asdict(finding) for finding in findings],
            "checked": [check.number for check in CHECKS if check.number not in ignored],
            "ignored": sorted(ignored),
            "application": subject.application.name,
        },
        indent=2,
    )


def _as_text(findings: Sequence[Finding], subject: Subject, ignored: frozenset[str]) -> str:
    from rocket.checks import CHECKS

    lines = []
    for finding in findings:
        lines += [
            f"{finding.number}  {finding.severity}: {finding.title}",
            f"    {finding.message}",
            f"    repair: {finding.repair}",
            f"    {finding.page}",
            "",
        ]
    made = len(CHECKS) - len(ignored)
    if findings:
        errors = sum(finding.severity == "error" for finding in findings)
        lines.append(f"{made} checks: {_many(errors, 'error')}, {_many(len(findings) - errors, 'warning')}")
    else:
        lines.append(f"{made} checks: nothing found")
    seen = subject.application
    if seen.name is None:
        lines.append("no application named, so its databases were not looked at")
    else:
        lines.append(
            f"seen in {seen.name}: {_many(len(seen.pools), 'SQLAlchemy pool')}, "
            f"{_many(len(seen.databases), 'Django database')}"
        )
    return "\n".join(lines)


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
