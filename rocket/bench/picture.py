"""Reports as pictures. Needs matplotlib: ``pip install 'rocket[bench]'``.

Colours are Okabe and Ito's (Color Universal Design, 2008), told apart by all kinds of colour vision; each line has a
mark of its own, too, and its name at its end, so that it can be read printed grey.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rocket.bench.report import Report, groups, values
from rocket.bench.stats import Summary, summary
from rocket.bench.table import TROUBLE, failed, troubled

INK, PALE = "#222222", "#d8d8d8"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
FEW_DECADES = 30  # times: a logarithmic axis that reaches no further has hardly a number at its powers of ten
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def draw(report: Report, folder: Path, name: str) -> list[Path]:
    """Draw *report* into *folder* as SVG and PNG and return the paths. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings: Any = {"font.size": 10, "svg.hashsalt": "rocket", "text.color": INK, "axes.labelcolor": INK}
    settings.update({"axes.spines.top": False, "axes.spines.right": False})
    with pyplot.rc_context(settings):
        figure = (_monitors if report["kind"] == "monitors" else _peers)(report)
        paths = [folder / f"{name}.{suffix}" for suffix in ("svg", "png")]
        options: tuple[dict[str, Any], ...] = ({"metadata": {"Date": None}}, {"dpi": 120})
        for path, more in zip(paths, options):
            half = path.with_name(f".{path.name}.part")
            try:
                figure.savefig(half, format=path.suffix[1:], facecolor="white", **more)
                half.replace(path)  # whole, or not at all
            finally:
                half.unlink(missing_ok=True)
        pyplot.close(figure)
    return paths


# --- Monitors: figures over idle connections -------------------------------------------------------------------------

Lines = Mapping[str, Sequence[tuple[int, Summary]]]


def _monitors(report: Report) -> Any:
    """Three panels over the number of idle connections. Costs are on logarithmic axes: what grows as O(n) gets as steep
    as the dotted guide, be it at 500 connections (select has no more) or at 10,000."""
    from matplotlib import pyplot

    most, least = max(report["plan"]["active"]), min(report["plan"]["active"])
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 4.4), layout="constrained")
    panels = (
        (f"Requests/s, {_connections(most)} active", "thousand requests/s", 1e-3, _points(report, most, "rate")),
        (f"CPU per request, {_connections(least)} active", "microseconds", 1e6, _points(report, least, "cpu")),
        ("Wake latency of an idle server", "microseconds", 1e6, _wakes(report)),
    )
    for panel, (title, unit, factor, lines) in zip(axes, panels):
        _panel(panel, report, lines, factor, costs=unit == "microseconds")
        panel.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
        panel.set_ylabel(unit)
        panel.set_xlabel("idle connections")
    handles, words = axes[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=len(words), frameon=False)
    machine = report["machine"]
    figure.suptitle(
        f"Rocket's monitors beside idle connections: {machine['cpus']} CPUs, {machine['cpu']}, {machine['system']}, "
        f"{machine['python']}, {machine['date'][:10]}\n"
        f"marks: medians of {_rounds(report)}; bands: lowest to highest round",
        fontsize=9.5,
    )
    return figure


def _rounds(report: Report) -> str:
    """Return how many rounds there are, complete or not: as many as the table's."""
    count = max((len(cell["rate"]) for cell in report["cells"]), default=0)
    return f"{count} round{'' if count == 1 else 's'}"


def _connections(count: int) -> str:
    return f"{count:,} connection{'s' if count > 1 else ''}"


def _points(report: Report, active: int, figure: str) -> Lines:
    lines: dict[str, list[tuple[int, Summary]]] = {}
    for (idle, count), cells in groups(report).items():
        if count == active:
            for name, cell in cells.items():
                lines.setdefault(name, []).append((idle, summary(values(cell, figure))))
    return lines


def _wakes(report: Report) -> Lines:
    lines: dict[str, list[tuple[int, Summary]]] = {}
    for server in report["servers"]:
        lines.setdefault(server["monitor"], []).append((server["idle"], summary(values(server, "wake_p50"))))
    return lines


def _panel(panel: Any, report: Report, lines: Lines, factor: float, *, costs: bool) -> None:
    for number, name in enumerate(report["plan"]["monitors"]):
        points = [(idle, found) for idle, found in sorted(lines.get(name, ())) if found.rounds]
        if not points:
            continue
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        idle = [place for place, _ in points]
        lowest, highest = ([getattr(found, end) * factor for _, found in points] for end in ("lowest", "highest"))
        panel.fill_between(idle, lowest, highest, color=colour, alpha=0.18, linewidth=0)
        medians = [found.median * factor for _, found in points]
        why = _ends(report, name, idle[-1])
        label = f"{name} ({why})" if why else name
        panel.plot(idle, medians, color=colour, marker=mark, markersize=5, linewidth=1.6, label=label)
        if why:
            panel.plot(idle[-1], medians[-1], color=colour, marker="x", markersize=11, markeredgewidth=2)
    idle_axis(panel, report["plan"]["idle"])
    if costs:
        panel.set_yscale("log")
        _guide(panel, lines, factor)
    else:
        panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    lowest, highest = panel.get_ylim()
    few = costs and highest < FEW_DECADES * lowest
    panel.yaxis.set_minor_formatter(_two_and_five if few else "")
    panel.grid(axis="y", color=PALE, linewidth=0.6)
    panel.set_axisbelow(True)


def _two_and_five(value: float, _place: int) -> str:
    """Return the text at a minor tick of a logarithmic axis that has room for 20, 50, 200, 500 ..., too."""
    return f"{value:,.0f}" if f"{value:.0e}"[0] in "25" else ""


