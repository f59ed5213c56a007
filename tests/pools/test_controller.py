"""The controller: what it asks the policy, and that nothing a policy does stops it."""

import time

import pytest
from core_helpers import kill, until

from rocket.pools.controller import STUCK, Controller
from rocket.pools.threadpool import Counts


class FakePool:
    """Counts as told; notes what it is asked to do."""

    min_threads, max_threads = 2, 10
    width = 1
    short = False

    def __init__(self, **figures):
        self.figures = {
            "threads": 4, "goal": 4, "awake": 1, "busy": 0, "stuck": 0, "queued": 0, "oldest": 0.0,
            "finished": 0, "wall": 0.0, **figures,
        }  # fmt: skip
        self.quiet = True
        self.turns = 0
        self.asleep_since = 0.0
        self.relieved = 0
        self.resized = []
        self.retired = []

    @property
    def goal(self):
        return self.figures["goal"]

    @property
    def queued(self):
        return self.figures["queued"]

    def counts(self):
        return Counts(**self.figures)

    def stacks(self, longer_than, *, once):
        return [f"a stack older than {longer_than:g} s"] if once else []

    def relieve(self, overstay):
        self.relieved += 1

    def resize(self, goal):
        self.resized.append(goal)
        self.figures["goal"] = goal
        return goal

    def retire(self, older_than):
        self.retired.append(older_than)
        return False


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Answer:
    """A policy that gives one answer; an exception is raised."""

    interval = 0.25
    pulse = 0.01

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def target(self, readings):
        self.asked.append(readings)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def clock():
    return Clock()


def make(policy, clock, **figures):
    pool = FakePool(**figures)
    return Controller(pool, policy, clock=clock), pool


def test_policy_is_asked_once_an_interval(clock):
    policy = Answer(3)
    controller, pool = make(policy, clock)
    controller._tend()
    assert policy.asked == []
    clock.now += 0.25
    controller._tend()
    controller._tend()
    assert len(policy.asked) == 1
    assert pool.resized == [3]
    assert policy.asked[0].dt == pytest.approx(0.25)


def test_policy_is_asked_more_often_while_work_waits(clock):
    policy = Answer(4)
    controller, _ = make(policy, clock, queued=3, oldest=0.5)
    clock.now += 0.011
    controller._tend()
    assert policy.asked[0].queued == 3


def test_readings_are_differences(clock):
    policy = Answer(4)
    controller, pool = make(policy, clock, finished=100, wall=10.0)
    pool.figures.update(finished=150, wall=10.5, busy=3, queued=2)
    clock.now += 0.5
    controller._tend()
    (readings,) = policy.asked
    assert (readings.finished, readings.started, readings.arrived) == (50, 53, 55)
    assert readings.wall == pytest.approx(0.5)
    assert readings.busy_avg == pytest.approx(1.0)
    assert (readings.busy, readings.busy_max, readings.min, readings.max) == (3, 3, 2, 10)


@pytest.mark.parametrize("answer", [None, "8", 3.5, True, ZeroDivisionError("oops"), SystemExit(3)])
def test_policy_that_fails_keeps_the_goal_and_is_named_once(clock, caplog, answer):
    policy = Answer(answer)
    controller, pool = make(policy, clock)
    for _ in range(5):
        clock.now += 1
        controller._tend()
    assert pool.resized == []
    assert len(policy.asked) == 5
    assert len([line for line in caplog.messages if "Answer" in line and "stays at 4" in line]) == 1


def test_another_policy_is_heard_at_once(clock):
    controller, pool = make(Answer(ValueError()), clock)
    clock.now += 1
    controller._tend()
    controller.policy = Answer(9)
    clock.now += 1
    controller._tend()
    assert pool.resized == [9]


@pytest.mark.parametrize("interval", [None, 0, -1, "soon", float("nan"), float("inf"), True])
def test_nonsense_intervals_do_no_harm(clock, interval):
    policy = Answer(4)
    policy.interval = policy.pulse = interval
    controller, pool = make(policy, clock, queued=1)
    clock.now += 1.5
    controller._tend()
    assert len(policy.asked) == 1
    assert 0 < controller._until_next_task(pool.counts()) < 60


