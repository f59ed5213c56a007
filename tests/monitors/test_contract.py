"""What `Monitor` promises, over every monitor."""

import contextlib
import fcntl
import os
import resource
import socket
import struct
import threading
from collections import deque
from queue import SimpleQueue
from time import monotonic

import pytest
from core_helpers import until

from rocket.errors import MonitorFull
from rocket.monitors import READ, WRITE
from rocket.monitors.base import is_closed

from .conftest import CONCURRENT, LIMITED, connect_pair

SOON = 30.0  # s; long enough for a slow machine, never waited for in full


def fds(events):
    return [fd for fd, _ in events]


def fill(sock):
    """Write until *sock* takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 65536)


# What is reported


def test_what_can_be_read_is_reported(monitor, pair):
    ours, theirs = pair
    monitor.arm(ours.fileno(), READ)
    theirs.send(b"x")
    assert monitor.poll(SOON) == [(ours.fileno(), READ)]


def test_what_was_readable_before_it_was_armed_is_reported(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    monitor.arm(ours.fileno(), READ)
    assert monitor.poll(SOON) == [(ours.fileno(), READ)]


def test_what_can_be_written_is_reported(monitor, pair):
    monitor.arm(pair[0].fileno(), WRITE)
    assert monitor.poll(SOON) == [(pair[0].fileno(), WRITE)]


def test_what_can_be_read_and_written_is_one_event(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    monitor.arm(ours.fileno(), READ | WRITE)
    assert monitor.poll(SOON) == [(ours.fileno(), READ | WRITE)]


def test_what_is_not_ready_is_not_reported(monitor, pair):
    monitor.arm(pair[0].fileno(), READ)
    assert monitor.poll(0) == []


def test_nothing_is_ready_where_nothing_is_armed(monitor):
    assert monitor.poll(0) == []


def test_a_full_socket_is_reported_once_it_takes_more(monitor, pair):
    ours, theirs = pair
    fill(ours)
    monitor.arm(ours.fileno(), WRITE)
    assert monitor.poll(0) == []
    with contextlib.suppress(BlockingIOError):
        while theirs.recv(1 << 20):
            pass
    assert monitor.poll(SOON) == [(ours.fileno(), WRITE)]


def test_armed_for_reading_a_writable_descriptor_is_not_reported_and_the_other_way_round(monitor, pair):
    ours, theirs = pair
    monitor.arm(ours.fileno(), READ)
    assert monitor.poll(0) == []
    fill(ours)
    theirs.send(b"x")
    monitor.arm(ours.fileno(), WRITE)
    assert monitor.poll(0) == []


def test_of_many_only_the_ready_ones_are_reported(monitor):
    with contextlib.ExitStack() as stack:
        pairs = [connect_pair() for _ in range(50)]
        for ours, theirs in pairs:
            stack.enter_context(ours)
            stack.enter_context(theirs)
            monitor.arm(ours.fileno(), READ)
        for _, theirs in pairs[::7]:
            theirs.send(b"x")
        assert sorted(fds(monitor.poll(SOON))) == sorted(ours.fileno() for ours, _ in pairs[::7])


# One-shot


def test_a_reported_descriptor_is_no_longer_armed(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    monitor.arm(ours.fileno(), READ)
    assert monitor.poll(SOON)
    assert monitor.poll(0) == []
    theirs.send(b"y")
    assert monitor.poll(0) == []


@pytest.mark.parametrize("polls_between", [0, 1, 2])
def test_a_descriptor_is_reported_again_when_it_is_armed_again(monitor, pair, polls_between):
    ours, theirs = pair
    for _ in range(3):
        theirs.send(b"x")
        monitor.arm(ours.fileno(), READ)
        assert monitor.poll(SOON) == [(ours.fileno(), READ)]
        for _ in range(polls_between):
            assert monitor.poll(0) == []
        ours.recv(1)


def test_what_was_not_read_is_reported_again_when_it_is_armed_again(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    for _ in range(3):
        monitor.arm(ours.fileno(), READ)
        assert monitor.poll(SOON) == [(ours.fileno(), READ)]


def test_events_may_change_from_one_arming_to_the_next(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    for events in (READ, WRITE, READ | WRITE, READ, READ | WRITE, WRITE):
        monitor.arm(ours.fileno(), events)
        assert monitor.poll(SOON) == [(ours.fileno(), events)]


def test_arming_what_is_armed_replaces_its_events(monitor, pair):
    ours, _ = pair
    monitor.arm(ours.fileno(), WRITE)
    monitor.arm(ours.fileno(), READ)
    assert monitor.poll(0) == []
    monitor.arm(ours.fileno(), READ | WRITE)
    assert monitor.poll(SOON) == [(ours.fileno(), WRITE)]


# Peers that leave


@pytest.mark.parametrize("events", [READ, WRITE, READ | WRITE])
def test_a_hang_up_is_reported(monitor, pair, events):
    ours, theirs = pair
    fill(ours)
    monitor.arm(ours.fileno(), events)
    assert monitor.poll(0) == []
    theirs.close()
    [(fd, what)] = monitor.poll(SOON)
    assert fd == ours.fileno()
    assert what


def test_a_half_close_is_reported(monitor, pair):
    ours, theirs = pair
    monitor.arm(ours.fileno(), READ)
    theirs.shutdown(socket.SHUT_WR)
    assert fds(monitor.poll(SOON)) == [ours.fileno()]
    assert ours.recv(1) == b""


def test_a_reset_is_reported(monitor, tcp_pair):
    ours, theirs = tcp_pair
    monitor.arm(ours.fileno(), READ)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    assert fds(monitor.poll(SOON)) == [ours.fileno()]
    with pytest.raises(ConnectionResetError):
        ours.recv(1)


# Disarming


def test_a_disarmed_descriptor_is_not_reported(monitor, pair):
    ours, theirs = pair
    monitor.arm(ours.fileno(), READ)
    theirs.send(b"x")
    monitor.disarm(ours.fileno())
    assert monitor.poll(0) == []


def test_a_disarmed_descriptor_may_be_armed_again(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    for _ in range(3):
        monitor.arm(ours.fileno(), READ)
        monitor.disarm(ours.fileno())
    monitor.arm(ours.fileno(), READ)
    assert monitor.poll(SOON) == [(ours.fileno(), READ)]


def test_disarming_an_unknown_a_closed_or_no_descriptor_does_nothing(monitor):
    ours, theirs = connect_pair()
    monitor.disarm(ours.fileno())
    monitor.arm(ours.fileno(), READ)
    fd = ours.fileno()
    ours.close()
    theirs.close()
    for unknown in (fd, fd, -1, 1 << 20):
        monitor.disarm(unknown)
    assert monitor.poll(0) == []


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_number_disarmed_about_its_closing_may_be_used_again(monitor, reported, when):
    ours, theirs = connect_pair()
    fd = ours.fileno()
    monitor.arm(fd, READ)
    if reported:
        theirs.send(b"x")
        assert monitor.poll(SOON)
    if when == "before":
        monitor.disarm(fd)
    ours.close()
    theirs.close()
    if when == "after":
        monitor.disarm(fd)
    ours, theirs = connect_pair_at(fd)
    with ours, theirs:
        monitor.arm(fd, READ)
        assert monitor.poll(0) == []
        theirs.send(b"x")
        assert monitor.poll(SOON) == [(fd, READ)]


@pytest.mark.parametrize("events", [READ, WRITE, READ | WRITE])
@pytest.mark.parametrize("before", [READ, WRITE, READ | WRITE])
def test_a_number_closed_while_armed_may_be_used_again_even_without_disarming(monitor, before, events):
    ours, theirs = connect_pair()
    fd = ours.fileno()
    monitor.arm(fd, before)
    ours.close()
    theirs.close()
    ours, theirs = connect_pair_at(fd)
    with ours, theirs:
        theirs.send(b"x")
        monitor.arm(fd, events)
        assert monitor.poll(SOON) == [(fd, events)]


def connect_pair_at(fd):
    """A pair whose first socket has the number *fd*."""
    ours, theirs = connect_pair()
    if theirs.fileno() == fd:
        ours, theirs = theirs, ours
    if ours.fileno() != fd:
        os.dup2(ours.fileno(), fd, inheritable=False)
        ours.close()
        ours = socket.socket(fileno=fd)
        ours.setblocking(False)
    return ours, theirs


@pytest.mark.parametrize("reported", [True, False])
def test_a_descriptor_closed_without_disarming_does_not_disturb_the_others(monitor, pair, reported):
    ours, theirs = pair
    lost, peer = connect_pair()
    monitor.arm(lost.fileno(), READ)
    monitor.arm(ours.fileno(), READ)
    if reported:
        peer.send(b"x")
        assert fds(monitor.poll(SOON)) == [lost.fileno()]
    closed = lost.fileno()
    lost.close()
    peer.close()
    assert set(fds(monitor.poll(0))) <= {closed}
    assert monitor.poll(0) == []
    theirs.send(b"x")
    assert monitor.poll(SOON) == [(ours.fileno(), READ)]


# Waking up


def test_a_wakeup_before_a_poll_makes_it_return(monitor):
    monitor.wakeup()
    assert monitor.poll(None) == []


def test_a_wakeup_ends_the_poll_in_progress(counted):
    polled = []
    thread = threading.Thread(target=lambda: polled.append(counted.poll(None)))
    thread.start()
    assert counted.polling.wait(SOON)
    counted.wakeup()
    thread.join(SOON)
    assert polled == [[]]


def test_a_wakeup_is_over_after_one_poll(monitor):
    monitor.wakeup()
    monitor.wakeup()
    monitor.poll(None)
    start = monotonic()
    assert monitor.poll(0.02) == []
    assert monotonic() - start >= 0.02


def test_a_wakeup_comes_with_the_events_and_is_not_one_of_them(monitor, pair):
    ours, theirs = pair
    monitor.arm(ours.fileno(), READ)
    theirs.send(b"x")
    monitor.wakeup()
    events = monitor.poll(SOON)
    while not events:  # a monitor may report the wake-up first
        events = monitor.poll(SOON)
    assert events == [(ours.fileno(), READ)]


def test_any_number_of_wakeups_is_one(monitor):
    for _ in range(100_000):
        monitor.wakeup()
    assert monitor.poll(None) == []
    start = monotonic()
    assert monitor.poll(0.02) == []
    assert monotonic() - start >= 0.02


@pytest.mark.usefixtures("hasty_threads")
def test_no_wakeup_is_lost_between_threads(monitor):
    todo = deque()
    done = SimpleQueue()

    def ask():
        for i in range(300):
            todo.append(i)
            monitor.wakeup()

    threads = [threading.Thread(target=ask) for _ in range(3)]

    def answer():
        for _ in range(900):
            while not todo:
                monitor.poll(None)
            done.put(todo.popleft())

    poller = threading.Thread(target=answer, daemon=True)
    for thread in (poller, *threads):
        thread.start()
    for thread in (*threads, poller):
        thread.join(SOON)
    assert done.qsize() == 900


# Times


def test_a_poll_of_zero_or_less_only_looks(counted, pair):
    counted.arm(pair[0].fileno(), READ)
    for timeout in (0, 0.0, -1, -0.5):
        assert counted.poll(timeout) == []
    assert counted.waits == 4


@pytest.mark.parametrize("timeout", [0.0001, 0.001, 0.0123, 0.05])
def test_a_poll_takes_its_time_and_does_not_spin(counted, pair, timeout):
    counted.arm(pair[0].fileno(), READ)
    start = monotonic()
    assert counted.poll(timeout) == []
    assert monotonic() - start >= timeout
    assert counted.waits == 1


@pytest.mark.parametrize("timeout", [1e10, float("inf"), None])
def test_a_poll_may_be_as_long_as_it_likes(monitor, pair, timeout):
    monitor.arm(pair[0].fileno(), WRITE)
    assert monitor.poll(timeout)


# Many


@pytest.fixture
def many_descriptors():
    """A thousand numbers of one socket that can be read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2000:
        if hard != resource.RLIM_INFINITY and hard < 2000:
            pytest.skip(f"the host allows {hard} descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (2000, hard))
    ours, theirs = connect_pair()
    theirs.send(b"x")
    with ours, theirs:
        copies = [os.dup(ours.fileno()) for _ in range(1000)]
        yield copies
        for fd in copies:
            os.close(fd)


def test_a_thousand_ready_descriptors_are_each_reported_once(monitor, many_descriptors):
    watchable = many_descriptors
    if monitor.max_fd is not None:
        watchable = [fd for fd in watchable if fd <= monitor.max_fd]
    elif limited_by_select(monitor):
        watchable = [fd for fd in watchable if fd < 1000]
    for fd in watchable:
        monitor.arm(fd, READ)
    reported = []
    while events := monitor.poll(0):
        reported += fds(events)
    assert sorted(reported) == watchable


def limited_by_select(monitor):
    return "SelectSelector" in repr(getattr(monitor, "_selector", None))


@pytest.mark.parametrize("make_monitor", LIMITED, indirect=True)
def test_a_monitor_with_a_limit_refuses_what_is_beyond_it_and_says_what_to_do(monitor, pair):
    ours, theirs = pair
    high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, monitor.max_fd + 1)
    try:
        with pytest.raises(MonitorFull, match=rf"descriptor {high}\b.* {monitor.max_fd + 1}; use epoll, kqueue"):
            monitor.arm(high, READ)
        monitor.arm(ours.fileno(), READ)
        theirs.send(b"x")
        assert monitor.poll(SOON) == [(ours.fileno(), READ)]
        monitor.disarm(high)
    finally:
        os.close(high)


