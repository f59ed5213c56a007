"""Reports as tables: for the terminal, and as Markdown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from rocket.bench.measure import describe
from rocket.bench.report import Report, groups, values, warnings
from rocket.bench.stats import order, summary, told_apart

UNKNOWN = "-"
TROUBLE = " !"
RANGE = "lowest to highest"
MEMORY_FROM = 1000  # idle connections; the memory of fewer is lost in that of the pages it comes in


@dataclass
class Table:
    """A table of texts. The first *left* columns are words, the others numbers.

    A row with fewer cells than the head ends with a remark, which goes on over the columns that it has not. *spare*
    are names of columns that a narrow terminal can do without, first what is missed least.
    """

    title: str
    head: Sequence[str]
    rows: list[list[str]]
    left: int = 1
    spare: Sequence[str] = ()

    def plain(self, width: Optional[int] = None) -> str:
        """Return it with columns that are padded with spaces; if it is wider than *width*, without some spare ones."""
        gone: list[str] = []
        while True:
            text = self._plain([i for i, name in enumerate(self.head) if name not in gone])
            left = [name for name in self.spare if name not in gone]
            if width is None or not left or max(map(len, text.splitlines())) <= width:
                break
            gone.append(left[0])
        if width is None or not gone:
            return text
        names = ", ".join(name for name in self.head if name in gone)
        return text + "\n" + textwrap.fill(f"({names}: in a wider terminal, or a file)", width)

    def _plain(self, kept: Sequence[int]) -> str:
        whole = [row for row in [self.head, *self.rows] if len(row) == len(self.head)]
        remarks = [row for row in self.rows if len(row) < len(self.head)]
        widths = [max(len(row[i]) for row in [*whole, *(row[:-1] for row in remarks)] if i < len(row)) for i in kept]
        dashes = "  ".join("-" * width for width in widths)
        lines = [self.title, "", self._line(self.head, kept, widths), dashes]
        for row in self.rows:
            if len(row) == len(self.head):
                lines.append(self._line(row, kept, widths))
            else:
                words = [cell.ljust(width) for cell, width in zip(row[:-1], widths)]
                lines.append("  ".join([*words, row[-1]]))
        return "\n".join(lines)

    def _line(self, row: Sequence[str], kept: Sequence[int], widths: Sequence[int]) -> str:
        cells = [row[i].ljust(width) if i < self.left else row[i].rjust(width) for i, width in zip(kept, widths)]
        return "  ".join(cells).rstrip()

    def markdown(self) -> str:
        """Return it as Markdown, without the title."""
        marks = ["---" if i < self.left else "--:" for i in range(len(self.head))]
        rows = [[*row, *[UNKNOWN] * (len(self.head) - len(row))] for row in self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in [list(self.head), marks, *rows])


def tables(report: Report) -> list[Table]:
    """Return the tables of a report, of any kind."""
    made = _monitors(report) if report["kind"] == "monitors" else _peers(report)
    return [table for table in made if table.rows]


def show(report: Report, *, width: Optional[int] = None) -> str:
    """Return what a person is to see of *report*: its tables, and what must be known about them.

    In lines of no more than *width*, as far as they go.
    """
    text = "\n\n".join(table.plain(width) for table in tables(report))
    notes = [*legend(report), *(f"warning: {line}" for line in warnings(report))]
    if width is not None:
        notes = [textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in notes]
    return "\n".join([text.rstrip(), "", *notes])


def document(report: Report) -> str:
    """Return *report* as Markdown, for a document: machine, command, tables, warnings."""
    parts = [f"{describe(report['machine'])}.", f"```sh\n{report['command']}\n```"]
    for table in tables(report):
        parts += [f"### {table.title}", table.markdown()]
    parts.append("\n".join(f"* {line}" for line in [*legend(report), *warnings(report)]))
    return "\n\n".join(parts)


def legend(report: Report) -> list[str]:
    """Return the lines that explain the tables."""
    apart = "~: cannot be told from what it is compared with (rank test at 5 %, or less than 3 % apart)"
    rounds = max((len(cell["rate"]) for cell in report["cells"]), default=0)
    lines = [f"Medians of {rounds} round{'s' if rounds > 1 else ''}. {apart}."]
    lines.append("CPU us: of the server, for each request, in microseconds.")
    if report["kind"] == "monitors":
        counted = f"counted by {report['calls_by']}" if report["calls_by"] else "not counted, this host has no tool"
        lines.append(f"Load: {report['generator']}. Calls: all system calls of the server, per request; {counted}.")
        lines.append("Wake: from send to the answer, on an idle server. Memory: resident, for each idle connection.")
    else:
        lines.append(f"Load: {report['generator']}. MB: resident, after the load, all processes of the server.")
        lines += _tls_lines(report)
        if any(troubled(cell) for cell in report["cells"]):
            lines.append(f"{TROUBLE.strip()}: failed in some rounds or requests, which the warnings name.")
        versions = ", ".join(f"{name} {version}" for name, version in report["machine"]["versions"].items())
        lines.append(f"Peers: {versions or 'none'}; on Python {report['machine']['peers_python']}.")
    return lines


def _tls_lines(report: Report) -> list[str]:
    """Return what was agreed on under TLS, if anything was measured there."""
    agreed: dict[str, list[str]] = {}
    for cell in report["cells"]:
        if cell.get("tls") and cell["server"] not in agreed.setdefault(cell["tls"], []):
            agreed[cell["tls"]].append(cell["server"])
    if not agreed:
        return []
    words = "; ".join(f"{what} ({', '.join(servers)})" if len(agreed) > 1 else what for what, servers in agreed.items())
    own = " tls-fresh is never loaded by wrk." if report["generator"] != "rocket.bench.load" else ""
    return [f"TLS: {words}; one self-signed certificate for all; no session is resumed.{own}"]


# --- Monitors --------------------------------------------------------------------------------------------------------


def _base(report: Report) -> str:
    """Return the name that the others are compared with."""
    return str(report["plan"]["monitors"][0] if report["kind"] == "monitors" else report["plan"]["servers"][0])


def _monitors(report: Report) -> list[Table]:
    base = _base(report)
    found = groups(report)
    rows, orders = [], []
    for idle in report["plan"]["idle"]:
        for active in report["plan"]["active"]:
            cells = found.get((idle, active), {})
            for name in report["plan"]["monitors"]:
                cell = cells.get(name)
                if cell is not None:
                    rows.append([f"{idle:,}", f"{active}", name, *_figures(cell, cells.get(base)), _calls(cell)])
                elif why := _left_out(report, name, idle, active):
                    rows.append([f"{idle:,}", f"{active}", name, why])
            if len(cells) > 1:
                rates = {name: values(cell, "rate") for name, cell in cells.items()}
                speeds = {name: [1 / value for value in values(cell, "cpu") if value] for name, cell in cells.items()}
                orders.append([f"{idle:,}", f"{active}", "rate", order(rates)])
                orders.append([f"{idle:,}", f"{active}", "CPU", order(speeds)])
    head = ["idle", "active", "monitor", "requests/s", RANGE, f"of {base}", "p50 ms", "p99 ms", "CPU us", "calls"]
    return [
        Table("Monitors under load", head, rows, left=3, spare=[RANGE, "calls", "p50 ms", "p99 ms"]),
        _costs(report),
        _servers(report),
        Table("Order, best first: rate, and CPU per request", ["idle", "active", "by", "order"], orders, left=4),
    ]


def _costs(report: Report) -> Table:
    """Return what is left of each monitor's requests/s beside the most idle connections that it was measured with."""
    found = groups(report)
    rows = []
    for name in report["plan"]["monitors"]:
        for active in report["plan"]["active"]:
            idle = [idle for (idle, count), cells in found.items() if count == active and name in cells]
            if not idle or min(idle) or not max(idle):
                continue
            none, most = found[0, active][name], found[max(idle), active][name]
            rates = [_grouped(summary(values(cell, "rate")).median) for cell in (none, most)]
            rows.append([name, f"{active}", f"{max(idle):,}", *rates, _share(most, none)])
    head = ["monitor", "active", "idle", "without", "with", "of that"]
    return Table("What idle connections cost: requests/s without and with them", head, rows, left=1)


