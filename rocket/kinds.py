"""The kinds of values that an option may have: how each is read from what a person wrote, and written for one."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Optional, TypeVar

from rocket.binds import EXPECTED, parse_binds, without_secrets
from rocket.networks import Networks

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LONGEST_SECONDS = 1_000_000  # epoll_wait(2) takes its milliseconds as an int: 24 days
INT_MAX = (1 << 31) - 1  # what listen(2) and its like take


@dataclass(frozen=True)
class Kind:
    """Read an option's value from what a person wrote, and write it for one.

    *read* takes a string or a Python value. It raises ValueError or TypeError if that is not what *expects* says,
    OverflowError if only its magnitude is impossible, and ConfigError to say itself what is wrong.
    """

    expects: str
    read: Callable[[object], object]
    unit: str = ""
    metavar: str = "TEXT"
    show: Callable[[object], str] = str
    python_only: bool = False
    secret: bool = False  # neither shown nor quoted


def count(least: int = 0) -> Kind:
    """A whole number, *least* or more."""

    def read(value: object) -> int:
        number = int(value) if isinstance(value, str) else value
        return _within(_whole(number), least, INT_MAX)

    return Kind(f"a whole number >= {least}", read, metavar="N")


def size(least: int = 0, *, unit: str = "bytes") -> Kind:
    """A number of bytes, as a number or with one of the units B, kB, MB, GB, KiB, MiB, GiB. *unit* is shown behind it.

    It may say more: "bytes per second".
    """

    def read(value: object) -> int:
        number = parse_size(value) if isinstance(value, str) else value
        return _within(_whole(number), least, sys.maxsize)

    expects = f"a number of bytes >= {least}, such as 65536, '64KiB' or '10MB'"
    return Kind(expects, read, unit=unit, metavar="SIZE", show=show_size)


def seconds(*, zero: bool = True) -> Kind:
    """A finite number of seconds, more than 0, or 0 too if *zero*."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = float(value)
        if not math.isfinite(number) or (number == 0 and not zero):
            raise ValueError
        return _within(number, 0.0, LONGEST_SECONDS)

    expects = "a number of seconds >= 0" if zero else "a number of seconds > 0"
    return Kind(expects, read, unit="seconds", metavar="SECONDS", show=lambda value: f"{value:g}")


def switch() -> Kind:
    """Yes or no."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

    def read(value: object) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in words:
            return words[value.strip().lower()]
        raise ValueError

    return Kind("yes or no", read, metavar="", show=lambda value: "yes" if value else "no")


def choice(*words: str) -> Kind:
    """One of *words*, in any case."""

    def read(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in words:
            return value.strip().lower()
        raise ValueError

    return Kind("one of " + ", ".join(words), read, metavar="|".join(words))


def addresses() -> Kind:
    """One or more of what `rocket.binds` reads: a sequence of strings, or one string with commas."""

    def read(value: object) -> tuple[str, ...]:
        written = value.split(",") if isinstance(value, str) else value
        if not isinstance(written, Iterable):
            raise TypeError
        found = tuple(address.strip() for item in written for address in _text(item).split(","))
        if not found or "" in found:
            raise ValueError
        parse_binds(found)
        return found

    return Kind(
        EXPECTED,
        read,
        metavar="ADDRESS",
        show=lambda value: without_secrets(", ".join(value) if isinstance(value, tuple) else str(value)),
    )


class WrongItem(ValueError):
    """One item of a list is not possible; its argument is the item."""


def _items(value: object) -> tuple[str, ...]:
    """Return the items of a sequence of strings, or of one string with commas. "none", or nothing, is no item."""
    written = [value] if isinstance(value, str) else value
    if not isinstance(written, Iterable):
        raise TypeError
    found = (item.strip() for text in written for item in _text(text).split(","))
    return tuple(dict.fromkeys(item.lower() for item in found if item.lower() not in {"", "none"}))


def networks() -> Kind:
    """What `rocket.networks.Networks` takes: a sequence of strings, or one string with commas; or none."""

    def read(value: object) -> tuple[str, ...]:
        found = _items(value)
        try:
            Networks(found)
        except ValueError as exc:
            raise WrongItem(*exc.args) from None
        return found

    return Kind(
        "a list of addresses (127.0.0.1, ::1), networks (10.0.0.0/8, without bits behind the prefix), unix, *, or none",
        read,
        metavar="ADDRESS|NETWORK|unix",
        show=_show_items,
    )


def words(*known: str) -> Kind:
    """Some of the words *known*, in any case: a sequence of strings, or one string with commas; or none."""

    def read(value: object) -> tuple[str, ...]:
        found = _items(value)
        for item in found:
            if item not in known:
                raise WrongItem(item)
        return found

    return Kind("none, or a list of some of " + ", ".join(known), read, metavar="NAME", show=_show_items)


def _show_items(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


def strategy(example: str) -> Kind:
    """A name, a dotted path, or from Python the object or class itself. Its loader finds out whether it exists."""

    def read(value: object) -> object:
        if value is None or (isinstance(value, str) and not value.strip()):
            raise ValueError
        return value.strip() if isinstance(value, str) else value

    return Kind(f"a name or a dotted path such as {example!r}", read, metavar="NAME")


def python_class() -> Kind:
    """A class, or None. There is no way to write one outside of Python."""

    def read(value: object) -> Optional[type[object]]:
        if value is None or isinstance(value, type):
            return value
        raise TypeError

    return Kind("a class", read, metavar="", python_only=True)


def python_callable() -> Kind:
    """Something to call, or None. There is no way to write one outside of Python."""

    def read(value: object) -> Optional[Callable[[], object]]:
        if value is None or callable(value):
            return value
        raise TypeError

    return Kind("something that can be called", read, metavar="", python_only=True)


def share() -> Kind:
    """A part of a whole: 0 to less than 1."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = float(value)
        if not 0 <= number < 1:  # nor NaN
            raise ValueError
        return number

    return Kind("a number >= 0 and < 1", read, metavar="SHARE", show=lambda value: f"{value:g}")


