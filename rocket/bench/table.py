"""Reports as tables: for the terminal, with rich or without, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocket.bench.measure import describe
from rocket.bench.report import Report, groups, values, warnings
from rocket.bench.stats import order, summary, told_apart

UNKNOWN = "-"
MEMORY_FROM = 1000  # idle connections; the memory of fewer is lost in that of the pages it comes in


@dataclass
class Table:
    """A table of texts. The first *left* columns are words, the others numbers."""

    title: str
    head: Sequence[str]
    rows: list[list[str]]
    left: int = 1

    def plain(self) -> str:
        """Return it with columns that are padded with spaces."""
        widths = [max(len(row[i]) for row in [list(self.head), *self.rows]) for i in range(len(self.head))]
        lines = [self.title, "", self._line(self.head, widths), "  ".join("-" * width for width in widths)]
        return "\n".join([*lines, *(self._line(row, widths) for row in self.rows)])

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = [
            cell.ljust(width) if i < self.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ]
        return "  ".join(padded).rstrip()

    def markdown(self) -> str:
        """Return it as Markdown, without the title."""
        marks = ["---" if i < self.left else "--:" for i in range(len(self.head))]
        return "\n".join("| " + " | ".join(row) + " |" for row in [list(self.head), marks, *self.rows])

    def rich(self) -> Any:
        """Return it as a table of rich. Raises ImportError without rich."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        made = RichTable(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for i, name in enumerate(self.head):
            made.add_column(name, justify="left" if i < self.left else "right", no_wrap=True)
        for row in self.rows:
            made.add_row(*map(Text, row))
        return made


def tables(report: Report) -> list[Table]:
    """Return the tables of a report, of any kind."""
    made = _monitors(report) if report["kind"] == "monitors" else _peers(report)
    return [table for table in made if table.rows]


def show(report: Report, *, colours: bool) -> str:
    """Return what a person is to see of *report*: its tables, and what must be known about them."""
    made = tables(report)
    if colours:
        from rich.console import Console

        # As wide as it must be: cut off figures are worse than lines that a narrow terminal wraps.
        width = max(len(line) for table in made for line in table.plain().splitlines())
        console = Console(width=width + 4 * max(len(table.head) for table in made), force_terminal=True)
        with console.capture() as capture:
            for table in made:
                console.print(table.rich())
        text = capture.get()
    else:
        text = "\n\n".join(table.plain() for table in made)
    notes = [f"warning: {line}" for line in warnings(report)]
    return "\n".join([text.rstrip(), "", *legend(report), *notes])


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
    if report["kind"] == "monitors":
        counted = f"counted by {report['calls_by']}" if report["calls_by"] else "not counted, this host has no tool"
        lines.append(f"Load: {report['generator']}. System calls: all of the server's, {counted}.")
        lines.append("Wake: from send to the answer, on an idle server. Memory: resident, for each idle connection.")
    else:
        lines.append(f"Load: {report['generator']}. Memory: resident, after the load, all processes of the server.")
        versions = ", ".join(f"{name} {version}" for name, version in report["machine"]["versions"].items())
        lines.append(f"Peers: {versions or 'none'}; on Python {report['machine']['peers_python']}.")
    return lines


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
                    rows.append([f"{idle:,}", f"{active}", name, why, *[UNKNOWN] * 6])
            if len(cells) > 1:
                rates = {name: values(cell, "rate") for name, cell in cells.items()}
                speeds = {name: [1 / value for value in values(cell, "cpu") if value] for name, cell in cells.items()}
                orders.append([f"{idle:,}", f"{active}", order(rates), order(speeds)])
    head = ["idle", "active", "monitor", "requests/s", "lowest to highest", f"of {base}", "p50 ms", "p99 ms"]
    return [
        Table("Monitors under load", [*head, "CPU us/request", "calls/request"], rows, left=3),
        _costs(report),
        _servers(report),
        Table("Order, best first", ["idle", "active", "by requests/s", "by CPU per request"], orders, left=4),
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
    head = ["monitor", "active", "idle", "requests/s without", "requests/s with", "of that"]
    return Table("What idle connections cost", head, rows, left=1)


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
    head = ["idle", "monitor", "wake p50 us", "lowest to highest", "wake p99 us", "bytes/idle connection"]
    return Table("Waking up, and memory", head, rows, left=2)


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
    head = ["server", "requests/s", "lowest to highest", f"of {base}", "p50 ms", "p99 ms", "CPU us/request", "MB"]
    for name, title in report["plan"]["scenarios"].items():
        cells = found.get((name,), {})
        rows = []
        for server in _by_rate(cells):
            cell = cells[server]
            rows.append([server, *_figures(cell, cells.get(base)), _scaled(cell, "memory", 1e-6, 1)])
        rows += [[server, UNKNOWN, why, *[UNKNOWN] * 5] for server, why in failed(report, name).items()]
        if rows:
            made.append(Table(f"{name}: {title}", head, rows))
    return made


def failed(report: Report, scenario: str) -> dict[str, str]:
    """Return the servers that did not get through a scenario, and why."""
    return {each["server"]: each["why"] for each in report["left_out"] if each["scenario"] == scenario}


def _by_rate(cells: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    return sorted(cells, key=lambda name: -summary(values(cells[name], "rate")).median)
