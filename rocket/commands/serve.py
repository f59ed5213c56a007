"""`rocket serve` and `rocket files`: a server that runs until a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import click

from rocket.commands import Parts, Runs
from rocket.commands.application import from_folder, load_application
from rocket.commands.flags import Configured, configured, load_config

DEMO = "rocket.demo:application"


class Stopped(BaseException):
    """A signal told us to stop before the server could listen to signals itself."""


@configured
@click.command(
    cls=Configured,
    epilog="Each option is also an environment variable, --max-threads is ROCKET_MAX_THREADS, and a key in rocket.toml "
    "or in [tool.rocket] of pyproject.toml, max_threads. Flags win over variables, and those over files.",
)
@click.argument("app", required=False)
@from_folder
@click.pass_obj
def serve(
    parts: Parts,
    /,
    app: Optional[str],
    *,
    app_dir: Path,
    threads: Optional[tuple[int, int]],
    file: Optional[Path],
    chdir: Optional[Path],
    **flags: object,
) -> None:
    """Serve the WSGI application APP, or a demo if none is named.

    APP is MODULE, MODULE:NAME, or a call as in MODULE:create("test"). MODULE alone stands for its `application` or
    `app`.
    """
    from rocket.stderr import patient_stderr

    with _stopped_by_signals():
        config = load_config(threads, file, chdir, flags)
        sys.path.insert(0, str(app_dir.resolve()))
        application = load_application(DEMO if app is None else app)
        # Not earlier: logging.config.dictConfig() in the application would switch off what is there already.
        with patient_stderr(), _logging_to_stderr(config.log_level):
            about = f"no application named, serving the demo {DEMO}" if app is None else ""
            _run(parts.make_server(application, config), about)


@configured
@click.command(
    cls=Configured,
    epilog="The options that are not under Other are those of `rocket serve`. docs/files.md has the details.",
)
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--listing/--no-listing", default=False, help="List folders without an index file.  [default: no]")
@click.option(
    "--index", multiple=True, metavar="NAME", help="What stands for a folder; may be repeated.  [default: index.html]"
)
@click.option("--dot-files/--no-dot-files", default=False, help="Serve names that begin with a dot.  [default: no]")
@click.option(
    "--symlinks/--no-symlinks", default=True, help="Follow symbolic links, within the folder.  [default: yes]"
)
@click.option(
    "--precompressed/--no-precompressed",
    default=True,
    help="Send NAME.br, NAME.zst or NAME.gz for NAME to clients that take it.  [default: yes]",
)
@click.option("--cache-control", default="", metavar="TEXT", help="That field's value, such as 'max-age=3600'.")
@click.option("--charset", default="utf-8", metavar="TEXT", help="Of texts; empty for none.  [default: utf-8]")
@click.pass_obj
def files(
    parts: Parts,
    /,
    folder: Path,
    *,
    index: tuple[str, ...],
    listing: bool,
    dot_files: bool,
    symlinks: bool,
    precompressed: bool,
    cache_control: str,
    charset: str,
    threads: Optional[tuple[int, int]],
    file: Optional[Path],
    chdir: Optional[Path],
    **flags: object,
) -> None:
    """Serve the files in FOLDER, by default the current one."""
    from rocket.files import Folder
    from rocket.stderr import patient_stderr
    from rocket.workers import FileWorker

    with _stopped_by_signals():
        config = load_config(threads, file, chdir, flags).replace(worker=FileWorker)
        served = Folder(
            folder,
            index=index or ("index.html",),
            listing=listing,
            dot_files=dot_files,
            symlinks=symlinks,
            precompressed=precompressed,
            cache_control=cache_control,
            charset=charset,
        )
        names = ", ".join(index or ("index.html",))
        about = f"serving {served.path}; folders without {names} are " + (
            "listed" if listing else "answered 404 (--listing lists them)"
        )
        with patient_stderr(), _logging_to_stderr(config.log_level):
            _run(parts.make_server(served, config), about)


def _run(server: Runs, about: str) -> None:
    """Serve until the end. *about* is a line to log at the start, if it is not empty."""
    import logging

    log = logging.getLogger("rocket.server")

    def tell() -> None:
        log.info("%s, pid %d", version_line(), os.getpid())
        if about:
            log.info("%s", about)
        for line in server.describe():
            log.info("%s", line)

    try:
        server.serve_forever(tell)
    finally:
        server.stop()


def version_line() -> str:
    import platform

    from rocket import __version__

    asks = getattr(sys, "_is_gil_enabled", None)  # since Python 3.13
    gil = "on" if asks is None or asks() else "off"
    return f"Rocket {__version__} on {platform.python_implementation()} {platform.python_version()}, GIL {gil}"


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Leave the block quietly at SIGTERM or SIGINT, until the server installs handlers of its own.

    Else one that comes while the application is imported would end the process with a traceback, or by the signal.
    """

    def leave(_signum: int, _frame: object) -> None:
        raise Stopped

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except Stopped:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _logging_to_stderr(level: str) -> Iterator[None]:
    """Print Rocket's messages, and leave the application's to the application."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S %z")
    )
    logger = logging.getLogger("rocket")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = True