def _left_out(report: Report, name: str, idle: int, active: int) -> str:
    for each in report["left_out"]:
        if each["monitor"] == name and each["idle"] == idle and active in each["active"]:
            return str(each["why"])
    return ""


def _figures(cell: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    """Return requests/s, their spread, their share of the base's, p50, p99 and CPU."""
    rate = summary(values(cell, "rate"))
    return [
        _grouped(rate.median),
        f"{_grouped(rate.lowest)} to {_grouped(rate.highest)}",
        _share(cell, base),
        _scaled(cell, "p50", 1e3, 2),
        _scaled(cell, "p99", 1e3, 2),
        _scaled(cell, "cpu", 1e6, 1),
    ]


def _share(cell: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    if base is None or base is cell:
        return ""
    own, others = values(cell, "rate"), values(base, "rate")
    other = summary(others).median
    if not other:
        return UNKNOWN
    return f"{summary(own).median / other:.2f}x" + ("" if told_apart(own, others) else " ~")


def _calls(cell: Mapping[str, Any]) -> str:
    return f"{cell['calls']:.2f}" if cell.get("calls") else UNKNOWN


def _servers(report: Report) -> Table:
    rows = [
        [
            f"{server['idle']:,}",
            server["monitor"],
            _scaled(server, "wake_p50", 1e6, 0),
            _spread(server, "wake_p50", 1e6),
            _scaled(server, "wake_p99", 1e6, 0),
            _scaled(server, "memory", 1, 0) if server["idle"] >= MEMORY_FROM else UNKNOWN,
        ]
        for server in report["servers"]
    ]
    head = ["idle", "monitor", "wake p50 us", RANGE, "wake p99 us", "bytes/idle"]
    return Table("Waking up, and memory", head, rows, left=2, spare=[RANGE])


def _grouped(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:,.0f}"


def _scaled(cell: Mapping[str, Any], name: str, factor: float, digits: int) -> str:
    value = summary(values(cell, name)).median
    return UNKNOWN if math.isnan(value) else f"{value * factor:,.{digits}f}"


def _spread(cell: Mapping[str, Any], name: str, factor: float) -> str:
    found = summary(values(cell, name))
    return UNKNOWN if not found.rounds else f"{found.lowest * factor:,.0f} to {found.highest * factor:,.0f}"


# --- Peers -----------------------------------------------------------------------------------------------------------


def _peers(report: Report) -> list[Table]:
    base = _base(report)
    found = groups(report)
    made = []
    head = ["server", "requests/s", RANGE, f"of {base}", "p50 ms", "p99 ms", "CPU us", "MB"]
    for name, title in report["plan"]["scenarios"].items():
        cells = found.get((name,), {})
        rows = []
        for server in _by_rate(cells):
            cell = cells[server]
            shown = server + (TROUBLE if troubled(cell) else "")
            rows.append([shown, *_figures(cell, cells.get(base)), _scaled(cell, "memory", 1e-6, 1)])
        rows += [[server, why] for server, why in failed(report, name).items()]
        if rows:
            made.append(Table(f"{name}: {title}", head, rows, spare=[RANGE, "MB", "p50 ms", "CPU us"]))
    return made


def troubled(cell: Mapping[str, Any]) -> bool:
    """Whether a server failed in some rounds, or some of its answers did: the figures are of the others."""
    return bool(cell.get("failed")) or any(sum(errors.values()) for errors in cell.get("errors", ()))


def failed(report: Report, scenario: str) -> dict[str, str]:
    """Return the servers that did not get through a scenario, and why."""
    return {each["server"]: each["why"] for each in report["left_out"] if each["scenario"] == scenario}


def _by_rate(cells: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    return sorted(cells, key=lambda name: -summary(values(cells[name], "rate")).median)
