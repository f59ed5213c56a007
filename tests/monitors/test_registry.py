"""The monitors by name, and what is said about those that are not to be had."""

import errno
import select
import sys

import pytest

from rocket.errors import MonitorUnavailable
from rocket.monitors import MONITORS, Monitor, available, choose, load, opened
from rocket.monitors.base import LazyMonitor, reason_not_to_open
from rocket.monitors.epoll import EpollMonitor
from rocket.monitors.poll import PollMonitor
from rocket.monitors.selectors import SelectorsMonitor, default_selector


class Missing(PollMonitor):
    """Not on this host."""

    name = "missing"

    @classmethod
    def unavailable(cls):
        return "no such call here"


SOME = {"missing": Missing, "poll": PollMonitor, "selectors": SelectorsMonitor}


@pytest.mark.parametrize("name", MONITORS)
def test_a_monitor_has_the_name_it_is_listed_under(name):
    assert MONITORS[name].name == name


@pytest.mark.parametrize("name", ["epoll", "kqueue", "poll"])
def test_a_monitor_is_available_where_python_has_its_call(name):
    assert (available()[name] is None) == hasattr(select, name)


def test_select_and_selectors_are_available_everywhere():
    assert available()["select"] is available()["selectors"] is None


@pytest.mark.parametrize("name", [name for name, reason in available().items() if reason is None])
def test_an_available_monitor_is_loaded_by_its_name_and_opens(name):
    monitor = load(name)()
    assert isinstance(monitor, MONITORS[name])
    assert monitor.poll(0) == []
    monitor.close()


def test_auto_is_the_first_that_the_host_has():
    assert load("auto", SOME) is PollMonitor
    assert choose(SOME) == (PollMonitor, "the first of missing, poll, selectors that this host has")


def test_auto_is_epoll_where_there_is_epoll():
    assert (load("auto") is EpollMonitor) == hasattr(select, "epoll")


def test_a_host_without_any_monitor_is_told_why():
    with pytest.raises(MonitorUnavailable, match="nothing else; not missing: no such call here"):
        choose({"missing": Missing})


def test_an_unavailable_monitor_is_refused_with_the_reason_and_what_there_is():
    with pytest.raises(MonitorUnavailable, match=r"'missing' is not available: no such call.*: auto, poll, selectors;"):
        load("missing", SOME)


def test_an_unknown_name_is_refused_with_what_there_is_and_why_the_others_are_not():
    with pytest.raises(MonitorUnavailable) as caught:
        load("iocp", SOME)
    assert str(caught.value) == (
        "monitor 'iocp' is unknown. Available here: auto, poll, selectors; not missing: no such call here. "
        'Others are named by module and class: "mypkg.uring:UringMonitor"'
    )


@pytest.mark.parametrize(
    ("typo", "meant"), [("epol", "epoll"), ("EPOLL", "epoll"), ("kqeue", "kqueue"), ("aut", "auto")]
)
def test_a_typo_is_answered_with_the_nearest_name(typo, meant):
    with pytest.raises(MonitorUnavailable, match=f"did you mean '{meant}'"):
        load(typo)


def test_a_class_is_taken_as_it_is():
    assert load(PollMonitor) is PollMonitor


def test_an_unavailable_class_is_refused():
    with pytest.raises(MonitorUnavailable, match="no such call here"):
        load(Missing)


def test_a_factory_is_taken_as_it_is_and_not_called():
    def factory():
        raise AssertionError("opened too early")

    assert load(factory) is factory


def test_a_monitor_that_does_not_open_is_told_with_the_cause():
    def factory():
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(MonitorUnavailable, match="'mine:factory' cannot be opened: Too many open files"):
        opened(factory, "mine:factory")


def test_a_factory_that_makes_no_monitor_is_told():
    with pytest.raises(MonitorUnavailable, match=r"'mine:factory' made {}, which is no rocket.monitors.Monitor"):
        opened(dict, "mine:factory")


def test_a_path_names_a_module_and_a_class():
    assert load("rocket.monitors.poll:PollMonitor") is PollMonitor


def test_a_path_to_a_module_that_does_not_import_is_refused_with_the_cause():
    with pytest.raises(MonitorUnavailable, match=r"module 'mypkg\.uring' does not import: ModuleNotFound") as caught:
        load("mypkg.uring:UringMonitor")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_module_that_fails_when_it_is_imported_is_refused_with_the_cause(tmp_path, monkeypatch):
    (tmp_path / "failing_monitor.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MonitorUnavailable, match="ZeroDivisionError") as caught:
        load("failing_monitor:Monitor")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "path", [":PollMonitor", "rocket.monitors.poll:", "rocket.monitors.poll:Nothing", ".poll:X", "::"]
)
def test_a_path_that_leads_nowhere_is_refused(path):
    with pytest.raises(MonitorUnavailable, match=r"does not import|has no"):
        load(path)


@pytest.mark.parametrize("named", ["json:loads", "rocket.monitors:MONITORS", int, 5, None, b"epoll"])
def test_what_is_no_monitor_is_refused(named):
    with pytest.raises(MonitorUnavailable):
        load(named)


def test_an_open_monitor_is_refused_because_it_would_be_opened_before_the_fork():
    monitor = PollMonitor()
    with pytest.raises(MonitorUnavailable, match="not by <"):
        load(monitor)
    monitor.close()


def test_a_call_that_python_has_but_the_kernel_has_not_is_unavailable():
    class Select:
        @staticmethod
        def epoll():
            raise OSError(38, "Function not implemented")

    assert reason_not_to_open(Select, "epoll") == "epoll() fails: [Errno 38] Function not implemented"
    assert "has no kqueue()" in reason_not_to_open(Select, "kqueue")


def test_asking_what_is_available_leaves_no_descriptor_behind():
    first = EpollMonitor if hasattr(select, "epoll") else PollMonitor
    assert [first.unavailable() for _ in range(5000)] == [None] * 5000


def test_selectors2_is_used_where_it_imports():
    try:
        import selectors2
    except ImportError:
        assert default_selector().__module__ == "selectors"
    else:
        assert default_selector() is selectors2.DefaultSelector
    assert sys.version_info < (3, 10) or default_selector().__module__ == "selectors"


def test_a_monitor_of_ones_own_needs_four_methods_and_gets_the_rest():
    class Never(LazyMonitor):
        name = "never"

        def _wait(self, timeout):
            return []

        def _watch(self, fd, events, before):
            pass

        def _unwatch(self, fd, before):
            pass

        def _release(self):
            pass

    monitor = load(Never)()
    monitor.arm(1, 1)
    assert monitor.poll(0) == []
    assert isinstance(monitor, Monitor)
    assert (monitor.concurrent, monitor.max_fd) == (False, None)
    monitor.close()
