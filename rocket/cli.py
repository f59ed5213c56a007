"""The command line: `rocket serve`, `files`, `monitors`, `options`, `config`, `simulate`, and rocket/commands/.

click is imported here and there only.

Exit codes: 0 stopped, 1 an address cannot be listened on, 2 a wrong option, 4 the application cannot be imported.
What a command needs is imported when it runs, so that `rocket --help` is quick.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol

import click

from rocket.commands import Tools, check, tune
from rocket.commands.bench import bench
from rocket.config import OPTIONS, Config
from rocket.config import Option as Declared
from rocket.errors import BindError, ConfigError, MonitorUnavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

DEMO = "rocket.demo:application"
DEFAULT_NAMES = ("application", "app")


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


class CannotBind(click.ClickException):
    exit_code = 1


class WrongOption(click.ClickException):
    exit_code = 2


class NoApplication(click.ClickException):
    exit_code = 4


class Stopped(BaseException):
    """A signal told us to stop before the server could listen to signals itself."""


# --- Flags from the declared options ---------------------------------------------------------------------------------


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


def _threads(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Optional[tuple[int, int]]:
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


def _flag(declared: Declared) -> Grouped:
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
        ["-t", "--threads"], callback=_threads, metavar="N|MIN:MAX", help="Short for --min-threads and --max-threads."
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


def _load_config(
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


# --- The application -------------------------------------------------------------------------------------------------


def load_application(spec: str) -> WSGIApplication:
    """Return the WSGI application that *spec* names.

    *spec* is `module` (its `application` or `app`), `module:name`, `module:name.attribute` or a call such as
    `module:create("test", debug=True)` with literal arguments. Raise NoApplication, after the
    traceback if it is the application's code that failed.
    """
    module_name, _, expression = spec.partition(":")
    names, call = _parse_expression(spec, expression)
    module = _import(module_name)
    if not names:
        names = next(([name] for name in DEFAULT_NAMES if hasattr(module, name)), [])
        if not names:
            wanted = " nor ".join(repr(name) for name in DEFAULT_NAMES)
            raise NoApplication(f"module {module_name!r} has neither {wanted}{_hint(module)}")
    found: Any = module
    for depth, name in enumerate(names):
        owner = ":".join([module_name, ".".join(names[:depth])]) if depth else f"module {module_name!r}"
        try:
            found = getattr(found, name)
        except AttributeError:
            raise NoApplication(f"{owner} has no attribute {name!r}{_hint(module)}") from None
    path = f"{module_name}:{'.'.join(names)}"
    if not callable(found):
        raise NoApplication(f"{path} is not callable: it is a {type(found).__name__}{_hint(module)}")
    if call is not None:
        found = _call(found, call, path)
    app: WSGIApplication = found
    return app


def _parse_expression(spec: str, expression: str) -> tuple[list[str], Optional[ast.Call]]:
    """Return the names in *expression*, and the call that it ends in."""
    problem = f"{spec!r} is not MODULE, MODULE:NAME or MODULE:NAME(literal arguments)"
    if not spec.partition(":")[0] or spec.endswith(":"):
        raise click.UsageError(problem)
    if not expression:
        return [], None
    names: list[str] = []
    try:
        node = ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise click.UsageError(problem) from None
    call = node if isinstance(node, ast.Call) else None
    if call is not None:
        node = call.func
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise click.UsageError(problem)
    return [node.id, *names], call


def _import(name: str) -> object:
    try:
        __import__(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise _broken(f"importing {name!r} failed", exc) from exc
        hint = f" (name the module, {Path(name).stem!r}, not its file)" if name.endswith(".py") else ""
        raise NoApplication(f"there is no module {exc.name!r} in {sys.path[0]} or on sys.path{hint}") from exc
    except (Exception, SystemExit) as exc:
        raise _broken(f"importing {name!r} failed", exc) from exc
    return sys.modules[name]


def _call(factory: Callable[..., object], call: ast.Call, path: str) -> Any:
    """Return what *factory* makes of the literal arguments in *call*."""
    try:
        arguments = [ast.literal_eval(node) for node in call.args]
        keywords = {_keyword(node): ast.literal_eval(node.value) for node in call.keywords}
    except (ValueError, TypeError):
        raise click.UsageError(f"the arguments of {path} must be literals") from None
    try:
        made = factory(*arguments, **keywords)
    except (Exception, SystemExit) as exc:
        raise _broken(f"calling {path} failed", exc) from exc
    if not callable(made):
        raise NoApplication(f"{path}() returned a {type(made).__name__}, which is not callable")
    return made


def _keyword(node: ast.keyword) -> str:
    if node.arg is None:  # **names
        raise ValueError
    return node.arg


def _broken(what: str, exc: BaseException) -> NoApplication:
    """Print the traceback of *exc*, without our own frames and those of the import system, and return the error."""
    import traceback

    trace = exc.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((__file__, "<frozen importlib")):
        trace = trace.tb_next
    click.echo("".join(traceback.format_exception(type(exc), exc, trace)), err=True, nl=False)
    return NoApplication(f"{what}: {type(exc).__name__}: {exc}")


def _hint(module: object) -> str:
    """Return which callables of *module* may have been meant: its functions and classes, and any callable object."""
    own = getattr(module, "__name__", None)
    names = [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", own) in (own, None)
    ]
    return f"; callable there: {', '.join(names)}" if names else "; nothing there is callable"


# --- The commands ----------------------------------------------------------------------------------------------------


class Rocket(click.Group):
    """Turns Rocket's errors into a line and an exit code, and has the standard descriptors open before all else."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ConfigError, MonitorUnavailable) as exc:
            raise WrongOption(str(exc)) from exc
        except BindError as exc:
            raise CannotBind(exc.strerror or str(exc)) from exc

    def main(self, *args: Any, **kwargs: Any) -> Any:
        from rocket.stderr import open_standard_descriptors

        open_standard_descriptors()
        return super().main(*args, **kwargs)


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(_about())
        ctx.exit()