def test_stalled_work_is_relieved(clock):
    controller, pool = make(Answer(4), clock)
    pool.quiet = False
    pool.turns = 5
    assert controller._look()
    assert pool.relieved == 0  # a turn was finished since
    assert controller._look()
    assert pool.relieved == 1
    pool.quiet = True
    assert not controller._look()
    assert pool.relieved == 1


def test_missing_threads_are_started_at_once_and_tried_for_later(clock):
    controller, pool = make(Answer(4), clock, threads=3)
    controller._tend()
    assert pool.resized == [4]
    pool.short = True
    controller._tend()
    assert pool.resized == [4]
    clock.now += 1.0
    controller._tend()
    assert pool.resized == [4, 4]


def test_stuck_handler_is_logged(clock, caplog):
    controller, _ = make(Answer(4), clock, stuck=1)
    clock.now += 1.5
    controller._tend()
    assert "a handler is stuck: a stack older than 10 s" in caplog.text


def test_threads_that_are_not_needed_are_retired_one_a_second(clock):
    controller, pool = make(Answer(4), clock)
    for _ in range(30):
        clock.now += 0.1
        controller._tend()
    assert 2 <= len(pool.retired) <= 3
    assert set(pool.retired) == {30.0}


def test_guard_of_the_smallest_pool_sleeps_for_good(clock):
    controller, pool = make(Answer(2), clock, goal=2, threads=2)
    assert controller._until_next_task(pool.counts()) == -1


def test_guard_looks_after_who_is_still_busy(clock):
    controller, pool = make(Answer(2), clock, goal=2, threads=2, busy=1)
    assert controller._until_next_task(pool.counts()) == STUCK


def test_guard_sleeps_until_a_thread_can_be_retired(clock):
    controller, pool = make(Answer(2), clock, goal=2, threads=3)
    pool.asleep_since = clock.now - 10
    assert controller._until_next_task(pool.counts()) == pytest.approx(20)


@pytest.fixture
def running():
    pool = FakePool(goal=2, threads=2)
    controller = Controller(pool, Answer(2))
    controller.start()
    yield controller, pool
    controller.stop()
    assert not controller._thread.is_alive()


def test_ring_wakes_the_guard(running):
    controller, pool = running
    for _ in range(20):
        until(lambda: controller._asleep)
        seen = pool.relieved
        pool.quiet = False
        controller.ring()
        until(lambda seen=seen: pool.relieved > seen)
        pool.quiet = True


def test_guard_does_not_sleep_on_work_that_came_just_before(running):
    controller, pool = running
    for _ in range(20):
        until(lambda: controller._asleep)
        pool.quiet = False
        controller.ring()
        until(lambda: not controller._asleep)
        pool.quiet = True  # it counts quiet looks now; in between there is work again, and nobody rings
        pool.quiet = False
        seen = pool.relieved
        until(lambda seen=seen: pool.relieved > seen + 10)
        pool.quiet = True


def test_guard_survives_what_fails(running, caplog):
    controller, pool = running
    fail = lambda overstay: 1 // 0  # noqa: E731
    good, pool.relieve = pool.relieve, fail
    pool.quiet = False
    controller.ring()
    until(lambda: "ZeroDivisionError" in caplog.text)
    pool.relieve = good
    until(lambda: pool.relieved)
    assert caplog.text.count("the controller failed") == 1
    pool.quiet = True


def test_guard_survives_an_exception_from_outside(running, caplog):
    controller, pool = running
    kill(controller._thread)
    pool.quiet = False
    until(lambda: controller.ring() or "SystemExit" in caplog.text)
    seen = pool.relieved
    until(lambda: pool.relieved > seen)
    pool.quiet = True


def test_stop_in_every_state():
    for start in (False, True):
        controller = Controller(FakePool(goal=2, threads=2), Answer(2))
        if start:
            controller.start()
        controller.stop()
        controller.stop()
    controller = Controller(FakePool(goal=2, threads=2), Answer(2))
    controller.start()
    until(lambda: controller._asleep)
    before = time.monotonic()
    controller.stop()
    assert time.monotonic() - before < 10
