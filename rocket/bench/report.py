"""Reports: what was measured, as plain values that survive JSON; and reading, writing, comparing them.

A report has, whatever its kind::

    {"kind": "monitors", "format": 1, "command": ..., "machine": {...}, "plan": {...}, "generator": ...,
     "rounds": 5, "ended": "", "problems": [...], "cells": [{..., "rate": [a value for each round], ...}, ...]}

Seconds, bytes, and values per second. A value that is not known is null in JSON, nan here.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rocket.bench.stats import NOISY, ROUNDS_NEEDED, noise, summary, told_apart
from rocket.errors import ConfigError

Report = dict[str, Any]
FORMAT = 1
KEYS = {"monitors": ("monitor", "idle", "active"), "peers": ("scenario", "server")}  # what a cell is named by
_ALWAYS = {"format", "command", "machine", "plan", "generator", "rounds", "ended", "problems", "left_out", "cells"}
NEEDED = {"monitors": {*_ALWAYS, "calls_by", "servers"}, "peers": _ALWAYS}
FIGURES = ("rate", "p50", "p99", "cpu")  # of a cell, a value for each round
OTHERS = 0.1  # of a CPU that other programs may take before it is worth a warning
FULL = 0.95  # of a CPU: the generator's


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return value


def to_json(report: Report) -> str:
    """Return *report* as JSON."""
    return json.dumps(_without_nan(report), indent=1) + "\n"


def read(path: Path) -> Report:
    """Return the report in a file. Raises ConfigError if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    if not isinstance(found, dict) or found.get("kind") not in KEYS:
        raise ConfigError(f"{path} is no report of rocket bench")
    missing = NEEDED[found["kind"]] - set(found)
    if missing:
        raise ConfigError(f"{path} is no whole report: it has no {', '.join(sorted(missing))}")
    if found["format"] != FORMAT:
        raise ConfigError(f"{path} is of format {found['format']}, and this Rocket knows {FORMAT}")
    return found


def values(cell: Mapping[str, Any], name: str) -> list[float]:
    """Return the rounds of a cell's figure; nan for a round that does not know it."""
    return [math.nan if each is None else float(each) for each in cell.get(name) or ()]


