"""Checks of CPU, memory and threads against what the pool may want."""

from __future__ import annotations

from collections.abc import Iterator

from rocket.checks.base import ERROR, WARNING, Complaint, Subject, most_threads
from rocket.kinds import KIB, MIB, show_size

OWN_THREADS = 4  # beside the workers: main, controller, listener, and one to stop with
THREAD_MEMORY = 256 * KIB  # that a busy thread's stack and its malloc arena really use; more with a deep framework
SHARE = 0.5  # of the memory: what is left is the application's
LEAST_BUFFER = 64 * KIB


def cpu_quota(subject: Subject) -> Iterator[Complaint]:
    """A cgroup gives us less than one CPU, or we have more CPUs than threads and no GIL."""
    host, threads = subject.host, most_threads(subject.config)
    if host.cpus < 1:
        yield Complaint(
            WARNING,
            f"a cgroup's quota leaves {host.cpus:g} CPU: of each period of (usually) 100 ms all threads stand still "
            f"for up to {100 * (1 - host.cpus):.0f} ms, whatever their number",
            "give the container a quota of 1 CPU or more (Kubernetes: resources.limits.cpu, Docker: --cpus), or shares "
            "instead of a quota",
        )
    elif not host.gil and threads < int(host.cpus):
        yield Complaint(
            WARNING,
            f"this Python has no GIL, and {host.cpus:g} CPUs may be used, but max_threads allows {threads} to compute",
            f"max_threads = {2 * int(host.cpus)}",
        )


def memory(subject: Subject) -> Iterator[Complaint]:
    """The requests that are served or wait, and their threads, may use more memory than there is."""
    config, host = subject.config, subject.host
    if host.memory is None:
        return
    threads = most_threads(config)
    requests = threads + config.max_queue
    buffers = config.body_buffer + config.response_buffer
    worst = threads * THREAD_MEMORY + requests * buffers
    allowed = int(host.memory * SHARE)
    if worst <= allowed:
        return
    for_each = (allowed - threads * THREAD_MEMORY) // (2 * requests)
    fitting = LEAST_BUFFER
    while fitting * 2 <= for_each:
        fitting *= 2
    whose = "the cgroup's limit" if host.memory_limited else "the host's memory"
    repair = f'body_buffer = response_buffer = "{show_size(fitting)}" (what is longer goes to files)'
    if for_each < LEAST_BUFFER:
        repair = f"fewer than {threads} threads or a shorter queue than {config.max_queue:,}, or more memory"
    yield Complaint(
        WARNING,
        f"{threads} threads and {config.max_queue:,} waiting requests may hold {_mib(worst)} (a thread "
        f"{_mib(THREAD_MEMORY)}, a request body_buffer + response_buffer = {_mib(buffers)}); half of {whose} is "
        f"{_mib(allowed)}",
        repair,
    )


def threads_allowed(subject: Subject) -> Iterator[Complaint]:
    """The system will not let us start max_threads threads."""
    host, threads = subject.host, most_threads(subject.config)
    needed = threads + OWN_THREADS
    if host.threads is None or host.threads >= needed:
        return
    fitting = max(1, host.threads - OWN_THREADS)
    yield Complaint(
        ERROR if host.threads < subject.config.min_threads + OWN_THREADS else WARNING,
        f"{needed} threads are needed ({threads} workers and {OWN_THREADS} others), but only {host.threads} can be "
        f"started: {host.threads_limit}",
        f"max_threads = {fitting}, or raise that limit (Docker: --pids-limit, systemd: TasksMax=)",
    )


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= MIB else f"{size / KIB:,.0f} KiB"
