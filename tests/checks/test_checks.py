"""Each check: what it says, and when it is silent. The hosts are made up."""

import re
from pathlib import Path

import pytest
from checks_helpers import FINE, GIB, findings, numbers, only

from rocket.checks import CHECKS, ERROR, WARNING, Application, Subject, run
from rocket.checks.application import Database, Pool
from rocket.checks.connections import BALANCERS, USUAL
from rocket.config import Config

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"


def test_nothing_is_found_where_all_is_well():
    assert findings() == []


def test_each_number_has_its_section_and_there_are_no_others():
    sections = re.findall(r"^## (RKT-\d{3})\n\n\*\*(.+?)\.\*\* \S", PAGE.read_text(), re.MULTILINE)
    assert [(number, title.lower()) for number, title in sections] == [
        (check.number, check.title.lower()) for check in CHECKS
    ]


def test_numbers_are_in_order_and_without_gaps():
    assert [check.number for check in CHECKS] == [f"RKT-{i:03}" for i in range(1, len(CHECKS) + 1)]


def test_the_page_names_each_balancer_with_its_seconds():
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) s \|", PAGE.read_text(), re.MULTILINE)
    assert {name: float(seconds.replace(",", "")) for name, seconds in rows} == {
        name: seconds for name, (_, seconds) in BALANCERS.items()
    }


def test_what_is_ignored_is_left_out_and_errors_come_first():
    subject = Subject(
        Config(keep_alive=5, monitor="kqueue", backlog=5000),
        FINE,
    )
    assert [finding.number for finding in run(subject)] == ["RKT-012", "RKT-002", "RKT-005"]
    assert [finding.number for finding in run(subject, {"RKT-002", "RKT-012"})] == ["RKT-005"]


# --- Connections -----------------------------------------------------------------------------------------------------


def test_max_connections_beyond_the_open_files():
    found = only("RKT-001", findings({"max_connections": 5000}, open_files=4096))
    assert "4,096" in found.message
    assert "4,032 connections" in found.message
    assert "5,000" in found.message
    assert found.repair == "ulimit -n 5064, or LimitNOFILE=5064 in the systemd unit"


def test_a_repair_beyond_the_hard_limit_says_so():
    found = only("RKT-001", findings({"max_connections": 5000}, open_files=1024, open_files_most=4096))
    assert "hard limit of 4,096" in found.repair


def test_open_files_that_not_even_the_backlog_fits_in():
    assert "backlog alone holds 2,048" in only("RKT-001", findings(open_files=1024)).message
    assert numbers({"backlog": 900}, open_files=1024) == []


def test_no_limit_on_open_files_is_no_finding():
    assert numbers({"max_connections": 10**6}, open_files=None) == []


def test_a_backlog_that_the_system_cuts():
    found = only("RKT-002", findings(somaxconn=128))
    assert "2,048" in found.message
    assert "128" in found.message
    assert "backlog = 128" in found.repair
    assert numbers(somaxconn=None) == []


def test_select_with_more_connections_than_it_has_bits():
    found = only("RKT-003", findings({"monitor": "select", "max_connections": 5000}))
    assert "960 connections" in found.message
    assert found.repair == 'monitor = "epoll"'
    assert "65,472" in only("RKT-003", findings({"monitor": "select"})).message
    assert numbers({"monitor": "select", "max_connections": 900}) == []


def test_select_because_there_is_nothing_else():
    found = findings({"max_connections": 5000}, monitors={"epoll": "no", "poll": "no", "select": None})
    assert [finding.number for finding in found] == ["RKT-003", "RKT-012"]
    assert found[0].repair.startswith("max_connections = 960")


def test_poll_for_many_connections_though_epoll_is_there():
    assert only("RKT-004", findings({"monitor": "poll"})).repair == 'monitor = "epoll", or "auto"'
    assert numbers({"monitor": "poll", "max_connections": 500}) == []
    assert "RKT-004" not in numbers({"monitor": "poll"}, monitors={"epoll": "no", "poll": None})


def test_keep_alive_shorter_than_the_usual_balancers():
    found = only("RKT-005", findings({"keep_alive": 60}))
    assert "keep_alive is 60 s" in found.message
    assert found.repair == "keep_alive = 75"
    for name in USUAL:
        assert BALANCERS[name][0] in found.message


@pytest.mark.parametrize("name", BALANCERS)
def test_keep_alive_against_the_balancer_that_is_named(name):
    seconds = BALANCERS[name][1]
    assert numbers({"keep_alive": seconds}, behind=name) == ["RKT-005"]
    assert numbers({"keep_alive": seconds + 1}, behind=name) == []


