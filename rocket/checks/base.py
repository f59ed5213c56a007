"""What a check is, what it looks at, and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from rocket.checks.application import Application
from rocket.checks.host import Host
from rocket.config import Config
from rocket.pools import FixedPolicy, load

ERROR = "error"  # it will not start, or will refuse what it should serve
WARNING = "warning"  # it will bite under load


class Subject(NamedTuple):
    """All that a check may look at. None of it is asked of the system by the check itself."""

    config: Config
    host: Host
    application: Application = Application()
    behind: Optional[str] = None  # the load balancer in front, if the user has named it


class Complaint(NamedTuple):
    """What a check has found: the value and the limit, and the command or line that repairs it."""

    severity: str
    message: str
    repair: str


@dataclass(frozen=True)
class Check:
    """One check: *look* yields its complaints. The number never changes its meaning, and is never used again."""

    number: str
    title: str
    look: Callable[[Subject], Iterable[Complaint]]

    @property
    def page(self) -> str:
        return f"docs/checks.md#{self.number.lower()}"


@dataclass(frozen=True)
class Finding:
    """A complaint and the check that it comes from."""

    number: str
    title: str
    severity: str
    message: str
    repair: str
    page: str


def most_threads(config: Config) -> int:
    """Return how many threads may work at a time: max_threads, or what a fixed policy makes of it."""
    policy = load(config.scaling)  # type: ignore[arg-type]  # checked there
    if type(policy) is FixedPolicy and policy.n is not None:
        return max(config.min_threads, min(config.max_threads, policy.n))
    return config.max_threads
