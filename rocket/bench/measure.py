"""What a server costs: CPU, memory, system calls; and what machine it is. Needs psutil.

CPU time is what the operating system charges to the process and all that it has started; its clock goes in steps of
10 ms on Linux. Memory is the resident set.

System calls are counted in a run of their own, because that slows the server down. By `perf stat` where it may look at
the tracepoint raw_syscalls:sys_enter (little slower, so that the batches are those of real work), else by `strace -c`
(many times slower: a server that takes several events from one poll takes more of them then). Neither, as on FreeBSD
and macOS: not counted.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Optional

import psutil

from rocket.version import __version__


def _tree(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process, and those that it has started, have taken."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and those that it has started. Shared pages count in each."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


class Cost:
    """The CPU time of a process between `begin` and `end`, in seconds, and that of the whole host."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.seconds = 0.0
        self.host = 0.0  # of all processes on the host, this one among them

    def begin(self) -> None:
        self._own, self._all = cpu_seconds(self._pid), _busy_seconds()

    def end(self) -> None:
        self.seconds = cpu_seconds(self._pid) - self._own
        self.host = _busy_seconds() - self._all


def _busy_seconds() -> float:
    """Return the CPU time that the host has worked since it was started, on all its CPUs."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
    # guest time is in user time already
    return float(sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


# --- System calls ----------------------------------------------------------------------------------------------------


@dataclass
class Calls:
    """System calls that were counted, *by* which tool; by name where it tells."""

    total: int
    by: str
    names: dict[str, int] = field(default_factory=dict)


_PERF = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter"]
_STRACE_ROW = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\S+)$", re.MULTILINE)


def call_counter() -> Optional[str]:
    """Return the tool that counts system calls here: "perf", "strace" or None."""
    if shutil.which("perf") is not None:
        tried = subprocess.run([*_PERF, "true"], capture_output=True, text=True, check=False)
        if tried.returncode == 0 and _perf_count(tried.stderr):
            return "perf"
    if shutil.which("strace") is not None:
        command = ["strace", "-qq", "-o", os.devnull, "true"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return "strace"
    return None


def _perf_count(text: str) -> int:
    """Return the count in what perf stat -x, writes; 0 if it could not count."""
    found = re.search(r"^(\d+),[^,]*,raw_syscalls:sys_enter", text, re.MULTILINE)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def counted_calls(pid: int, by: str) -> Iterator[Calls]:
    """Count the system calls of a process in the block. What is yielded is filled when the block is left.

    Its total stays 0 if the tool may not look at the process (kernel.yama.ptrace_scope, for one).
    """
    calls = Calls(0, by)
    with tempfile.NamedTemporaryFile("r", prefix="rocket-bench-") as found:
        if by == "perf":
            # It counts for as long as the command runs, and runs it once it counts.
            command = [*_PERF, "-o", found.name, "-p", str(pid), "--", "sh", "-c", "echo counting; read line"]
        else:
            command = ["strace", "-f", "-c", "-o", found.name, "-p", str(pid)]
        tracer = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert tracer.stdout is not None
        assert tracer.stderr is not None
        try:
            word = (tracer.stdout if by == "perf" else tracer.stderr).readline()  # strace: Process 123 attached
            yield calls
        finally:
            if by == "strace" and tracer.poll() is None:
                tracer.send_signal(signal.SIGINT)
            try:
                tracer.communicate(timeout=10)  # closes its standard input: perf's command ends
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.communicate()
        text = found.read()
        if by == "perf":
            calls.total = _perf_count(text)
        elif "attached" in word:
            calls.names = {name: int(count) for count, name in _STRACE_ROW.findall(text) if name != "total"}
            calls.total = sum(calls.names.values())


# --- The machine -----------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return what a reader must know of the host to place the figures."""
    asks = getattr(sys, "_is_gil_enabled", None)  # since Python 3.13
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": True if asks is None else bool(asks()),
        "rocket": __version__,
    }


def _cpu_model() -> str:
    """Return the processor's name, as the system tells it; its architecture if it does not."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    name = {"Darwin": "machdep.cpu.brand_string"}.get(platform.system(), "hw.model")
    with contextlib.suppress(OSError):
        asked = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.strip()
    return platform.processor() or platform.machine()


def describe(facts: dict[str, Any]) -> str:
    """Return the machine in a line."""
    gil = "" if facts["gil"] else ", without the GIL"
    return (
        f"{facts['cpus']} CPUs, {facts['cpu']}, {facts['memory_bytes'] / 2**30:.0f} GiB; {facts['system']}; "
        f"{facts['python']}{gil}; Rocket {facts['rocket']}; {facts['date']}"
    )
