"""Draws what the simulator found. The only import of matplotlib."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rocket.pools.simulator import Result

BIN = 0.25  # s: what one point of the latency's line stands for


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw goal, busy workers, queue and latency over time, a line for each of *results*, into *path*.

    The file's suffix says the format. Raises ImportError without matplotlib, OSError if it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.style.use("tableau-colorblind10")  # comes with matplotlib: can be told apart by who sees no red or no green
    figure, (goals, busy, queue, latency) = plt.subplots(4, 1, sharex=True, figsize=(10, 11), layout="constrained")
    for number, result in enumerate(results):
        style = "-" if number else ":"  # the first is what the others are compared with
        times = [sample.time for sample in result.samples]
        (line,) = goals.step(
            times, [sample.goal for sample in result.samples], where="post", linestyle=style, label=result.policy
        )
        colour = line.get_color()
        busy.plot(times, [sample.busy for sample in result.samples], color=colour, linewidth=0.8)
        queue.plot(times, [sample.queued for sample in result.samples], color=colour, linewidth=0.8)
        latency.plot(*_slowest(result), color=colour, linewidth=0.8)
    figure.suptitle(results[0].workload)
    figure.legend(loc="outside lower center", ncols=len(results))
    goals.set_ylabel("goal (threads)")
    busy.set_ylabel("busy workers")
    queue.set_ylabel("queued requests")
    latency.set_ylabel("slowest request, ms")
    latency.set_xlabel("time of arrival, s")
    latency.set_yscale("log")
    queue.set_yscale("symlog", linthresh=10)
    queue.set_ylim(bottom=0)
    for axes in (goals, busy, queue, latency):
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=110)
    except ValueError as exc:  # an unknown suffix
        raise OSError(str(exc)) from exc
    finally:
        plt.close(figure)


def _slowest(result: Result) -> tuple[list[float], list[float]]:
    """Return times (s), and the highest latency (ms) of the requests that came in the BIN that began then."""
    bins: dict[int, float] = defaultdict(float)
    for time, seconds in result.latencies:
        bins[int(time / BIN)] = max(bins[int(time / BIN)], seconds)
    return [number * BIN for number in sorted(bins)], [bins[number] * 1e3 for number in sorted(bins)]