def key(report: Report, cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what names *cell* in *report*."""
    return tuple(cell[name] for name in KEYS[report["kind"]])


def groups(report: Report) -> dict[tuple[Any, ...], dict[str, Mapping[str, Any]]]:
    """Return the cells that are compared with each other: conditions -> name of the monitor or server -> cell."""
    found: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for cell in report["cells"]:
        if report["kind"] == "monitors":
            found.setdefault((cell["idle"], cell["active"]), {})[cell["monitor"]] = cell
        else:
            found.setdefault((cell["scenario"],), {})[cell["server"]] = cell
    return found


def to_csv(report: Report) -> str:
    """Return a line for each cell: its names, and of each figure the median, the lowest and the highest round."""
    names = KEYS[report["kind"]]
    cells = report["cells"]
    if report["kind"] == "monitors":  # what was measured once for all numbers of active connections
        servers = {(each["monitor"], each["idle"]): each for each in report["servers"]}
        cells = [{**servers.get((cell["monitor"], cell["idle"]), {}), **cell} for cell in cells]
    more = [name for name in ("calls", "memory", "wake_p50", "wake_p99") if any(name in cell for cell in cells)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = [*names, "rounds"]
    for name in FIGURES:
        unit = "per_s" if name == "rate" else "s"
        head += [f"{name}_{unit}", f"{name}_{unit}_lowest", f"{name}_{unit}_highest"]
    units = {"calls": "calls", "memory": "memory_bytes", "wake_p50": "wake_p50_s", "wake_p99": "wake_p99_s"}
    writer.writerow([*head, "errors", *(units[name] for name in more)])
    for cell in cells:
        row: list[Any] = [*key(report, cell), len(cell.get("rate", ()))]
        for name in FIGURES:
            found = summary(values(cell, name))
            row += [_number(found.median), _number(found.lowest), _number(found.highest)]
        row.append(sum(sum(errors.values()) for errors in cell.get("errors", ())))
        row += [_number(summary(_several(cell.get(name))).median) for name in more]
        writer.writerow(row)
    return out.getvalue()


def _several(value: Any) -> list[float]:
    return [math.nan if each is None else float(each) for each in (value if isinstance(value, list) else [value])]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def warnings(report: Report) -> list[str]:
    """Return what a reader must know before believing the figures."""
    found = list(report["problems"])
    rounds = [values(cell, "rate") for cell in report["cells"]]
    spread = noise(rounds)
    if report["ended"]:
        found.append(f"not all was measured: {report['ended']}")
    most = max(map(len, rounds), default=0)
    if most < ROUNDS_NEEDED:
        found.append(
            f"{most} round{'s are' if most > 1 else ' is'} too few to tell any two apart: it takes {ROUNDS_NEEDED}"
        )
    if spread > NOISY:
        found.append(
            f"the machine is noisy: the rounds of one measurement differ by {spread:.0%} (median of all, lowest to "
            "highest); differences of that size cannot be told apart"
        )
    others = summary(value for cell in report["cells"] for value in values(cell, "other_cpu"))
    if others.rounds and others.median > OTHERS:
        found.append(f"other programs took {others.median:.0%} of a CPU meanwhile (median)")
    full = [cell for cell in report["cells"] if summary(values(cell, "generator_cpu")).median >= FULL]
    if full:
        names = ", ".join(sorted({" ".join(map(str, key(report, cell))) for cell in full}))
        found.append(f"the load generator was full, and the server may be faster (try --wrk): {names}")
    failed = {" ".join(map(str, key(report, cell))): _errors(cell) for cell in report["cells"] if _errors(cell)}
    found += [f"errors: {name}: {text}" for name, text in failed.items()]
    return found


def _errors(cell: Mapping[str, Any]) -> str:
    total: dict[str, int] = {}
    for errors in cell.get("errors", ()):
        for kind, count in errors.items():
            total[kind] = total.get(kind, 0) + count
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(total.items()))


def save(report: Report, folder: Path, name: str) -> Iterator[Path]:
    """Write *report* as JSON and CSV into *folder*, which is made; yield the paths.

    Each file is whole, or what it was before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", to_json(report)), (".csv", to_csv(report))):
        path = folder / (name + suffix)
        half = path.with_name(f".{path.name}.part")
        try:
            half.write_text(text, encoding="utf-8")
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
        yield path


# --- Two runs --------------------------------------------------------------------------------------------------------


def agreement(first: Report, second: Report, figure: str = "rate") -> dict[str, list[str]]:
    """Return what two runs say of each pair in each group that both have measured, as lines in classes.

    "alike": both tell the two apart, in the same direction; "contradict": in opposite ones; "cannot tell": neither
    does; "one cannot tell": only one run does. Raises ConfigError if the reports are of different kinds.
    """
    if first["kind"] != second["kind"]:
        raise ConfigError(f"a report on {first['kind']} and one on {second['kind']} cannot be compared")
    found: dict[str, list[str]] = {"alike": [], "contradict": [], "cannot tell": [], "one cannot tell": []}
    others = groups(second)
    for condition, cells in groups(first).items():
        both = [name for name in cells if name in others.get(condition, {})]
        for place, one in enumerate(both):
            for other in both[place + 1 :]:
                signs = [
                    told_apart(values(run[condition][one], figure), values(run[condition][other], figure))
                    for run in (groups(first), others)
                ]
                found[_verdict(signs)].append(f"{_words(first, condition)}: {_pair(one, other, signs)}")
    return found


def _verdict(signs: Sequence[int]) -> str:
    if not any(signs):
        return "cannot tell"
    if 0 in signs:
        return "one cannot tell"
    return "alike" if signs[0] == signs[1] else "contradict"


def _pair(one: str, other: str, signs: Sequence[int]) -> str:
    return "; ".join(f"{one} {'~' if not sign else '>' if sign > 0 else '<'} {other}" for sign in dict.fromkeys(signs))


def _words(report: Report, condition: tuple[Any, ...]) -> str:
    if report["kind"] == "monitors":
        return f"{condition[0]:,} idle, {condition[1]} active"
    return str(condition[0])
