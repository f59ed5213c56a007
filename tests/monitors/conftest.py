"""Every monitor that this host has, and pairs of sockets to watch."""

import selectors
import socket
import threading
from functools import partial

import pytest

from rocket import gil
from rocket.monitors import MONITORS
from rocket.monitors.kqueue import KqueueMonitor
from rocket.monitors.selectors import SelectorsMonitor

from . import fake_kqueue


class KeepingEpoll(MONITORS["epoll"]):
    """As it is while threads that compute take the GIL."""

    def __init__(self):
        super().__init__()
        self.keep_gil(gil.prepare())


class KeepingPoll(MONITORS["poll"]):
    def __init__(self):
        super().__init__()
        self.keep_gil(gil.prepare())


# name -> (class, keywords)
ALL = {
    **{name: (monitor, {}) for name, monitor in MONITORS.items() if monitor.unavailable() is None},
    "kqueue-emulated": (KqueueMonitor, {"module": fake_kqueue}),
    **{
        f"{monitor.name}-keeping": (monitor, {})
        for monitor in (KeepingEpoll, KeepingPoll)
        if monitor.unavailable() is None
    },
    "selectors-stdlib": (SelectorsMonitor, {"selector": selectors.DefaultSelector}),
    "selectors-poll": (SelectorsMonitor, {"selector": selectors.PollSelector}),
    "selectors-select": (SelectorsMonitor, {"selector": selectors.SelectSelector}),
}
CONCURRENT = [name for name, (monitor, _) in ALL.items() if monitor.concurrent]
LIMITED = [name for name, (monitor, _) in ALL.items() if monitor.max_fd is not None]


@pytest.fixture(params=ALL)
def make_monitor(request):
    """What makes a monitor."""
    monitor, keywords = ALL[request.param]
    return partial(monitor, **keywords)


@pytest.fixture
def monitor(make_monitor):
    monitor = make_monitor()
    yield monitor
    monitor.close()


@pytest.fixture
def counted(make_monitor):
    """A monitor that counts in `waits` how often it waits, in `told` what it tells the kernel, and sets `polling`."""

    class Counted(make_monitor.func):
        waits = told = 0
        polling = threading.Event()  # set as the last thing before it waits

        def _wait(self, timeout):
            self.waits += 1
            self.polling.set()
            return super()._wait(timeout)

        def _watch(self, fd, events, before):
            self.told += 1
            super()._watch(fd, events, before)

        def _unwatch(self, fd, before):
            self.told += 1
            super()._unwatch(fd, before)

    monitor = Counted(**make_monitor.keywords)
    monitor.told = 0
    yield monitor
    monitor.close()


def connect_pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@pytest.fixture
def pair():
    ours, theirs = connect_pair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs
