"""Checks of what concerns connections: descriptors, the backlog, the monitor, how long idle ones are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Optional

from rocket.checks.base import ERROR, WARNING, Complaint, Subject
from rocket.errors import MonitorUnavailable
from rocket.monitors import load
from rocket.parts import RESERVE

SCALABLE = ("epoll", "kqueue")  # a poll costs by those that are ready, not by all
MANY = 1000  # connections

BALANCERS: dict[str, tuple[str, float]] = {  # seconds that each keeps an idle connection to us, unless told otherwise
    "alb": ("AWS Application and Classic Load Balancer", 60),
    "nginx": ("nginx (keepalive_timeout in upstream)", 60),
    "traefik": ("Traefik (idleConnTimeout)", 90),
    "caddy": ("Caddy (keepalive)", 120),
    "gcp": ("Google Cloud Application Load Balancer", 600),
    "envoy": ("Envoy (idle_timeout)", 3600),
}
USUAL = ("alb", "nginx")  # what is compared with if the user names none


def room_for_connections(open_files: Optional[int]) -> int:
    """Return how many connections that many descriptors allow: what the server leaves of them."""
    if open_files is None:
        return sys.maxsize
    return max(1, open_files - min(RESERVE, open_files // 4))


def open_files(subject: Subject) -> Iterator[Complaint]:
    """max_connections, or the backlog, needs more descriptors than we may open."""
    config, host = subject.config, subject.host
    room = room_for_connections(host.open_files)
    wanted = config.max_connections or config.backlog
    if room >= wanted:
        return
    what = f"max_connections is {wanted:,}" if config.max_connections else f"the backlog alone holds {wanted:,}"
    needed = wanted + RESERVE
    possible = host.open_files_most is None or host.open_files_most >= needed
    repair = f"ulimit -n {needed}, or LimitNOFILE={needed} in the systemd unit"
    if not possible:
        repair += f"; above the hard limit of {host.open_files_most:,}, so it takes root"
    yield Complaint(
        WARNING,
        f"the limit on open files is {host.open_files:,}, so no more than {room:,} connections are kept; {what}",
        repair,
    )


def backlog(subject: Subject) -> Iterator[Complaint]:
    """The system cuts the backlog."""
    most = subject.host.somaxconn
    if most is None or most >= subject.config.backlog:
        return
    name = "net.core.somaxconn" if sys.platform == "linux" else "kern.ipc.somaxconn (FreeBSD: soacceptqueue)"
    yield Complaint(
        WARNING,
        f"backlog is {subject.config.backlog:,}, but {name} is {most:,}: of a burst that is longer, clients wait for "
        "their SYN to be sent again, 1 s and more",
        f"sysctl -w {name.split(maxsplit=1)[0]}={subject.config.backlog}, or backlog = {most}",
    )


def select_is_full(subject: Subject) -> Iterator[Complaint]:
    """select(2) cannot hold the connections that are wanted."""
    config, host = subject.config, subject.host
    if _monitor_name(subject) != "select":
        return
    room = room_for_connections(host.select_size)
    wanted = _wanted(subject)
    if wanted <= room:
        return
    better = _better(subject)
    asked = "max_connections is" if config.max_connections else "the limit on open files would allow"
    yield Complaint(
        WARNING,
        f"select(2) holds descriptors below {host.select_size:,}, so no more than {room:,} connections are kept; "
        f"{asked} " + ("any number" if wanted == sys.maxsize else f"{wanted:,}"),
        f'monitor = "{better}"' if better else f"max_connections = {room}: this host has nothing better",
    )


def monitor_scans(subject: Subject) -> Iterator[Complaint]:
    """A monitor whose cost grows with all connections was chosen, where a better one is to be had."""
    name, better, wanted = _monitor_name(subject), _better(subject), _wanted(subject)
    if name != "poll" or better not in SCALABLE or wanted <= MANY:  # select holds no more than that
        return
    yield Complaint(
        WARNING,
        f"poll(2) looks at all connections each time, up to {wanted:,} here; {better} only at those that are ready "
        "(a tenth of the requests/s beside 5,000 idle connections, docs/tuning.md)",
        f'monitor = "{better}", or "auto"',
    )


def keep_alive(subject: Subject) -> Iterator[Complaint]:
    """We close idle connections before the load balancer does, and it meets closed ones."""
    ours = subject.config.keep_alive
    if ours == 0:  # Connection: close in each answer, so there is nothing to meet
        return
    names = (subject.behind,) if subject.behind else USUAL
    longer = [BALANCERS[name] for name in names if BALANCERS[name][1] >= ours]
    if not longer:
        return
    most = max(seconds for _, seconds in longer)
    wait = " and ".join(f"{title} {seconds:g} s" for title, seconds in longer)
    yield Complaint(
        WARNING,
        f"keep_alive is {ours:g} s, but idle connections are kept by {wait}: a request that is sent just when we close "
        "is answered 502 there",
        f"keep_alive = {most + 15:g}",
    )


def monitor_exists(subject: Subject) -> Iterator[Complaint]:
    """The monitor is not to be had here, or `auto` finds only one that scans: Python was built without the others."""
    config, host = subject.config, subject.host
    here = _monitors_here(subject)
    asked = config.monitor
    if isinstance(asked, str) and asked in host.monitors and host.monitors[asked] is not None:
        yield Complaint(
            ERROR,
            f"monitor is {asked}, which is not to be had here: {host.monitors[asked]}",
            f'monitor = "auto", which takes {here[0] if here else "none: there is no other"}',
        )
    elif isinstance(asked, str) and asked != "auto" and asked not in host.monitors:
        try:
            load(asked)
        except MonitorUnavailable as exc:
            yield Complaint(ERROR, str(exc), 'monitor = "auto"')
    elif asked == "auto" and not set(SCALABLE) & set(here):
        missing = "; ".join(f"{name}: {host.monitors[name]}" for name in SCALABLE if name in host.monitors)
        yield Complaint(
            WARNING,
            f"Python {host.python} has neither epoll nor kqueue ({missing}), so auto takes "
            f"{here[0] if here else 'nothing'}, whose polls cost by the number of all connections",
            "use a Python that was built on this system, with these calls",
        )


def _monitor_name(subject: Subject) -> str:
    """Return the monitor's name, also for `auto`; "" for somebody's own."""
    asked = subject.config.monitor
    if asked == "auto":
        return next(iter(_monitors_here(subject)), "")
    return asked if isinstance(asked, str) else ""


def _better(subject: Subject) -> str:
    """Return the best other monitor that the host has."""
    return next((name for name in _monitors_here(subject) if name != "select"), "")


def _monitors_here(subject: Subject) -> list[str]:
    """Return the monitors that the host has, in the order in which `auto` tries them."""
    return [name for name, reason in subject.host.monitors.items() if reason is None]


def _wanted(subject: Subject) -> int:
    """Return how many connections there may be: what is asked for, or else what the limit on open files allows."""
    return subject.config.max_connections or room_for_connections(subject.host.open_files)