@click.group(cls=Rocket, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it and exit."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """A threaded HTTP/1.1 and WSGI server."""
    ctx.ensure_object(Parts)


@configured
@main.command(
    cls=Configured,
    epilog="Each option is also an environment variable, --max-threads is ROCKET_MAX_THREADS, and a key in rocket.toml "
    "or in [tool.rocket] of pyproject.toml, max_threads. Flags win over variables, and those over files.",
)
@click.argument("app", required=False)
@click.option(
    "--app-dir",
    type=click.Path(path_type=Path),
    default=".",
    help="Import the application from this folder.  [default: the current one]",
)
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
        config = _load_config(threads, file, chdir, flags)
        sys.path.insert(0, str(app_dir.resolve()))
        application = load_application(app or DEMO)
        # Not earlier: logging.config.dictConfig() in the application would switch off what is there already.
        with patient_stderr(), _logging_to_stderr(config.log_level):
            _run(
                parts.make_server(application, config), "" if app else f"no application named, serving the demo {DEMO}"
            )


@configured
@main.command(
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
        config = _load_config(threads, file, chdir, flags).replace(worker=FileWorker)
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
        log.info("%s, pid %d", _about(), os.getpid())
        if about:
            log.info("%s", about)
        for line in server.describe():
            log.info("%s", line)

    try:
        server.serve_forever(tell)
    finally:
        server.stop()


def _about() -> str:
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


main.add_command(bench)


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


@main.command()
@click.option("--markdown", is_flag=True, help="As the page docs/options.md.")
def options(markdown: bool) -> None:
    """List the options with their defaults, units and meaning."""
    if markdown:
        click.echo(_markdown(), nl=False)
        return
    formatter = click.HelpFormatter(max_width=100)
    for title, group in _groups().items():
        with formatter.section(title):
            formatter.write_dl([(f"{each.name} = {each.show(each.default)}", each.help) for each in group])
    click.echo(formatter.getvalue().lstrip(), nl=False)


@configured
@main.command(cls=Configured)
def config(threads: Optional[tuple[int, int]], file: Optional[Path], chdir: Optional[Path], **flags: object) -> None:
    """Show the values that `rocket serve` would use with the same flags, and where each comes from."""
    effective = _load_config(threads, file, chdir, flags)
    rows = [
        (f"{name} = {OPTIONS[name].show(value)}", effective.origin(name)) for name, value in effective.as_dict().items()
    ]
    width = max(len(row) for row, _ in rows)
    for row, origin in rows:
        click.echo(f"{row:{width}}  {origin}")


@main.command()
@click.option(
    "-p",
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="A policy as for --scaling; may be repeated.  [default: all]",
)
@click.option(
    "-w",
    "--workload",
    "workloads",
    multiple=True,
    metavar="NAME",
    help="A workload, or a dotted path to one, package.module:name; may be repeated.  [default: all]",
)
@click.option("-t", "--threads", callback=_threads, metavar="N|MIN:MAX", default="2:128", show_default=True)
@click.option("--cpus", type=click.FloatRange(0.1), help="CPUs of the host.  [default: the workload's]")
@click.option("--gil/--no-gil", default=True, help="Whether one thread computes at a time.  [default: yes]")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it; needs matplotlib (rocket[bench])."
)
def simulate(
    policies: tuple[str, ...],
    workloads: tuple[str, ...],
    *,
    threads: tuple[int, int],
    cpus: Optional[float],
    gil: bool,
    plot: Optional[Path],
) -> None:
    """Compare policies with the best fixed number of threads, on workloads in a simulation.

    The same figures come each time; docs/policies.md says what the model knows, and how to describe a workload.
    """
    from rocket.pools import POLICIES, load, simulator
    from rocket.pools.workloads import WORKLOADS, load_workload, with_host

    sys.path.insert(0, str(Path().resolve()))
    for number, workload_name in enumerate(workloads or WORKLOADS):
        workload = with_host(load_workload(workload_name), gil=gil, cpus=cpus)
        best = simulator.best_fixed(workload)
        results = []
        for name in policies or [name for name in POLICIES if name != "fixed"]:
            policy = load(name)
            try:
                results.append(
                    simulator.simulate(policy, workload, min_threads=threads[0], max_threads=threads[1], name=name)
                )
            except Exception as exc:  # the policy is anybody's
                raise click.ClickException(f"the policy {name} failed: {type(exc).__name__}: {exc}") from exc
        click.echo(("\n" if number else "") + f"{workload.name}: {workload.about}")
        click.echo(simulator.table(best, results))
        if plot is not None:
            from rocket.pools.drawing import draw

            many = len(workloads or WORKLOADS) > 1
            path = plot.with_name(f"{plot.stem}-{workload.name}{plot.suffix}") if many else plot
            try:
                draw([best, *results], path)
            except (ImportError, OSError) as exc:
                raise click.ClickException(f"cannot draw: {exc}") from exc
            click.echo(f"drawn to {path}")


_TOOLS = Tools(configured, Configured, _load_config, load_application)
main.add_command(check.make(_TOOLS))
main.add_command(tune.make(_TOOLS))
main.add_command(tune.make_target(_TOOLS))


def _groups() -> dict[str, list[Declared]]:
    groups: dict[str, list[Declared]] = {}
    for declared in OPTIONS.values():
        groups.setdefault(declared.group, []).append(declared)
    return groups


def _markdown() -> str:
    """Return docs/options.md."""
    lines = [_PREFACE]
    for title, group in _groups().items():
        lines += ["", f"## {title}", "", "| option | default | meaning |", "|---|---|---|"]
        lines += [f"| `{each.name}` | `{each.show(each.default)}` | {each.help} |" for each in group]
    return "\n".join(lines) + "\n"


_PREFACE = """\
# Options

<!-- Generated by `rocket options --markdown > docs/options.md` from rocket/config.py. Do not edit. -->

The option `max_threads` is, in order of precedence:

* the keyword `Server(app, max_threads=8)`, or the flag `--max-threads 8`;
* the environment variable `ROCKET_MAX_THREADS=8`;
* the key `max_threads = 8` in `./rocket.toml`, or else in `[tool.rocket]` of `./pyproject.toml`, or in the file that
  `--config` names.

Sizes are numbers of bytes, or texts such as `"64KiB"` and `"10MB"`. Times are seconds. `rocket config` shows which
value comes from where."""
