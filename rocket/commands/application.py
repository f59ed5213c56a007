"""The application that a command names: `module:name`, found and imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

DEFAULT_NAMES = ("application", "app")

from_folder = click.option(
    "--app-dir",
    type=click.Path(path_type=Path),
    default=".",
    help="Import the application from this folder.  [default: the current one]",
)


class NoApplication(click.ClickException):
    exit_code = 4


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


def check_name(spec: str) -> None:
    """Raise click.UsageError if *spec* cannot name an application, whatever there is."""
    _parse_expression(spec, spec.partition(":")[2])


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
