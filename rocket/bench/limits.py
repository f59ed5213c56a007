"""The limit on open files, raised as far as it goes."""

from __future__ import annotations

import resource
from typing import Optional

SPARE = 60  # descriptors besides the connections: the standard ones, selectors, pipes, modules that are being imported


def raise_open_files(connections: int) -> Optional[str]:
    """Raise this process's limit, which its children inherit, so that it can hold *connections*.

    Return None if it can, or else why it cannot. Never lowers the limit.
    """
    wanted = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    except (ValueError, OSError) as exc:  # macOS: the hard limit says infinity, kern.maxfilesperproc says less
        return f"{connections:,} connections need {wanted:,} open files; the limit of {soft:,} cannot be raised: {exc}"
    if reachable < wanted:
        return f"{connections:,} connections need {wanted:,} open files, and the hard limit (ulimit -Hn) is {hard:,}"
    return None


def room() -> int:
    """Return how many connections this process, or a child of it, can have once its limit is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return 1_000_000 if hard == resource.RLIM_INFINITY else max(0, hard - SPARE)
    return max(0, max(soft, hard) - SPARE)
