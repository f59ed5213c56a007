"""What came of it, as text: the tables, the limit, and the block for the configuration with a reason for each line."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Optional

from rocket.config import OPTIONS, Config
from rocket.tuning.candidates import needed
from rocket.tuning.limits import GIL, OWN, WAITING, Limit
from rocket.tuning.samples import Sample, Setting, ms
from rocket.tuning.session import Outcome
from rocket.tuning.verdict import Verdict, p99, rate, spread

RANGE = "lowest to highest"
WIDTH = 79  # of a comment: what is shown in the narrowest terminal, and pasted
SPARE = ("p50 ms", RANGE, "idle", "at work", "rounds", "failed")  # columns, the one that is missed least first
LAST = "<- knee not reached"
SWEEP_NOTE = "CPU: cores that the workers used; idle: cores of the host that nobody used."
RATES_NOTE = "Sent and answered: in the same seconds, so some answers are to requests from just before."

Row = Sequence[str]


# --- The block -------------------------------------------------------------------------------------------------------


def block(outcome: Outcome, config: Config) -> str:
    """Return a [tool.rocket] table in TOML; a comment before each line says why."""
    lines = ["[tool.rocket]"]
    if outcome.limit is not None:
        lines += _comment(f"The limit is {outcome.limit.name}: {outcome.limit.evidence[0]}.")
    for name, value, reason in _lines(outcome, config):
        lines += _comment(reason)
        lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _lines(outcome: Outcome, config: Config) -> Iterator[tuple[str, object, str]]:
    verdict, limit = outcome.verdict, outcome.limit
    choice, now = verdict.choice, outcome.now
    changed = "" if verdict.certain else "cannot tell, kept: "
    measured = f"{changed}{verdict.reason}"
    yield "scaling", choice.scaling, _scaling_reason(outcome, verdict, measured)
    yield "max_threads", choice.max_threads, _threads_reason(outcome, limit, measured)
    low = choice.min_threads
    if choice.scaling == "fixed":
        yield "min_threads", low, "a fixed number: all are there from the start"
    elif low == now.min_threads:
        yield "min_threads", low, "kept: the pool grows within a tenth of a second when requests wait"
    else:
        yield "min_threads", low, "no more than max_threads"
    yield "monitor", choice.monitor, _monitor_reason(outcome)
    queue = _queue(outcome, config)
    if queue is not None:
        yield queue


def _scaling_reason(outcome: Outcome, verdict: Verdict, measured: str) -> str:
    choice, now = verdict.choice, outcome.now
    if choice.scaling == now.scaling:
        same = [
            setting for setting in outcome.rounds if setting.max_threads == choice.max_threads and setting != choice
        ]
        if same and verdict.certain:
            others = ", ".join(f"{each} {rate(outcome.rounds[each]):,.0f}/s" for each in same)
            return f"kept: with as many threads others are not better beyond the noise ({others})"
        return "kept" if verdict.certain else measured
    return measured


def _threads_reason(outcome: Outcome, limit: Optional[Limit], measured: str) -> str:
    if limit is None:
        return measured
    bend = outcome.knee
    threads = needed(limit, bend.connections if bend else 1, outcome.load)
    if limit.kind == WAITING:
        why = f"requests wait, so {outcome.load} clients keep {threads} threads busy; the rest is for bursts"
    elif limit.kind == OWN:
        many = "1 request" if threads == 1 else f"{threads} requests"
        why = (
            f"the application lets about {many} go on at a time, and threads beyond that only wait there: first see "
            "whether that pool or lock can be larger"
        )
        if outcome.verdict.choice.max_threads < outcome.now.max_threads:
            why += "; if other URLs do not need it, name them, too (--url), before you take so few threads"
    elif limit.kind == GIL:
        many = "1 thread fills" if threads == 1 else f"about {threads} threads fill"
        why = f"{many} the one core that the GIL leaves; more bring nothing, further processes would"
    else:
        why = f"the limit is {limit.name}, which {threads} thread{'s reach' if threads > 1 else ' reaches'}"
    return f"{why}. {measured[0].upper()}{measured[1:]}"


def _monitor_reason(outcome: Outcome) -> str:
    choice = outcome.verdict.choice
    taken = f"that is {outcome.where.monitor} here" if choice.monitor == "auto" else "as it was"
    if not outcome.idle:
        return f"{taken}; without many idle connections the choice does not matter (--idle 2000 compares)"
    seen = ", ".join(
        f"{setting.monitor} {rate(samples):,.0f}/s"
        for setting, samples in outcome.rounds.items()
        if (setting.max_threads, setting.scaling) == (outcome.now.max_threads, outcome.now.scaling)
    )
    return f"{taken}; beside {outcome.idle:,} idle connections: {seen}"


def _queue(outcome: Outcome, config: Config) -> Optional[tuple[str, object, str]]:
    """Return a shorter max_queue, if the queue is longer than what can be served before queue_timeout."""
    choice = outcome.verdict.choice
    samples = outcome.rounds.get(choice) or []
    if not samples or not config.queue_timeout or not rate(samples):
        return None
    served = rate(samples) * config.queue_timeout
    if served >= config.max_queue:
        return None
    length = max(outcome.load, 8 * math.floor(served / 8))
    if length >= config.max_queue:
        return None
    return (
        "max_queue",
        length,
        f"{config.max_queue:,} waiting requests would take {config.max_queue / rate(samples):,.0f} s, but after "
        f"queue_timeout ({config.queue_timeout:g} s) they are answered 503 anyhow: rather refuse at once",
    )


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)  # a basic string is JSON's


# --- The tables ------------------------------------------------------------------------------------------------------


def sweep_table(outcome: Outcome) -> tuple[Row, list[Row]]:
    """Return the heading and the rows of the sweep; the knee is marked."""
    bend = outcome.knee
    head = ["clients", "requests/s", "p50 ms", "p99 ms", "at work", "CPU", "idle", "failed", ""]
    rows = [
        [
            str(sample.connections),
            _rate(sample.rate),
            _ms(sample.p50),
            _ms(sample.p99),
            f"{sample.busy:.1f}",
            f"{sample.worker_cpu:.2f}",
            "?" if sample.idle_cpu is None else f"{sample.idle_cpu:.2f}",
            f"{sample.failed:,}",
            "" if sample is not bend else LAST if outcome.knee_is_last else "<- the knee",
        ]
        for sample in outcome.sweep
    ]
    if not any(sample.failed for sample in outcome.sweep):
        for row in [head, *rows]:
            del row[7]
    return head, list(rows)


def rounds_table(outcome: Outcome) -> tuple[Row, list[Row]]:
    """Return the heading and the rows of the comparison, the fastest first."""
    choice = outcome.verdict.choice
    head = ("setting", "requests/s", RANGE, "p99 ms", "rounds", "")
    ordered = sorted(outcome.rounds.items(), key=lambda item: -rate(item[1]))
    return head, [
        (
            str(setting),
            _rate(rate(samples)),
            f"{_rate(min(s.rate for s in samples))} to {_rate(max(s.rate for s in samples))}",
            _ms(p99(samples)),
            str(len(samples)),
            _mark(setting, outcome.now, choice),
        )
        for setting, samples in ordered
    ]


def rates_table(outcome: Outcome) -> tuple[Row, list[Row]]:
    """Return the heading and the rows of the rising rates."""
    head = ("sent/s", "answered/s", "p50 ms", "p99 ms", "not sent in time")
    return head, [
        (_rate(s.rate_sent or 0.0), _rate(s.rate), _ms(s.p50), _ms(s.p99), f"{s.unsent:,}") for s in outcome.rates
    ]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _mark(setting: Setting, now: Setting, choice: Setting) -> str:
    return {(True, True): "<- stays", (True, False): "as it is", (False, True): "<- the choice"}.get(
        (setting == now, setting == choice), ""
    )


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:.1f}"


def plain(head: Row, rows: Sequence[Row], width: Optional[int] = None) -> str:
    """Return a table without rich; where it is wider than *width*, without some columns that are missed least."""
    text = _plain(head, rows)
    for name in SPARE:
        if width is None or max(map(len, text.splitlines())) <= width:
            break
        kept = [i for i, each in enumerate(head) if each != name]
        head, rows = [head[i] for i in kept], [[row[i] for i in kept] for row in rows]
        text = _plain(head, rows)
    return text


def _plain(head: Row, rows: Sequence[Row]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        first, *others = (
            cell.ljust(width) if i == 0 or i == len(row) - 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


# --- The whole -------------------------------------------------------------------------------------------------------


def conclusion(outcome: Outcome) -> list[str]:
    """Return the limit, why it is thought so, and the knee, in sentences."""
    limit, bend = outcome.limit, outcome.knee
    if limit is None or bend is None:
        return ["nothing was measured"]
    lines = [f"The limit is {limit.name}:"]
    lines += [f"  * {sentence}" for sentence in limit.evidence]
    if not bend.requests:
        return lines
    figures = f"{bend.rate:,.0f} requests/s with a p99 of {ms(bend.p99)}"
    if outcome.knee_is_last:
        lines.append(
            f"The knee was not reached: the best is the last point, {_clients(bend.connections)}, {figures}. "
            "More --connections would tell where it is."
        )
    else:
        lines.append(
            f"The knee is at {_clients(bend.connections)}: {figures}. "
            "Below it more clients bring throughput, above it mostly latency."
        )
    return lines


def as_dict(outcome: Outcome, config: Config, *, app: str, paths: Sequence[str]) -> dict[str, Any]:
    """Return everything for JSON."""
    limit, verdict, bend = outcome.limit, outcome.verdict, outcome.knee
    return {
        "application": app,
        "paths": list(paths),
        "complete": outcome.complete,
        "seconds": round(outcome.seconds, 1),
        "clients": outcome.clients,
        "idle_connections": outcome.idle,
        "surroundings": asdict(outcome.where),
        "limit": None if limit is None else {"kind": limit.kind, "name": limit.name, "evidence": list(limit.evidence),
                                             "at_a_time": limit.at_a_time},
        "knee": None if bend is None else bend.connections,
        "knee_reached": bend is not None and not outcome.knee_is_last,
        "choice": {**verdict.choice.options(), "certain": verdict.certain, "reason": verdict.reason,
                   "noise": verdict.noise},
        "block": block(outcome, config),
        "sweep": [_sample(sample) for sample in outcome.sweep],
        "comparison": [
            {**setting.options(), "rate": rate(samples), "p99": _number(p99(samples)), "spread": spread(samples),
             "rounds": [_sample(sample) for sample in samples]}
            for setting, samples in outcome.rounds.items()
        ],
        "rates": [_sample(sample) for sample in outcome.rates],
        "notes": list(outcome.notes),
    }  # fmt: skip


def _sample(sample: Sample) -> dict[str, Any]:
    made = {**asdict(sample), "rate": sample.rate}
    return {name: _number(value) if isinstance(value, float) else value for name, value in made.items()}


def _number(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None  # JSON has no nan


def now_from(config: Config) -> Setting:
    """Return the setting that the options ask for. A policy or monitor must be given by name: it goes into a file."""
    return Setting(config.min_threads, config.max_threads, str(config.scaling), str(config.monitor))


TUNED = frozenset({"min_threads", "max_threads", "scaling", "monitor"})
_GROUPS = frozenset(
    OPTIONS[name].group for name in ("max_threads", "max_body_size", "body_buffer", "keep_alive")
)  # threads, limits, buffers, timeouts
_MORE = frozenset({"backlog", "max_connections", "max_requests_per_connection"})


def untuned(config: Config) -> dict[str, Any]:
    """Return the options, by name, with which the application is driven besides those that are tuned.

    Where it listens, what it logs and what is in front of it is left out: it is driven over plain HTTP on loopback.
    """
    return {
        name: value
        for name, value in config.as_dict().items()
        if (OPTIONS[name].group in _GROUPS or name in _MORE)
        and name not in TUNED
        and not OPTIONS[name].kind.python_only
        and value != OPTIONS[name].default
    }


def _clients(number: int) -> str:
    return f"{number} client{'' if number == 1 else 's'}"
