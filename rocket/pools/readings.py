"""What the host says: CPUs that may be used, memory, load. The only import of psutil.

Each call of psutil makes several system calls, and each of those lets the GIL go: 15 ms beside one thread that
computes. So nothing here is asked more than once a second, and only what is wanted.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Callable, NamedTuple, Optional, TypedDict

from rocket import gil

CPUS_AGE = 30.0  # s: quotas and affinities change while a process runs, though seldom
DEAR_AGE = 1.0  # s

Read = Callable[[str], str]


class Dear(TypedDict, total=False):
    """Fields of `Readings` that cost something."""

    host_cpu: Optional[float]
    load1: Optional[float]
    mem_free: Optional[float]
    swap_free: Optional[float]
    rss: Optional[int]
    throttled: Optional[float]


class Groups(NamedTuple):
    """The folders of our cgroups and of all their ancestors: a limit of any of them holds for us."""

    cpu: list[str]
    memory: list[str]
    pids: list[str]


class Sampler:
    """Keep what was read for as long as it is good. Not thread-safe: the controller's."""

    def __init__(self, read: Optional[Read] = None) -> None:
        self._usual_read = self._read = read or read_file
        self._groups = Groups([], [], [])
        self._cpus = 1.0
        self._limited = False  # whether a cgroup has a quota
        self._cpus_at = -CPUS_AGE  # monotonic s
        self._dear: Dear = {}
        self._dear_at = -DEAR_AGE
        self._throttled = 0.0  # s, since the cgroup was made

    def keep_gil(self, keep: bool) -> None:
        """Read without letting the GIL go, or in the usual way: a file takes 0.1 s beside four threads that compute."""
        self._read = _read_keeping if keep and self._usual_read is read_file else self._usual_read

    def cpus(self, now: float) -> float:
        """Return the CPUs that the process may use, as a float: a quota may be 1.5."""
        if now - self._cpus_at >= CPUS_AGE:
            self._cpus_at = now
            self._groups = find_groups(self._read("/proc/self/cgroup"), self._read("/proc/self/mountinfo"))
            self._cpus = effective_cpus(allowed_cpus(), self._groups.cpu, self._read)
            self._limited = any(_quota(folder, self._read) is not None for folder in self._groups.cpu)
        return self._cpus

    def dear(self, now: float, needs: frozenset[str]) -> Dear:
        """Return the readings that *needs* names, at most a second old; what cannot be had is None."""
        dt = now - self._dear_at
        if not needs:
            return {}
        if dt >= DEAR_AGE or not needs <= self._dear.keys():
            self.cpus(now)  # finds the cgroups
            self._dear_at = now
            self._dear = self._sample(needs, dt)
        return self._dear

    def _sample(self, needs: frozenset[str], dt: float) -> Dear:
        sample: Dear = {}
        if "host_cpu" in needs:
            # What psutil says the first time is the mean since the host's start, or 0.
            known = self._dear.get("host_cpu", -1.0) != -1.0
            percent = _ask_psutil(lambda psutil: float(psutil.cpu_percent(None)) / 100)
            sample["host_cpu"] = percent if known else None
        if "load1" in needs:
            sample["load1"] = _load_average()
        if "mem_free" in needs:
            sample["mem_free"] = free_memory(self._groups.memory, self._read)
        if "swap_free" in needs:
            sample["swap_free"] = _ask_psutil(lambda psutil: 1 - float(psutil.swap_memory().percent) / 100)
        if "rss" in needs:
            rss = _ask_psutil(lambda psutil: float(psutil.Process().memory_info().rss))
            sample["rss"] = None if rss is None else int(rss)
        if "throttled" in needs:
            folders = self._groups.cpu if self._limited else []  # nothing to read, usually
            before, self._throttled = self._throttled, throttled_seconds(folders, self._read)
            known = "throttled" in self._dear
            sample["throttled"] = min(1.0, max(0.0, self._throttled - before) / dt) if known else 0.0
        return sample


# --- CPUs ------------------------------------------------------------------------------------------------------------


def allowed_cpus() -> int:
    """Return how many CPUs the affinity mask allows, or how many there are."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def effective_cpus(allowed: int, folders: list[str], read: Read) -> float:
    """Return the CPUs that can be used: those *allowed*, or the smallest quota of the cgroups in *folders*."""
    quotas = [quota for folder in folders for quota in [_quota(folder, read)] if quota is not None]
    return max(0.01, min([float(allowed), *quotas]))


def _quota(folder: str, read: Read) -> Optional[float]:
    """Return the CPUs' worth of time that a cgroup has (cgroup-v2.rst; sched-bwc.rst for v1); None: no limit."""
    words = read(f"{folder}/cpu.max").split() or [
        read(f"{folder}/cpu.cfs_quota_us").strip(),
        read(f"{folder}/cpu.cfs_period_us").strip(),
    ]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):
        return None  # "max", or no such file
    return quota / period if quota > 0 and period > 0 else None


