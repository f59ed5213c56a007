"""What can be seen to be wrong before there is traffic: `rocket check`.

Each check is a function from a `Subject` (the options, the host's figures, what is known of the application) to
complaints, so a test needs neither the host nor the application. To add one: the function, a line in CHECKS with the
next number, and a section in docs/checks.md.
"""

from __future__ import annotations

from collections.abc import Collection

from rocket.checks import connections, databases, resources
from rocket.checks.application import Application, look_at
from rocket.checks.base import ERROR, WARNING, Check, Complaint, Finding, Subject
from rocket.checks.host import Host, read_host

__all__ = [
    "CHECKS",
    "ERROR",
    "WARNING",
    "Application",
    "Check",
    "Complaint",
    "Finding",
    "Host",
    "Subject",
    "look_at",
    "read_host",
    "run",
]

CHECKS = (
    Check("RKT-001", "fewer open files than connections", connections.open_files),
    Check("RKT-002", "the backlog is cut", connections.backlog),
    Check("RKT-003", "select holds too few connections", connections.select_is_full),
    Check("RKT-004", "a monitor that scans all connections", connections.monitor_scans),
    Check("RKT-005", "the load balancer keeps connections for longer", connections.keep_alive),
    Check("RKT-006", "CPUs that do not fit the pool", resources.cpu_quota),
    Check("RKT-007", "less memory than requests may hold", resources.memory),
    Check("RKT-008", "fewer threads than the pool wants", resources.threads_allowed),
    Check("RKT-009", "an SQLAlchemy pool smaller than the threads", databases.sqlalchemy_pool),
    Check("RKT-010", "a Django pool smaller than the threads", databases.django_pool),
    Check("RKT-011", "more kept connections than the database allows", databases.django_kept),
    Check("RKT-012", "a monitor that this Python has not", connections.monitor_exists),
)


def run(subject: Subject, ignore: Collection[str] = ()) -> list[Finding]:
    """Return what all checks find, errors first, but for those whose numbers are in *ignore*."""
    findings = [
        Finding(check.number, check.title, severity, message, repair, check.page)
        for check in CHECKS
        if check.number not in ignore
        for severity, message, repair in check.look(subject)
    ]
    return sorted(findings, key=lambda finding: finding.severity != ERROR)