def verification() -> Kind:
    """Whether peers must show who they are, in words or in gunicorn's numbers."""
    words = {"0": "none", "1": "optional", "2": "required"}

    def read(value: object) -> str:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value).strip().lower()
        text = words.get(text, text)
        if text not in words.values():
            raise ValueError
        return text

    return Kind("none, optional or required", read, metavar="none|optional|required")


def text() -> Kind:
    """Any text but none."""

    def read(value: object) -> str:
        if not _text(value).strip():
            raise ValueError
        return _text(value).strip()

    return Kind("a text", read)


def field_value() -> Kind:
    """What may stand in a header field: visible ASCII and spaces, so that it cannot end the line."""

    def read(value: object) -> str:
        text = _text(value).strip()
        if not re.fullmatch(r"[ -~]*", text):
            raise ValueError
        return text

    return Kind("printable ASCII text", read)


def path() -> Kind:
    """A file or folder, as text or a `pathlib.Path`; "" is none. Whether it is there is found out by who opens it."""

    def read(value: object) -> str:
        return _text(os.fspath(value) if isinstance(value, os.PathLike) else value)

    return Kind("a path", read, metavar="PATH")


def secret() -> Kind:
    """A text that is not shown."""
    return Kind("text", _text, show=lambda value: "(hidden)" if value else "", secret=True)


def tokens() -> Kind:
    """Words without spaces: a sequence of strings, or one string with commas; "" is none."""

    def read(value: object) -> tuple[str, ...]:
        written = value.split(",") if isinstance(value, str) else value
        if not isinstance(written, Iterable):
            raise TypeError
        found = tuple(word for each in written if (word := _text(each).strip()))
        if not all(re.fullmatch(r"[!-~]{1,255}", word) for word in found):
            raise ValueError
        return found

    return Kind(
        "words, separated by commas",
        read,
        metavar="WORDS",
        show=lambda value: ", ".join(value) if isinstance(value, tuple) else str(value),
    )


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError


N = TypeVar("N", int, float)


def _within(number: N, least: N, most: N) -> N:
    if number < least:
        raise ValueError
    if number > most:
        raise OverflowError
    return number


# --- Reading and showing ---------------------------------------------------------------------------------------------

_SIZE = re.compile(r"\s*(\d+(?:\.\d+(?=\s*\w))?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?\s*", re.ASCII)
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": KIB, "MiB": MIB, "GiB": GIB}


def parse_size(text: str) -> int:
    """Return the number of bytes that *text* names: `65536`, `64KiB`, `1.5 MB`. Raise ValueError if it names none.

    `64K` is refused, because it means 64000 to some and 65536 to others.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    number, unit = match.groups()
    return int(number) if unit is None else round(float(number) * _BYTES[unit])


def show_size(value: object) -> str:
    """Return *value* bytes in the largest binary unit that leaves it whole: `65536` is `64KiB`."""
    number = _whole(value)
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)
