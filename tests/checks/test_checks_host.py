"""The host's figures, from the files that a system would have."""

import re

from rocket.checks.host import read_host, somaxconn, startable_threads
from rocket.pools.readings import Groups, total_memory

GROUP, ABOVE = "/sys/fs/cgroup/a", "/sys/fs/cgroup"


def test_the_tightest_cgroup_limits_the_memory():
    files = {f"{GROUP}/memory.max": "max\n", f"{ABOVE}/memory.max": "1048576\n", "/proc/meminfo": "MemTotal: 4096 kB\n"}
    groups = [GROUP, ABOVE]
    assert total_memory(groups, lambda path: files.get(path, "")) == (1048576, True)
    files[f"{ABOVE}/memory.max"] = "max\n"
    assert total_memory(groups, lambda path: files.get(path, "")) == (4096 * 1024, False)


def test_version_1_says_no_limit_by_a_very_large_number():
    files = {f"{GROUP}/memory.limit_in_bytes": "9223372036854771712\n", "/proc/meminfo": "MemTotal: 4096 kB\n"}
    assert total_memory([GROUP], lambda path: files.get(path, "")) == (4096 * 1024, False)


def test_pids_max_limits_the_threads():
    files = {f"{GROUP}/pids.max": "100\n", f"{GROUP}/pids.current": "30\n", f"{ABOVE}/pids.max": "max\n"}
    left, why = startable_threads(Groups([], [], [GROUP, ABOVE]), lambda path: files.get(path, ""))
    assert left == 70
    assert why == f"{GROUP}/pids.max is 100, and 30 are in use"


def test_somaxconn_that_cannot_be_read_is_unknown():
    assert somaxconn(lambda path: "4096\n" if path.endswith("somaxconn") else "") == 4096
    assert somaxconn(lambda _: "what?") is None


def test_this_host_has_figures():
    host = read_host()
    assert host.cpus > 0
    assert host.memory is None or host.memory > 1 << 20
    assert host.open_files is None or host.open_files > 0
    assert host.select_size >= 64
    assert re.match(r"3\.\d+", host.python)
    assert any(reason is None for reason in host.monitors.values())
