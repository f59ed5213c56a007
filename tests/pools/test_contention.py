"""When threads that compute take the GIL, and when they do not: on clocks that are told."""

import sys
import time

import pytest

from rocket.pools.contention import LASTING, LONGEST_GAP, SHORTEST_GAP, Contention
from rocket.pools.slot import HAS_CPU_CLOCKS, Crew, Past

pytestmark = pytest.mark.skipif(not HAS_CPU_CLOCKS, reason="no CPU clocks of threads")

LATE = 0.005  # s: a switch interval


class FakeSlot:
    """A thread that is at one turn since *since*, and uses *share* of a core."""

    def __init__(self, share, since=1.0, connection="some"):
        self.share = share
        self.since = since
        self.connection = connection
        self.cpu = 0.0

    def look_at_cpu(self):
        pass


class Host:
    """Slots and an outside thread on one clock."""

    def __init__(self, *slots, outside=0.0, gil=True):
        self.now = 100.0
        self.slots = slots
        self.outside = outside
        self.process = self.own = 0.0
        self.heard = []
        self.contention = Contention(
            self.heard.append, process_clock=lambda: self.process, thread_clock=lambda: self.own, gil=lambda: gil
        )

    def look(self, times=1, late=LATE, dt=0.04):
        for _ in range(times):
            self.now += dt
            self.own += 0.01 * dt
            self.process += 0.01 * dt + self.outside * dt
            for slot in self.slots:
                slot.cpu += slot.share * dt
                self.process += slot.share * dt
            self.contention.look(self.now, late, Crew(tuple(self.slots), Past(7, 3.0, 0.0)))


def test_turn_that_computes_on_and_on_is_contention():
    host = Host(FakeSlot(0.5))
    host.look()
    assert host.heard == []  # it may have begun just now
    host.look()
    assert host.heard == [True]
    host.look(100)
    assert host.heard == [True]


def test_many_long_turns_share_the_cpu():
    host = Host(*(FakeSlot(0.1) for _ in range(5)))
    host.look(2)
    assert host.heard == [True]


def test_nobody_is_late_where_native_code_computes_without_the_gil():
    host = Host(FakeSlot(1.0), outside=3.0)
    host.look(100, late=0.0001)
    assert host.heard == []


def test_robbed_process_has_contention_as_any_other():
    """Neighbours leave it a tenth of a core."""
    host = Host(FakeSlot(0.09), FakeSlot(0.04))
    host.look(2)
    assert host.heard == [True]


def test_turn_that_goes_on_and_on_beside_many_that_compute_more_is_none():
    short = FakeSlot(0.9)
    host = Host(short, FakeSlot(0.1))
    for _ in range(50):
        short.since = host.now
        host.look()
    assert host.heard == []


def test_outside_thread_that_computes_is_contention():
    host = Host(FakeSlot(0.0), outside=0.6)
    host.look(2)
    assert host.heard == [True]


def test_long_turn_that_waits_is_none():
    host = Host(FakeSlot(0.0), FakeSlot(0.03))
    host.look(100)
    assert host.heard == []


def test_short_turns_are_none_however_much_they_compute():
    slot = FakeSlot(1.0)
    host = Host(slot)
    for _ in range(100):
        slot.since = host.now  # another one
        host.look()
    assert host.heard == []


def test_thread_that_serves_nothing_is_none():
    """It polls: all that CPU is the system's."""
    host = Host(FakeSlot(1.0, connection=None))
    host.look(100)
    assert host.heard == []


def test_it_ends_some_time_after_the_last_turn_that_computed():
    slot = FakeSlot(1.0)
    host = Host(slot)
    host.look(2)
    slot.share = 0.0
    host.look(int(LASTING / 0.04) - 1)
    assert host.heard == [True]
    host.look(3)
    assert host.heard == [True, False]


def test_it_goes_on_though_nobody_is_late_any_more():
    """The workers let the GIL go less often now, or more often: that says nothing."""
    host = Host(FakeSlot(0.5))
    host.look(2)
    host.look(50, late=0.0)
    assert host.heard == [True]


def test_first_look_after_a_sleep_says_nothing_of_now():
    """But that it lasts no longer."""
    slot = FakeSlot(1.0)
    host = Host(slot)
    host.look(1)
    host.look(1, dt=LONGEST_GAP * 1.1)
    assert host.heard == []
    host.look(1)
    assert host.heard == [True]
    slot.share = 0.0
    host.look(1, dt=60.0)
    assert host.heard == [True]
    host.look(1)
    assert host.heard == [True, False]


def test_a_request_now_and_then_changes_nothing_while_it_lasts():
    host = Host(FakeSlot(0.0), outside=0.9)
    host.look(2)
    for _ in range(20):
        host.look(1, dt=1.4 * LONGEST_GAP)
        host.look(2)
    assert host.heard == [True]


def test_a_long_switch_interval_of_the_program_does_not_hide_it():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.1)
    try:
        host = Host(FakeSlot(1.0))
        host.look(2)
    finally:
        sys.setswitchinterval(before)
    assert host.heard == [True]


def test_change_that_failed_is_tried_again():
    host = Host(FakeSlot(1.0))
    host.contention._on_change = fails = FailsOnce()
    host.look()
    with pytest.raises(ValueError, match="once"):
        host.look()
    host.look()
    assert fails.heard == [True, True]
    assert host.contention.present


class FailsOnce:
    def __init__(self):
        self.heard = []

    def __call__(self, present):
        self.heard.append(present)
        if len(self.heard) == 1:
            raise ValueError("once")


def test_rush_between_two_quick_looks_is_none():
    """A client in the same process, say, who wants an answer now and then."""
    host = Host(FakeSlot(0.0), outside=0.9)
    host.look(2)
    assert host.heard == [True]
    for _ in range(50):
        host.outside = 0.9
        host.look(dt=SHORTEST_GAP / 20)
        host.outside = 0.0
        host.look(10, dt=SHORTEST_GAP / 5)
    assert host.heard == [True, False]


def test_there_is_none_without_a_gil():
    host = Host(FakeSlot(1.0), gil=False)
    host.look(100)
    assert host.heard == []


def test_clocks_are_the_process_and_the_thread_s_own():
    heard = []
    contention = Contention(heard.append)
    for _ in range(3):
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass
        contention.look(time.monotonic(), 1.0, Crew())  # this thread computes: it is the controller's own
    assert heard == []
