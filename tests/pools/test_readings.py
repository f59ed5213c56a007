"""What is read of the host, from texts as Linux writes them."""

import pytest

from rocket.pools.readings import (
    Sampler,
    effective_cpus,
    find_groups,
    free_memory,
    read_file,
    throttled_seconds,
)

V2_MOUNT = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "30 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 25 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


class Files(dict):
    """Texts by path; what is not there is empty, as with `read_file`."""

    def __call__(self, path):
        return self.get(path, "")


# ---------------------------------------------------------------------- cgroups


def test_ancestors_of_a_cgroup_count():
    groups = find_groups("0::/a.slice/b.scope\n", V2_MOUNT)
    expected = ["/sys/fs/cgroup/a.slice/b.scope", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup"]
    assert groups.cpu == groups.memory == expected


def test_version_1_has_a_tree_for_each_controller():
    groups = find_groups("4:memory:/m\n3:cpuset:/s\n2:cpu,cpuacct:/c\n", V1_MOUNTS)
    assert groups.cpu == ["/sys/fs/cgroup/cpu,cpuacct/c", "/sys/fs/cgroup/cpu,cpuacct"]
    assert groups.memory == ["/sys/fs/cgroup/memory/m", "/sys/fs/cgroup/memory"]


def test_container_sees_a_part_of_the_tree():
    mounted = "30 25 0:27 /docker/12ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
    spaced = "30 20 0:26 / /sys/fs/c\\040group rw - cgroup2 cgroup2 rw\n"
    assert find_groups("0::/a b\n", spaced).cpu == ["/sys/fs/c group/a b", "/sys/fs/c group"]
    assert find_groups("1:cpu:/docker/12ab\n", mounted).cpu == ["/sys/fs/cgroup/cpu"]
    assert find_groups("1:cpu:/docker/12ab/x\n", mounted).cpu == ["/sys/fs/cgroup/cpu/x", "/sys/fs/cgroup/cpu"]
    assert find_groups("1:cpu:/docker/12abc\n", mounted).cpu == ["/sys/fs/cgroup/cpu"]


def test_cgroup_outside_of_our_namespace_is_left_out():
    assert find_groups("0::/../../other\n", V2_MOUNT).cpu == ["/sys/fs/cgroup"]


@pytest.mark.parametrize("text", ["", "nonsense", "a b c - ", "1 2 3\n\n"])
def test_no_cgroups_are_no_error(text):
    assert find_groups(text, text) == ([], [], [])


# ---------------------------------------------------------------------- CPUs


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"a/cpu.max": "max 100000\n"}, 8),
        ({"a/cpu.max": "150000 100000\n"}, 1.5),
        ({"a/cpu.max": "1600000 100000\n"}, 8),
        ({"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ({"a/cpu.cfs_quota_us": "-1\n", "a/cpu.cfs_period_us": "100000\n"}, 8),
        ({"a/cpu.cfs_quota_us": "50000\n", "a/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"a/cpu.max": "nonsense"}, 8),
    ],
)
def test_smallest_quota_or_the_affinity_counts(files, cpus):
    assert effective_cpus(8, ["a/b", "a"], Files(files)) == cpus


def test_throttling_is_read_in_both_versions():
    assert throttled_seconds(["a"], Files({"a/cpu.stat": "nr_throttled 3\nthrottled_usec 2500000\n"})) == 2.5
    assert throttled_seconds(["a"], Files({"a/cpu.stat": "nr_throttled 3\nthrottled_time 1500000000\n"})) == 1.5
    assert throttled_seconds(["a"], Files()) == 0.0


# ---------------------------------------------------------------------- memory

MEMINFO = "MemTotal:        1000 kB\nMemFree:  100 kB\nMemAvailable:     400 kB\n"


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, 0.4),
        ({"a/memory.max": "max\n", "a/memory.current": "900\n"}, 0.4),
        ({"a/memory.max": "1000\n", "a/memory.current": "900\n"}, 0.1),
        ({"a/memory.max": "1000\n", "a/memory.current": "900\n", "a/memory.stat": "anon 1\ninactive_file 200\n"}, 0.3),
        ({"a/memory.limit_in_bytes": "1000\n", "a/memory.usage_in_bytes": "800\n"}, 0.2),
        ({"a/memory.limit_in_bytes": "9223372036854771712\n", "a/memory.usage_in_bytes": "800\n"}, 0.4),
        ({"a/memory.max": "1000\n", "a/memory.current": "2000\n"}, 0.0),
    ],
)
def test_tightest_memory_counts(files, share):
    assert free_memory(["a"], Files({"/proc/meminfo": MEMINFO, **files})) == pytest.approx(share)


def test_psutil_knows_the_memory_where_proc_does_not():
    share = free_memory([], Files())
    assert share is not None
    assert 0 <= share <= 1


# ---------------------------------------------------------------------- the sampler


class Counted(Files):
    def __init__(self, *args):
        super().__init__(*args)
        self.reads = []

    def __call__(self, path):
        self.reads.append(path)
        return super().__call__(path)


def test_cpus_are_looked_at_anew_after_half_a_minute():
    files = Counted({"/proc/self/cgroup": "0::/\n", "/proc/self/mountinfo": V2_MOUNT})
    sampler = Sampler(files)
    before = sampler.cpus(100.0)
    files["/sys/fs/cgroup/cpu.max"] = "25000 100000\n"
    assert sampler.cpus(129.0) == before
    assert sampler.cpus(131.0) == 0.25


def test_dear_readings_are_taken_once_a_second():
    files = Counted({"/proc/meminfo": MEMINFO})
    sampler = Sampler(files)
    assert sampler.dear(100.0, frozenset()) == {}
    assert "/proc/meminfo" not in files.reads
    for now in (100.0, 100.3, 100.9, 101.1, 101.2):
        assert sampler.dear(now, frozenset({"mem_free"})) == {"mem_free": pytest.approx(0.4)}
    assert files.reads.count("/proc/meminfo") == 2


def test_all_dear_readings_can_be_had_at_once():
    needs = frozenset({"host_cpu", "load1", "mem_free", "swap_free", "rss", "throttled"})
    sampler = Sampler()
    assert sampler.dear(100.0, needs)["host_cpu"] is None  # the first says nothing
    dear = sampler.dear(102.0, needs)
    assert set(dear) == needs
    assert dear["rss"] > 1_000_000
    assert all(value is None or value >= 0 for value in dear.values())


def test_throttled_is_a_share_of_the_time():
    stat = "/sys/fs/cgroup/cpu.stat"
    files = Counted({"/proc/self/cgroup": "0::/\n", "/proc/self/mountinfo": V2_MOUNT, stat: "throttled_usec 5000000\n"})
    assert Sampler(files).dear(100.0, frozenset({"throttled"})) == {"throttled": 0.0}
    assert stat not in files.reads  # no quota, no throttling
    files["/sys/fs/cgroup/cpu.max"] = "100000 100000\n"
    sampler = Sampler(files)
    needs = frozenset({"throttled"})
    assert sampler.dear(100.0, needs) == {"throttled": 0.0}
    files[stat] = "throttled_usec 5500000\n"
    assert sampler.dear(102.0, needs)["throttled"] == pytest.approx(0.25)


def test_file_that_cannot_be_read_is_empty(tmp_path):
    assert read_file(str(tmp_path / "nothing")) == ""
    assert read_file(str(tmp_path)) == ""
    (tmp_path / "text").write_bytes(b"a\xff")
    assert read_file(str(tmp_path / "text")) == "a�"
