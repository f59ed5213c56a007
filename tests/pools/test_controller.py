"""The controller: what it asks the policy, and that nothing a policy does stops it."""

import threading
import time

import pytest
from core_helpers import PATIENCE, kill, until

from rocket.pools.controller import STUCK, Controller
from rocket.pools.readings import Sampler
from rocket.pools.slot import Counts


class FakePool:
    """Counts as told; notes what it is asked to do."""

    min_threads, max_threads = 2, 10
    width = 1
    short = False

    def __init__(self, **figures):
        self.figures = {
            "threads": 4, "goal": 4, "awake": 1, "busy": 0, "stuck": 0, "queued": 0, "oldest": 0.0,
            "finished": 0, "wall": 0.0, "turn_wall": 0.0, "last_turn": 0.0, **figures,
        }  # fmt: skip
        self.cpu = (0.0, 0.0)
        self.crew = self  # which is asked for `cpu_times`
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

    def cpu_times(self, since):
        return self.cpu

    def stacks(self, longer_than=0.0, *, once=False):
        return [f"a stack older than {longer_than:g} s"] if once or not longer_than else []

    def relieve(self, overstay):
        self.relieved += 1

    def resize(self, goal):
        self.resized.append(goal)
        self.figures["goal"] = max(self.min_threads, min(self.max_threads, goal))
        return self.goal

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


class Host:
    """Files of a host with two CPUs and, of its memory, *free* per cent."""

    def __init__(self, free=50):
        self.free = free

    def __call__(self, path):
        if path == "/proc/meminfo":
            return f"MemTotal:       100000 kB\nMemAvailable:   {self.free * 1000} kB\n"
        return ""


def make(policy, clock, host=None, memory_reserve=0.0, **figures):
    pool = FakePool(**figures)
    controller = Controller(
        pool,
        policy,
        clock=clock,
        process_clock=lambda: pool.cpu[0],
        trusted=frozenset({Answer}),
        memory_reserve=memory_reserve,
        sampler=Sampler(host or Host()),
    )
    return controller, pool


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
    pool.figures.update(finished=150, wall=10.5, turn_wall=0.4, busy=3, queued=2, last_turn=100.3)
    pool.cpu = (0.2, 0.1)
    clock.now += 0.5
    controller._tend()
    (readings,) = policy.asked
    assert (readings.finished, readings.started, readings.arrived) == (50, 53, 55)
    assert readings.wall == pytest.approx(0.4)
    assert readings.busy_avg == pytest.approx(1.0)
    assert readings.cpu == readings.proc_cpu == pytest.approx(0.4)
    assert readings.turn_cpu == pytest.approx(0.1)
    assert readings.since_start == pytest.approx(0.2)
    assert readings.mem_free is readings.host_cpu is None
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
    controller._tend()
    assert pool.resized == [9]


def test_new_bounds_hold_at_once(clock):
    controller, pool = make(Answer(9), clock, goal=9)
    controller.resize(1, 5)
    controller._tend()
    assert (pool.min_threads, pool.max_threads, pool.goal) == (1, 5, 5)
    controller.resize(7, 8)
    controller._tend()
    assert pool.goal == 7


def test_sleeping_guard_hears_of_another_policy():
    pool = FakePool(goal=2, threads=2)
    controller = Controller(pool, Answer(2), trusted=frozenset({Answer}))
    controller.start()
    until(lambda: controller._asleep)
    controller.policy = Answer(5)
    until(lambda: pool.goal == 5)
    controller.stop()


# ---------------------------------------------------------------------- policies that take their time


class Slow:
    """A policy of somebody else's, which answers when it is told to."""

    def __init__(self):
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def target(self, readings):
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        return 7


def test_policy_that_sleeps_is_named_also_when_there_is_another(clock, caplog):
    policy = Slow()
    controller, _ = make(policy, clock)
    clock.now += 1.0
    controller._tend()
    assert policy.asked.wait(PATIENCE)
    controller.policy = Slow()
    clock.now += 1.0
    controller._tend()
    assert [repr(policy) in line for line in caplog.messages if "has not answered" in line] == [True]
    policy.go_on.set()
    controller.stop()


def test_policy_that_sleeps_holds_nobody_up_and_is_named_once(clock, caplog):
    policy = Slow()
    controller, pool = make(policy, clock)
    for _ in range(5):
        clock.now += 1.0
        controller._tend()
    pool.quiet = False
    controller._look()
    controller._look()
    assert pool.relieved
    assert pool.resized == []
    assert len([line for line in caplog.messages if "has not answered" in line]) == 1
    policy.go_on.set()
    until(lambda: controller._tend() or pool.resized == [7])
    controller.stop()


def test_answer_of_a_policy_that_was_exchanged_is_not_heard(clock):
    policy = Slow()
    controller, pool = make(policy, clock)
    clock.now += 1.0
    controller._tend()
    assert policy.asked.wait(PATIENCE)
    controller.policy = Answer(3)
    policy.go_on.set()
    until(lambda: controller._tend() or pool.resized)
    assert pool.resized == [3]
    controller.stop()


def test_policy_of_somebody_elses_may_raise(clock, caplog):
    class Broken:
        def target(self, readings):
            raise SystemExit(3)

    controller, pool = make(Broken(), clock)
    clock.now += 1.0
    until(lambda: controller._tend() or "stays at 4" in caplog.text)
    assert pool.resized == []
    controller.stop()


# ---------------------------------------------------------------------- memory


def test_goal_falls_while_memory_is_short_and_not_below_the_minimum(clock, caplog):
    controller, pool = make(Answer(10), clock, Host(free=4), memory_reserve=0.05, goal=10, threads=10)
    caplog.set_level("INFO", "rocket.pool")
    goals = []
    for _ in range(48):
        clock.now += 0.25
        controller._tend()
        goals.append(pool.goal)
    assert goals[0] == 9
    assert goals == sorted(goals, reverse=True)
    assert goals[-1] == 2
    assert "4.0% of the memory is free, less than 5.0%" in caplog.text


def test_goal_grows_again_when_there_is_memory(clock):
    host = Host(free=4)
    controller, pool = make(Answer(10), clock, host, memory_reserve=0.05, goal=6)
    clock.now += 1.0
    controller._tend()
    assert pool.goal == 5
    host.free = 20
    clock.now += 1.1
    controller._tend()
    assert pool.goal == 10


def test_memory_is_not_looked_at_if_the_guard_is_off(clock):
    looked_at = []
    controller, _ = make(Answer(4), clock, lambda path: looked_at.append(path) or "")
    clock.now += 1.0
    controller._tend()
    assert "/proc/meminfo" not in looked_at


def test_policy_gets_the_dear_readings_that_it_names(clock):
    policy = Answer(4)
    policy.needs = {"mem_free", "of_its_own"}
    controller, _ = make(policy, clock, Host(free=30))
    clock.now += 1.0
    controller._tend()
    assert policy.asked[0].mem_free == pytest.approx(0.3)
    policy.needs = 3
    clock.now += 1.0
    controller._tend()
    assert policy.asked[1].mem_free is None


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
    until(lambda: controller.readings is not None and controller._asleep)  # the policy's thread has been started
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