@pytest.mark.parametrize("make_monitor", LIMITED, indirect=True)
def test_the_highest_descriptor_below_the_limit_can_be_watched(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    highest = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, monitor.max_fd)
    try:
        assert highest == monitor.max_fd
        monitor.arm(highest, READ)
        assert monitor.poll(SOON) == [(highest, READ)]
        monitor.disarm(highest)
    finally:
        os.close(highest)


@pytest.mark.parametrize("make_monitor", LIMITED, indirect=True)
def test_a_monitor_with_a_limit_does_not_open_beyond_it_and_leaves_nothing_behind(make_monitor, pair):
    before = open_descriptors()
    with contextlib.ExitStack() as stack:
        while (low := os.dup(pair[0].fileno())) <= make_monitor.func.max_fd:
            stack.callback(os.close, low)
        stack.callback(os.close, low)
        with pytest.raises(MonitorFull):
            make_monitor()
    until(lambda: open_descriptors() <= before)


# Threads


@pytest.mark.parametrize("make_monitor", CONCURRENT, indirect=True)
def test_arming_reaches_a_poll_in_progress_if_the_monitor_is_concurrent(counted, pair):
    ours, theirs = pair
    theirs.send(b"x")
    polled = SimpleQueue()
    thread = threading.Thread(target=lambda: [polled.put(counted.poll(SOON)) for _ in range(20)])
    thread.start()
    for _ in range(20):
        assert counted.polling.wait(SOON)
        counted.polling.clear()
        counted.arm(ours.fileno(), READ)
        assert polled.get(timeout=SOON) == [(ours.fileno(), READ)]
    thread.join(SOON)


