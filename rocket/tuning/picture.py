"""Draw it: throughput and latency against concurrency. Needs matplotlib (rocket[bench])."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from rocket.tuning.session import Outcome

# Okabe and Ito's colours, which people who cannot tell red from green can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"


def draw(outcome: Outcome, path: Path, title: str) -> None:
    """Write the picture to *path*. Raises ImportError without matplotlib, OSError if it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    samples = [sample for sample in outcome.sweep if sample.requests]
    clients = [sample.connections for sample in samples]
    figure = Figure(figsize=(9, 5.2), dpi=110)
    FigureCanvasAgg(figure)
    left: Any = figure.add_subplot()
    right: Any = left.twinx()
    (rates,) = left.plot(clients, [s.rate for s in samples], "o-", color=BLUE, label="throughput (left)")
    (tails,) = right.plot(clients, [s.p99 * 1e3 for s in samples], "s--", color=ORANGE, label="p99 latency (right)")
    shown = [rates, tails]
    bend, limit = outcome.knee, outcome.limit
    if bend is not None and samples:
        where = f"{bend.connections} client{'' if bend.connections == 1 else 's'}"
        knee_label = f"knee not reached: at the last point, {where}" if outcome.knee_is_last else f"knee: {where}"
        shown.append(left.axvline(bend.connections, color=GREY, linestyle=":", label=knee_label))
    left.set_xscale("log", base=2)
    left.set_xticks(clients)
    left.xaxis.set_minor_locator(NullLocator())
    for axis in (left.xaxis, left.yaxis, right.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    left.set_ylim(0, 1.05 * max((s.rate for s in samples), default=1))
    right.set_ylim(0, 1.05 * max((s.p99 * 1e3 for s in samples if isfinite(s.p99)), default=1))
    left.set_xlabel("clients at the same time (a thread for each)")
    left.set_ylabel("throughput, requests/s", color=BLUE)
    right.set_ylabel("p99 latency, ms", color=ORANGE)
    left.grid(visible=True, color="#dddddd", linewidth=0.6)
    left.set_title(title.replace("$", r"\$") + (f"\nlimit: {limit.name}" if limit is not None else ""), fontsize=11)
    left.legend(handles=shown, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=3, frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path)
