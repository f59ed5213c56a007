"""The monitors by name: what this host has, and which one is meant.

To add a monitor: a file with a subclass of `Monitor` (or of `LazyMonitor`, then it has about 50 lines),
and a line in MONITORS. tests/monitors/test_contract.py then runs over it.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Callable, Optional, Union

from rocket.errors import MonitorUnavailable
from rocket.monitors.base import READ, WRITE, Monitor
from rocket.monitors.epoll import EpollMonitor
from rocket.monitors.kqueue import KqueueMonitor
from rocket.monitors.poll import PollMonitor
from rocket.monitors.select import SelectMonitor
from rocket.monitors.selectors import SelectorsMonitor

__all__ = ["MONITORS", "READ", "WRITE", "Monitor", "MonitorFactory", "available", "choose", "load", "opened"]

MonitorFactory = Callable[[], Monitor]

MONITORS: dict[str, type[Monitor]] = {  # in the order in which "auto" tries them
    "epoll": EpollMonitor,
    "kqueue": KqueueMonitor,
    "poll": PollMonitor,
    "select": SelectMonitor,
    "selectors": SelectorsMonitor,
}


def available(monitors: Mapping[str, type[Monitor]] = MONITORS) -> dict[str, Optional[str]]:
    """Return for each monitor's name None, or the reason why this host does not have it. Asks the host each time."""
    return {name: monitor.unavailable() for name, monitor in monitors.items()}


def choose(monitors: Mapping[str, type[Monitor]] = MONITORS) -> tuple[type[Monitor], str]:
    """Return the monitor that "auto" means on this host, and why, to be logged.

    Raises MonitorUnavailable if there is none.
    """
    for monitor in monitors.values():
        if monitor.unavailable() is None:
            return monitor, f"the first of {', '.join(monitors)} that this host has"
    raise MonitorUnavailable(f"this host has no monitor at all: {_report(monitors)}")


def load(monitor: Union[str, MonitorFactory], monitors: Mapping[str, type[Monitor]] = MONITORS) -> MonitorFactory:
    """Return what makes the monitor that *monitor* names. It is not opened: that is for the process that uses it.

    *monitor* is a name, "auto", a path such as "mypkg.uring:UringMonitor", a subclass of Monitor, or
    a callable that returns a monitor (which is returned as it is).

    Raises MonitorUnavailable if there is no such monitor, or this host does not have it. The message
    lists those that it has, and why it does not have the others.
    """
    if isinstance(monitor, str):
        if monitor == "auto":
            return choose(monitors)[0]
        found = _import(monitor) if ":" in monitor else _by_name(monitor, monitors)
    elif isinstance(monitor, type):
        found = _checked(monitor, monitor.__name__)
    elif callable(monitor):
        return monitor
    else:
        raise MonitorUnavailable(f"a monitor is named by a string, a class or a callable, not by {monitor!r}")
    reason = found.unavailable()
    if reason is not None:
        raise MonitorUnavailable(f"monitor {monitor!r} is not available: {reason}. {_report(monitors)}")
    return found


def opened(make: MonitorFactory, named: object) -> Monitor:
    """Return the monitor that *make* makes, in the process that uses it. *named* is what was asked for, for errors.

    Raises MonitorUnavailable: the host refuses it, for want of descriptors say, or it is no monitor.
    """
    try:
        monitor = make()
    except OSError as exc:
        raise MonitorUnavailable(f"monitor {named!r} cannot be opened: {exc.strerror or exc}") from exc
    if not isinstance(monitor, Monitor):
        raise MonitorUnavailable(f"monitor {named!r} made {monitor!r}, which is no rocket.monitors.Monitor")
    return monitor


def _by_name(name: str, monitors: Mapping[str, type[Monitor]]) -> type[Monitor]:
    if name in monitors:
        return monitors[name]
    near = get_close_matches(name.lower(), [*monitors, "auto"], n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise MonitorUnavailable(
        f"monitor {name!r} is unknown{meant}. {_report(monitors)}. "
        'Others are named by module and class: "mypkg.uring:UringMonitor"'
    )


def _import(path: str) -> type[Monitor]:
    module_name, _, attribute = path.partition(":")
    try:
        module = import_module(module_name)
    except Exception as exc:  # importing runs foreign code, which may raise anything
        raise MonitorUnavailable(
            f"monitor {path!r}: module {module_name!r} does not import: {type(exc).__name__}: {exc}"
        ) from exc
    try:
        found: object = getattr(module, attribute)
    except AttributeError as exc:
        raise MonitorUnavailable(f"monitor {path!r}: module {module_name!r} has no {attribute!r}") from exc
    return _checked(found, repr(path))


def _checked(found: object, named: str) -> type[Monitor]:
    if isinstance(found, type) and issubclass(found, Monitor):
        return found
    raise MonitorUnavailable(f"monitor {named} is {found!r}, which is not a subclass of rocket.monitors.Monitor")


def _report(monitors: Mapping[str, type[Monitor]]) -> str:
    reasons = available(monitors)
    here = ", ".join(name for name, reason in reasons.items() if reason is None)
    missing = "".join(f"; not {name}: {reason}" for name, reason in reasons.items() if reason is not None)
    return f"Available here: auto, {here or 'nothing else'}{missing}"