def idle_axis(panel: Any, idle: Sequence[int]) -> None:
    """Have a logarithmic axis that has room for 0, and a number at each mark, as far as they can be read."""
    least = min([count for count in idle if count] or [1])
    panel.set_xscale("symlog", linthresh=least, linscale=0.5)
    panel.set_xlim(-0.15 * least, max([least, *idle]) * 1.3)
    rows: tuple[list[int], ...] = ([], [])  # of labels, one under the other, for those that are near each other
    ends_first = sorted(set(idle), key=lambda count: (count not in {0, max(idle)}, str(count).strip("0") != "1", count))
    for count in ends_first:
        for row in rows:
            if all(count >= 3 * other or other >= 3 * count for other in row):
                row.append(count)
                break
    labels = {count: "\n" * place + f"{count:,}" for place, row in enumerate(rows) for count in row}
    panel.set_xticks(list(labels), list(labels.values()), fontsize=8.5)
    panel.set_xticks([], minor=True)


def _guide(panel: Any, lines: Lines, factor: float) -> None:
    """Draw how a cost grows that is proportional to the idle connections: dotted, through the highest point."""
    ends = [(idle, found.median * factor) for points in lines.values() for idle, found in points if idle]
    if not ends:
        return
    idle, top = max(ends, key=lambda end: end[1])
    bottom, _ = panel.get_ylim()
    first = max(4 * idle * bottom / top, min(place for place, _ in ends))
    if first * 3 > idle:
        return  # too short to compare anything with
    panel.plot([first, idle], [1.6 * top * first / idle, 1.6 * top], color=INK, linestyle=":", linewidth=1.2)
    middle = math.sqrt(first * idle)
    words, where = "proportional to\nidle connections", (middle, 1.6 * top * middle / idle)
    panel.annotate(words, where, xytext=(-5, 4), textcoords="offset points", ha="right", va="bottom", fontsize=8)


def _ends(report: Report, name: str, last: int) -> str:
    """Return why a monitor's line ends before the others' do; nothing if it does not."""
    for each in report["left_out"]:
        if each["monitor"] == name and each["idle"] > last:
            return str(each["why"])
    return ""


# --- Peers: bars -----------------------------------------------------------------------------------------------------

COMPILED = {"granian", "bjoern"}  # Rust and C; the others are Python
ROOM = 60  # characters in a panel
BLUE, GREY, ORANGE = "#0072b2", "#b0b0b0", "#e69f00"


def _peers(report: Report) -> Any:
    """A panel of bars for each scenario."""
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    found = groups(report)
    scenarios = [name for name in report["plan"]["scenarios"] if (name,) in found]
    rows = max(1, (len(scenarios) + 1) // 2)
    figure, axes = pyplot.subplots(rows, 2, figsize=(10, 0.9 + 2.2 * rows), squeeze=False, layout="constrained")
    for panel in axes.flat[len(scenarios) :]:
        panel.set_visible(False)
    for panel, name in zip(axes.flat, scenarios):
        _bars(panel, report, found[(name,)], failed(report, name))
        panel.set_title(report["plan"]["scenarios"][name], fontsize=10.5, loc="left", fontweight="bold")
    handles = [Patch(color=colour) for colour in (BLUE, GREY, ORANGE)]
    words = ["Rocket (Python)", "other servers in Python", "servers in Rust (granian) and C (bjoern)"]
    figure.legend(handles, words, loc="outside lower center", ncols=3, frameon=False)
    machine = report["machine"]
    figure.suptitle(
        f"Requests per second: {machine['cpus']} CPUs, {machine['cpu']}, load generator beside the server\n"
        f"longer is better; line: lowest to highest of {_rounds(report)}; {machine['date'][:10]}",
        fontsize=10.5,
    )
    return figure


def _bars(panel: Any, report: Report, cells: Mapping[str, Mapping[str, Any]], without: Mapping[str, str]) -> None:
    servers: Iterable[str] = [name for name in report["plan"]["servers"] if name in {*cells, *without}][::-1]
    rates = {name: summary(values(cells.get(name, {}), "rate")) for name in servers}
    longest = max([found.highest for found in rates.values() if found.rounds] + [1e-9])
    for place, (name, found) in enumerate(rates.items()):
        if not found.median > 0:
            why = textwrap.shorten(without.get(name, "no answers"), ROOM, placeholder=" ...")
            panel.text(0.02 * longest, place, why, va="center", fontsize=8.5)
            continue
        colour = BLUE if name == "rocket" else ORANGE if name in COMPILED else GREY
        panel.barh(place, found.median, color=colour, height=0.72)
        panel.plot([found.lowest, found.highest], [place, place], color=INK, linewidth=1)
        p99 = summary(values(cells[name], "p99")).median * 1e3
        words = f"{found.median:,.0f}   p99 {p99:,.1f} ms"
        panel.text(found.highest + 0.02 * longest, place, words, va="center", fontsize=8.5)
    names = [name + (TROUBLE if troubled(cells.get(name, {})) else "") for name in rates]
    panel.set_yticks(range(len(rates)), names)
    panel.set_ylim(-0.6, len(rates) - 0.4)
    panel.set_xlim(0, longest * 1.6)  # room for the words behind the longest bar
    panel.set_xlabel("requests/s", fontsize=8.5)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panel.set_xticks([tick for tick in panel.get_xticks() if 0 <= tick <= longest * 1.05])
    panel.tick_params(axis="x", labelsize=8)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
