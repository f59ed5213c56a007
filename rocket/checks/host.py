"""The host's figures that the checks compare with: a value each, read once."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from rocket import monitors
from rocket.gil import gil_enabled
from rocket.monitors.select import SelectMonitor
from rocket.pools.readings import (
    Groups,
    Read,
    allowed_cpus,
    effective_cpus,
    find_groups,
    read_file,
    total_memory,
)

SYSCTLS = ("kern.ipc.soacceptqueue", "kern.somaxconn", "kern.ipc.somaxconn")  # FreeBSD; OpenBSD, NetBSD; older ones


@dataclass(frozen=True)
class Host:
    """What the system gives us. None: there is no limit, or it cannot be known."""

    open_files: Optional[int] = None  # descriptors, the soft limit
    open_files_most: Optional[int] = None  # the hard one: what we may raise it to
    somaxconn: Optional[int] = None  # connections that a listening socket may keep waiting
    cpus: float = 1.0  # that the process may use: affinity and quotas
    allowed_cpus: int = 1  # by the affinity alone
    memory: Optional[int] = None  # bytes in all: the tightest cgroup's limit, or the host's
    memory_limited: bool = False  # by a cgroup
    threads: Optional[int] = None  # that may still be started
    threads_limit: str = ""  # what limits them
    gil: bool = True
    python: str = ""
    monitors: Mapping[str, Optional[str]] = field(default_factory=dict)  # name -> why it is not to be had
    select_size: int = 1024  # descriptors that select(2) can hold


def read_host(read: Read = read_file) -> Host:
    """Ask the system, through *read* what is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    groups = find_groups(read("/proc/self/cgroup"), read("/proc/self/mountinfo"))
    memory, limited = total_memory(groups.memory, read)
    threads, threads_limit = startable_threads(groups, read)
    return Host(
        open_files=_limit(soft),
        open_files_most=_limit(hard),
        somaxconn=somaxconn(read),
        cpus=effective_cpus(allowed_cpus(), groups.cpu, read),
        allowed_cpus=allowed_cpus(),
        memory=memory,
        memory_limited=limited,
        threads=threads,
        threads_limit=threads_limit,
        gil=gil_enabled(),
        python=sys.version.split()[0],
        monitors=monitors.available(),
        select_size=(SelectMonitor.max_fd or 1023) + 1,
    )


def _limit(value: int) -> Optional[int]:
    return None if value == resource.RLIM_INFINITY else value


def somaxconn(read: Read) -> Optional[int]:
    """Return the most connections that listen(2) grants."""
    text = read("/proc/sys/net/core/somaxconn").strip()
    if not text and sys.platform != "linux":
        text = _sysctl()
    return int(text) if text.isdigit() else None


def _sysctl() -> str:
    import subprocess

    for name in SYSCTLS:
        try:
            done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0:
            return done.stdout.strip()
    return ""


def startable_threads(groups: Groups, read: Read) -> tuple[Optional[int], str]:
    """Return how many threads may still be started, and what limits them.

    That is the tightest of pids.max of our cgroups (it counts threads) and RLIMIT_NPROC, which does not hold for root.
    """
    found: list[tuple[int, str]] = []
    for folder in groups.pids:
        limit, used = read(f"{folder}/pids.max").strip(), read(f"{folder}/pids.current").strip()
        if limit.isdigit() and used.isdigit():
            found.append((max(0, int(limit) - int(used)), f"{folder}/pids.max is {limit}, and {used} are in use"))
    soft = _limit(resource.getrlimit(resource.RLIMIT_NPROC)[0])
    if soft is not None and os.geteuid() != 0:
        found.append((soft, f"ulimit -u is {soft}, and the user's other threads count, too"))
    return min(found) if found else (None, "")
