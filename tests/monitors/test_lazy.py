"""`LazyMonitor`: few words with the kernel, no busy loop, and no event lost when arming and muting race.

The races are forced: a kernel made of dicts, and hooks that let "another thread" act in the middle of an operation.
test_interleavings.py tries all orders.
"""

import os
import socket
import threading
from time import monotonic

import pytest

from rocket.monitors import READ, WRITE
from rocket.monitors.base import LazyMonitor, Waker

SOON = 30.0


# Over real kernels


def test_requests_one_after_the_other_need_the_kernel_to_be_told_once(counted, pair):
    ours, theirs = pair
    for i in range(100):
        theirs.send(b"x")
        counted.arm(ours.fileno(), READ)
        assert counted.poll(SOON)
        ours.recv(1)
        if i == 0:
            counted.told = 0
    assert counted.told == 0
    assert counted.waits == 100


@pytest.mark.parametrize(
    "leave",
    [lambda peer: peer.send(b"more"), lambda peer: peer.shutdown(socket.SHUT_WR), lambda peer: peer.close()],
    ids=["pipelines", "half-closes", "hangs up"],
)
def test_a_peer_that_fires_while_it_is_served_makes_no_busy_loop(counted, pair, leave):
    ours, theirs = pair
    theirs.send(b"x")
    counted.arm(ours.fileno(), READ)
    assert counted.poll(SOON)
    leave(theirs)
    counted.waits = 0
    start = monotonic()
    assert counted.poll(0.03) == []
    assert monotonic() - start >= 0.03
    for _ in range(10):
        assert counted.poll(0.001) == []
    assert counted.waits <= 12  # one too many: the one that it is muted by
    counted.arm(ours.fileno(), READ)
    assert counted.poll(SOON)[0][0] == ours.fileno()


def test_muting_hides_no_other_event(counted, pair, tcp_pair):
    served, peer = pair
    peer.send(b"x")
    counted.arm(served.fileno(), READ)
    assert counted.poll(SOON)
    ours, theirs = tcp_pair
    counted.arm(ours.fileno(), READ)
    theirs.send(b"x")
    assert counted.poll(SOON) == [(ours.fileno(), READ)]


def test_a_wakeup_ends_a_poll_that_has_only_muted(monitor, pair):
    ours, theirs = pair
    theirs.send(b"x")
    monitor.arm(ours.fileno(), READ)
    assert monitor.poll(SOON)
    monitor.wakeup()
    assert monitor.poll(None) == []


# Over a kernel made of dicts


class HookedDict(dict):
    """A dict that calls `hooks[when, operation]` once, "before" or "after" that operation."""

    def __init__(self):
        super().__init__()
        self.hooks = {}

    def call(self, *moment):
        hook = self.hooks.pop(moment, None)
        if hook is not None:
            hook()

    def get(self, *key):
        self.call("before", "get")
        found = super().get(*key)
        self.call("after", "get")
        return found

    def pop(self, *key):
        self.call("before", "pop")
        found = super().pop(*key)
        self.call("after", "pop")
        return found


class DictMonitor(LazyMonitor):
    """Watches numbers. `kernel` is what is watched for what, `ready` what is ready for what."""

    name = "dict"
    concurrent = True

    def __init__(self):
        self.kernel = {}
        self.ready = {}
        self.broken = False
        self.hooks = HookedDict()
        super().__init__()
        self._armed = HookedDict()
        self._watched = HookedDict()

    def _wait(self, timeout):
        fired = [(fd, self.ready.get(fd, 0) & mask) for fd, mask in list(self.kernel.items())]
        self.hooks.call("after", "wait")
        return [(fd, events) for fd, events in fired if events]

    def _watch(self, fd, events, before):
        self.hooks.call("before", "watch")
        if self.broken:
            raise OSError("no room")
        self.kernel[fd] = events
        self.hooks.call("after", "watch")

    def _unwatch(self, fd, before):
        self.hooks.call("before", "unwatch")
        del self.kernel[fd]

    def _release(self):
        pass


FD = 7


@pytest.fixture
def lazy():
    lazy = DictMonitor()
    yield lazy
    lazy.close()


@pytest.fixture
def served(lazy):
    """A monitor whose descriptor was reported, is still watched for READ, still ready, and not armed."""
    lazy.ready[FD] = READ
    lazy.arm(FD, READ)
    assert lazy.poll(0) == [(FD, READ)]
    return lazy


def reports(lazy, events):
    """Whether what is armed for *events* is reported once it is ready."""
    lazy.ready[FD] = events
    return lazy.poll(0) == [(FD, events)]


def test_an_arm_between_the_first_look_and_the_muting_is_delivered(served):
    served._armed.hooks["after", "pop"] = lambda: served.arm(FD, READ)
    assert served.poll(0) == [(FD, READ)]
    assert served.poll(0) == []


def test_an_arm_after_the_muting_tells_the_kernel_again(served):
    assert served.poll(0) == []
    assert FD not in served.kernel
    served.arm(FD, READ)
    assert reports(served, READ)