def throttled_seconds(folders: list[str], read: Read) -> float:
    """Return for how long the quotas of *folders* have stopped their processes; the longest."""
    longest = 0.0
    for folder in folders:
        text = read(f"{folder}/cpu.stat")
        for key, unit in (("throttled_usec", 1e-6), ("throttled_time", 1e-9)):
            match = re.search(rf"^{key} (\d+)$", text, re.MULTILINE)
            if match:
                longest = max(longest, int(match[1]) * unit)
    return longest


# --- cgroups ---------------------------------------------------------------------------------------------------------


def find_groups(cgroup: str, mountinfo: str) -> Groups:
    """Return the folders of our cgroups, leaves first, from the texts of /proc/self/cgroup and /proc/self/mountinfo.

    Both versions, also side by side. In a container what is mounted may be a part of the tree (proc(5)).
    """
    ours: dict[str, str] = {}  # controller, or "" for version 2 -> path
    for line in cgroup.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            for controller in fields[1].split(","):
                ours[controller] = fields[2]
    cpu: list[str] = []
    memory: list[str] = []
    pids: list[str] = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount, kind = left.split(), right.split()
        if len(mount) < 5 or not kind:
            continue
        root, point = map(_unescape, mount[3:5])
        if kind[0] == "cgroup2" and "" in ours:
            folders = _lineage(point, root, ours[""])
            cpu += folders
            memory += folders
            pids += folders
        elif kind[0] == "cgroup":
            options = kind[-1].split(",")
            for controller, found in (("cpu", cpu), ("memory", memory), ("pids", pids)):
                if controller in options and controller in ours:
                    found += _lineage(point, root, ours[controller])
    return Groups(cpu, memory, pids)


def _unescape(path: str) -> str:
    """Return *path* as it is: proc(5) writes spaces, tabs and the like as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _lineage(point: str, root: str, path: str) -> list[str]:
    """Return the folder of the cgroup *path* and those above it, where its tree's *root* is mounted at *point*."""
    if root != "/":
        path = path[len(root) :] if path == root or path.startswith(f"{root}/") else ""
    names = [name for name in path.split("/") if name]
    if ".." in names:  # outside of our cgroup namespace
        names = []
    return ["/".join([point, *names[:depth]]) for depth in range(len(names), -1, -1)]


# --- Memory and load -------------------------------------------------------------------------------------------------


def free_memory(folders: list[str], read: Read) -> Optional[float]:
    """Return the share of the memory that could still be had: the host's, or that of the tightest cgroup in *folders*.

    What only caches files counts as free.
    """
    shares = [share for folder in folders for share in [_free_of_limit(folder, read)] if share is not None]
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", read("/proc/meminfo"), re.MULTILINE))
    if "MemAvailable" in found and int(found.get("MemTotal", 0)):
        shares.append(int(found["MemAvailable"]) / int(found["MemTotal"]))
    else:
        host = _ask_psutil(lambda psutil: psutil.virtual_memory().available / psutil.virtual_memory().total)
        shares += [] if host is None else [host]
    return min(shares) if shares else None


def total_memory(folders: list[str], read: Read) -> tuple[Optional[int], bool]:
    """Return the bytes that there are for us, and whether a cgroup in *folders* sets that limit, not the host."""
    limits = [limit for folder in folders for limit in [_memory_limit(folder, read)] if limit is not None]
    match = re.search(r"^MemTotal: +(\d+) kB$", read("/proc/meminfo"), re.MULTILINE)
    total = int(match[1]) * 1024 if match else _ask_psutil(lambda psutil: psutil.virtual_memory().total)
    tightest = min(limits, default=None)
    if tightest is not None and (total is None or tightest < total):
        return tightest, True
    return None if total is None else int(total), False


def _memory_limit(folder: str, read: Read) -> Optional[int]:
    """Return the bytes that a cgroup may have; None: no limit. Version 1 says that by a very large number."""
    text = (read(f"{folder}/memory.max") or read(f"{folder}/memory.limit_in_bytes")).strip()
    return int(text) if text.isdigit() and 0 < int(text) < 1 << 60 else None


def _free_of_limit(folder: str, read: Read) -> Optional[float]:
    limit = _memory_limit(folder, read)
    try:
        used = int(read(f"{folder}/memory.current") or read(f"{folder}/memory.usage_in_bytes"))
    except ValueError:
        return None  # no such file
    if limit is None:
        return None
    match = re.search(r"^(?:total_)?inactive_file (\d+)$", read(f"{folder}/memory.stat"), re.MULTILINE)
    cached = int(match[1]) if match else 0
    return min(1.0, max(0.0, (limit - used + cached) / limit))


def _load_average() -> Optional[float]:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _ask_psutil(question: Callable[..., float]) -> Optional[float]:
    """Return the answer of *question(psutil)*; None if it cannot be had here."""
    try:
        import psutil

        return question(psutil)
    except Exception:  # psutil.Error, or what a platform's /proc makes it stumble over
        return None


def _read_keeping(path: str) -> str:
    """Do as `read_file`, but let the GIL go only where another file system (lxcfs) may take its time."""
    return gil.read_text(path) if gil.is_kernels(path) else read_file(path)


def read_file(path: str) -> str:
    """Return the text of *path*; "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