class Ring:
    """Tokens that go round a ring of sockets, moved by workers that arm each socket again: a lost event stops one.

    Arms as the reactor does: by the worker's hand if the monitor is concurrent, else by way of the poller.
    """

    def __init__(self, monitor, *, sockets=6, tokens=9, workers=3, hops=1500):
        self.monitor = monitor
        self.hops = hops
        self.pairs = [connect_pair() for _ in range(sockets)]
        self.next = {ours.fileno(): i + 1 for i, (ours, _) in enumerate(self.pairs)}
        self.by_fd = {ours.fileno(): ours for ours, _ in self.pairs}
        self.ready = SimpleQueue()
        self.arrivals = deque()  # (fd, events) that the poller is to arm
        self.moved = deque()  # one for each hop
        self.finished = threading.Event()
        for i in range(tokens):
            self.pairs[i % sockets][1].send(b"t")
        for ours, _ in self.pairs:
            self.arm(ours.fileno(), READ)
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(workers)]
        self.threads.append(threading.Thread(target=self.poll, daemon=True))

    def arm(self, fd, events):
        if self.monitor.concurrent:
            self.monitor.arm(fd, events)
        else:
            self.arrivals.append((fd, events))
            self.monitor.wakeup()

    def poll(self):
        while not self.finished.is_set():
            while self.arrivals:
                self.monitor.arm(*self.arrivals.popleft())
            for fd, _ in self.monitor.poll(None):
                self.ready.put(fd)

    def work(self):
        while (fd := self.ready.get()) is not None:
            try:
                token = self.by_fd[fd].recv(1)
            except BlockingIOError:
                self.arm(fd, READ)  # it was a hint, or writable
                continue
            self.pairs[self.next[fd] % len(self.pairs)][1].send(token)
            self.moved.append(fd)
            if len(self.moved) >= self.hops:
                self.finished.set()
            self.arm(fd, READ if len(self.moved) % 3 else READ | WRITE)

    def run(self):
        """Return whether the tokens made all their hops."""
        for thread in self.threads:
            thread.start()
        finished = self.finished.wait(SOON)
        self.finished.set()
        for _ in self.threads:
            self.ready.put(None)
        for thread in self.threads:
            self.monitor.wakeup()
            thread.join(SOON)
        for ours, theirs in self.pairs:
            self.monitor.disarm(ours.fileno())
            ours.close()
            theirs.close()
        return finished