def test_an_arm_between_the_muting_and_the_second_look_is_delivered(served):
    # It finds `_watched` empty and waits for the lock, which the poller has.
    looked = threading.Event()
    arming = threading.Thread(target=lambda: served.arm(FD, READ))

    def arm_meanwhile():
        served._watched.hooks["after", "get"] = looked.set
        arming.start()
        assert looked.wait(SOON)

    served.hooks.hooks["before", "unwatch"] = arm_meanwhile
    polled = served.poll(0)
    arming.join(SOON)
    assert polled + served.poll(0) == [(FD, READ)]
    served.arm(FD, READ)
    assert reports(served, READ)


def test_a_muting_between_the_two_halves_of_an_arm_is_noticed(served):
    # The poller has looked, and not found it, before the arm; it mutes in the middle of it.
    delivered = []
    served._armed.hooks["after", "pop"] = lambda: arming.start() or written.wait(SOON)
    written, muted = threading.Event(), threading.Event()

    def between():
        written.set()
        assert muted.wait(SOON)

    served._watched.hooks["before", "get"] = between
    arming = threading.Thread(target=lambda: served.arm(FD, READ))
    delivered += served.poll(0)
    muted.set()
    arming.join(SOON)
    assert delivered == [(FD, READ)]
    served.arm(FD, READ)
    assert reports(served, READ)


@pytest.mark.parametrize(("late", "new"), [(READ, WRITE), (WRITE, READ), (WRITE, READ | WRITE)])
def test_a_late_arm_does_not_overrule_the_next_owner(served, late, new):
    # Delivered before it has read `_watched`, and armed anew by its next owner.
    def deliver_and_arm_anew():
        assert served.poll(0) == [(FD, READ)]
        served.arm(FD, new)

    served._watched.hooks["before", "get"] = deliver_and_arm_anew
    served.arm(FD, late)
    assert served.kernel[FD] == new
    assert reports(served, new)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_owner_that_arms_while_the_kernel_is_being_told_gets_what_it_asked_for(served, moment):
    # READ is watched. WRITE is armed, delivered by an event from before, and READ armed anew, which the notes say
    # is watched already: just when the kernel is told WRITE.
    def deliver_and_arm_anew():
        assert served._armed.pop(FD) == WRITE
        served.arm(FD, READ)

    served.hooks.hooks[moment, "watch"] = deliver_and_arm_anew
    served.arm(FD, WRITE)
    assert served.kernel[FD] == READ
    assert reports(served, READ)


def test_an_event_from_before_a_disarm_is_not_reported(lazy):
    lazy.ready[FD] = READ
    lazy.arm(FD, READ)
    lazy.hooks.hooks["after", "wait"] = lambda: lazy.disarm(FD)
    assert lazy.poll(0) == []
    assert FD not in lazy.kernel


def test_a_refused_descriptor_is_not_armed(lazy):
    lazy.broken = True
    with pytest.raises(OSError, match="no room"):
        lazy.arm(FD, READ)
    lazy.broken = False
    lazy.ready[FD] = READ
    assert lazy.poll(0) == []
    lazy.arm(FD, READ)
    assert lazy.poll(0) == [(FD, READ)]


def test_a_descriptor_refused_a_change_is_not_armed_and_not_watched(served):
    served.broken = True
    with pytest.raises(OSError, match="no room"):
        served.arm(FD, WRITE)
    served.broken = False
    assert FD not in served.kernel
    served.arm(FD, READ)
    assert reports(served, READ)


def test_a_refusal_of_what_was_delivered_meanwhile_is_left_to_the_next_owner(served):
    def deliver():
        served.broken = True
        assert served.poll(0) == [(FD, READ)]

    served.hooks.hooks["before", "watch"] = deliver
    served.arm(FD, WRITE)
    with pytest.raises(OSError, match="no room"):
        served.arm(FD, WRITE)


def test_a_descriptor_that_cannot_be_muted_does_not_hold_a_poll_beyond_its_time(lazy):
    # As a closed descriptor of epoll that another process has inherited.
    lazy.kernel[FD] = lazy.ready[FD] = READ
    assert lazy.poll(0.01) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_arm_that_meets_the_closing_is_refused_unless_it_was_first(served, moment):
    served._watched.hooks[moment, "get"] = served.close
    if moment == "before":
        with pytest.raises(OSError, match="closed"):
            served.arm(FD, READ)
    else:
        served.arm(FD, READ)


# Waker


def test_a_waker_is_readable_from_ringing_to_draining():
    waker = Waker()
    waker.ring()
    waker.ring()
    waker.drain()
    with pytest.raises(BlockingIOError):
        os.read(waker.fd, 1)
    waker.ring()
    assert len(os.read(waker.fd, 10)) == 1
    waker.close()


def test_a_closed_waker_does_not_write_into_the_descriptor_that_has_its_number_now(pair):
    ours, theirs = pair
    waker = Waker()
    waker.close()
    os.dup2(ours.fileno(), waker._end, inheritable=False)
    waker.ring()
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    os.close(waker._end)