def test_no_keep_alive_at_all_is_no_race():
    assert numbers({"keep_alive": 0}, behind="gcp") == []


@pytest.mark.parametrize("monitor", ["kqueue", "nosuch", "nosuch.module:Monitor"])
def test_a_monitor_that_is_not_to_be_had(monitor):
    found = only("RKT-012", findings({"monitor": monitor}))
    assert found.severity == ERROR
    assert monitor in found.message


def test_a_python_without_the_calls_that_scale():
    found = only("RKT-012", findings(monitors={"epoll": "built without", "poll": None}))
    assert found.severity == WARNING
    assert "built without" in found.message
    assert "auto takes poll" in found.message


# --- CPU, memory, threads --------------------------------------------------------------------------------------------


def test_a_quota_of_less_than_one_cpu():
    found = only("RKT-006", findings(cpus=0.25))
    assert "0.25 CPU" in found.message
    assert "75 ms" in found.message


def test_fewer_threads_than_cpus_matter_only_without_the_gil():
    assert numbers({"max_threads": 2}) == []
    assert only("RKT-006", findings({"max_threads": 2}, gil=False, cpus=8.0)).repair == "max_threads = 16"
    assert numbers({"scaling": "fixed:2"}, gil=False, cpus=8.0) == ["RKT-006"]


def test_buffers_that_do_not_fit_into_the_memory():
    found = only("RKT-007", findings(memory=GIB, memory_limited=True))
    assert "64 threads and 1,024 waiting requests may hold 2,192 MiB" in found.message
    assert "half of the cgroup's limit is 512 MiB" in found.message
    assert found.repair.startswith('body_buffer = response_buffer = "128KiB"')


def test_the_repair_of_the_memory_is_one():
    assert numbers({"body_buffer": "128KiB", "response_buffer": "128KiB"}, memory=GIB) == []


def test_memory_that_no_buffer_is_small_enough_for():
    found = only("RKT-007", findings(memory=GIB // 16))
    assert "fewer than 64 threads or a shorter queue than 1,024" in found.repair


def test_unknown_memory_is_no_finding():
    assert numbers(memory=None) == []


def test_more_threads_than_may_be_started():
    found = only("RKT-008", findings(threads=50, threads_limit="pids.max is 60, and 10 are in use"))
    assert found.severity == WARNING
    assert "68 threads" in found.message
    assert "pids.max is 60" in found.message
    assert found.repair.startswith("max_threads = 46")
    assert numbers({"max_threads": 46}, threads=50) == []


def test_not_even_min_threads_may_be_started():
    assert only("RKT-008", findings(threads=3)).severity == ERROR
    assert numbers(threads=None) == []


# --- Databases -------------------------------------------------------------------------------------------------------


def test_an_engine_with_fewer_connections_than_threads():
    seen = Application("app", pools=(Pool("postgresql://me:***@host/db", 5, 10), Pool("sqlite://", 64, 0)))
    found = only("RKT-009", findings(application=seen))
    assert "postgresql://me:***@host/db gives out 15 connections" in found.message
    assert "64 threads" in found.message
    assert "max_threads = 15" in found.repair
    assert numbers({"max_threads": 15}, application=seen) == []


def test_a_fixed_policy_bounds_the_threads():
    seen = Application("app", pools=(Pool("x://", 5, 3),))
    assert numbers({"scaling": "fixed:8"}, application=seen) == []
    assert numbers({"scaling": "fixed:9"}, application=seen) == ["RKT-009"]


def test_a_django_pool_with_fewer_connections_than_threads():
    seen = Application("app", databases=(Database("default", "postgresql", kept=False, pool=4),))
    found = only("RKT-010", findings(application=seen))
    assert "DATABASES['default'] has a pool of 4 connections" in found.message
    assert '"max_size": 64' in found.repair
    assert numbers({"max_threads": 4}, application=seen) == []


def test_kept_connections_beyond_what_the_database_allows():
    kept = Application("app", databases=(Database("default", "postgresql", kept=True),))
    found = only("RKT-011", findings({"max_threads": 200}, application=kept))
    assert "200 threads" in found.message
    assert "100" in found.message
    assert numbers({"max_threads": 100}, application=kept) == []
    for entry in (Database("d", "postgresql", kept=False), Database("d", "sqlite3", kept=True)):
        assert numbers({"max_threads": 200}, application=Application("app", databases=(entry,))) == []