@pytest.mark.usefixtures("hasty_threads")
def test_no_event_is_lost_between_threads(monitor):
    assert Ring(monitor).run()


# Errors and the end


def test_arming_no_descriptor_is_refused_and_changes_nothing(monitor, pair):
    with pytest.raises(OSError, match="-1 is no descriptor"):
        monitor.arm(-1, READ)
    monitor.arm(pair[0].fileno(), WRITE)
    assert monitor.poll(SOON)


def test_arming_a_closed_descriptor_is_refused_or_found_out_by_polling(monitor, pair):
    ours, theirs = connect_pair()
    ours.close()
    theirs.close()
    fd = fcntl.fcntl(pair[0].fileno(), fcntl.F_DUPFD_CLOEXEC, 200)
    os.close(fd)
    monitor.arm(pair[0].fileno(), WRITE)
    try:
        monitor.arm(fd, READ)
    except OSError:
        pass
    else:
        assert fd in fds(monitor.poll(SOON))
    monitor.disarm(fd)
    monitor.arm(pair[0].fileno(), WRITE)
    assert fds(monitor.poll(SOON)) == [pair[0].fileno()]


def test_a_closed_monitor_takes_only_what_can_do_no_harm(monitor, pair):
    ours, _ = pair
    monitor.arm(ours.fileno(), WRITE)
    monitor.close()
    monitor.close()
    monitor.wakeup()
    monitor.disarm(ours.fileno())
    with pytest.raises(OSError, match="closed"):
        monitor.arm(ours.fileno(), WRITE)
    with pytest.raises(OSError, match="closed"):
        monitor.poll(0)
    assert not is_closed(ours.fileno())


def test_a_closed_monitor_leaves_no_descriptor_behind(make_monitor, pair):
    before = open_descriptors()
    for _ in range(3):
        monitor = make_monitor()
        monitor.arm(pair[0].fileno(), WRITE)
        monitor.poll(SOON)
        monitor.close()
    until(lambda: open_descriptors() <= before)


def test_a_monitor_is_not_inherited_by_programs_that_are_started(make_monitor):
    before = open_descriptors()
    monitor = make_monitor()
    opened = open_descriptors() - before
    assert opened
    assert not any(os.get_inheritable(fd) for fd in opened)
    monitor.close()


def test_several_monitors_do_not_know_each_other(make_monitor, pair):
    ours, theirs = pair
    first, second = make_monitor(), make_monitor()
    theirs.send(b"x")
    first.arm(ours.fileno(), READ)
    second.arm(ours.fileno(), WRITE)
    first.wakeup()
    assert second.poll(SOON) == [(ours.fileno(), WRITE)]
    first.close()
    second.arm(ours.fileno(), READ)
    assert second.poll(SOON) == [(ours.fileno(), READ)]
    second.close()


def open_descriptors():
    return {fd for fd in range(3000) if not is_closed(fd)}
