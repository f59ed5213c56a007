"""What an option is, and where its value may come from: a keyword, a flag, the environment, a TOML file.

Which options there are is declared in config.py.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Optional, TypeVar

from rocket.errors import ConfigError
from rocket.kinds import Kind, WrongItem

T = TypeVar("T")
Given = dict[str, tuple[object, str]]  # option -> (the value as it was written, where)

DEFAULT = "default"
KEYWORD = "keyword"
COMMAND_LINE = "the command line"


@dataclass(frozen=True)
class Option:
    """What is known of one option. Everything but the name stands in its declaration."""

    name: str
    default: object
    kind: Kind
    group: str
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "ROCKET_" + self.name.upper()

    def show(self, value: object) -> str:
        """Return *value* for a person to read: `64KiB`, `75 seconds`, `yes`."""
        text = self.kind.show(value) or '""'
        return f"{text} {self.kind.unit}" if self.kind.unit and text[-1:].isdigit() else text

    def read(self, value: object, origin: str) -> object:
        """Return *value* as the option's type, or raise ConfigError that names *origin*."""
        where = from_origin(origin)
        try:
            return self.kind.read(value)
        except ConfigError as exc:  # it knows better than *expects* what is wrong
            raise ConfigError(f"{self.name}: {exc}{where}") from None
        except OverflowError:
            raise ConfigError(f"{self.name} is too large: {value!r}{where}") from None
        except WrongItem as exc:
            raise ConfigError(f"{self.name} must be {self.kind.expects}, not {exc.args[0]!r}{where}") from None
        except (ValueError, TypeError):
            shown = type(value).__name__ if self.kind.secret else repr(value)
            raise ConfigError(f"{self.name} must be {self.kind.expects}, not {shown}{where}") from None


def option(default: T, kind: Kind, group: str, help: str) -> T:
    """Declare an option. Typed as its value, like `dataclasses.field`, so that mypy knows `config.max_threads`."""
    return field(default=default, repr=not kind.secret, metadata={"kind": kind, "group": group, "help": help})


# --- The sources -----------------------------------------------------------------------------------------------------


def file_in(folder: Path) -> Optional[Path]:
    """Return the file in *folder* that may hold options."""
    return next((path for path in (folder / "rocket.toml", folder / "pyproject.toml") if path.is_file()), None)


def given_by_toml(path: Path) -> Given:
    """Read the options in [tool.rocket] of a pyproject.toml; of any other file there, too, or else at its top."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"{path} is not valid TOML: {exc}") from exc
    prefix = ""
    if path.name == "pyproject.toml" or _has_own_table(table, path):
        prefix = "tool.rocket."
        for key in ("tool", "rocket"):
            table = table.get(key, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError(f"tool.rocket in {path} must be a table, not {table!r}")
    if not prefix and isinstance(table.get("rocket"), dict):
        raise ConfigError(f"{path} has options in [rocket]: put them at the top of the file, or in [tool.rocket]")
    return {name: (value, f"{prefix}{name} in {path}") for name, value in table.items()}


def _has_own_table(table: object, path: Path) -> bool:
    """Whether the options are in [tool.rocket], as in pyproject.toml, although the file is another: pasted, say.

    Tables of others may be beside it. Raises ConfigError if options are at the top, too: who wins would be a guess.
    """
    tool = table.get("tool") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(tool, dict) or "rocket" not in tool:
        return False
    top = [name for name, value in table.items() if not isinstance(value, dict)]
    if top:
        raise ConfigError(
            f"{path} has options in two places, {', '.join(top)} at its top and others in [tool.rocket]: put them all "
            "at the top and leave out the line [tool.rocket]"
        )
    return True


def given_by_environ(environ: Mapping[str, str], known: Collection[str]) -> Given:
    """Read the variables named ROCKET_ and one of the options *known*.

    A misspelled one is refused, but one that resembles no option is somebody else's: Kubernetes sets ROCKET_PORT and
    ROCKET_SERVICE_HOST beside a service of that name.
    """
    given: Given = {}
    for variable, value in environ.items():
        if not variable.startswith("ROCKET_"):
            continue
        name = variable[len("ROCKET_") :].lower()
        if name in known or get_close_matches(name, known, n=1, cutoff=0.7):
            given[name] = (value, f"{variable} in the environment")
    return given


def unknown(name: str, origin: str, known: Collection[str]) -> ConfigError:
    near = get_close_matches(name.replace("-", "_").lower(), known, n=1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown option {name!r}{hint}{from_origin(origin)}")


def from_origin(origin: str) -> str:
    """Return what an error says of where the value comes from."""
    return "" if origin == KEYWORD else f" (from {origin})"
