"""The policies that ship, and how they are named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools_helpers import readings

from rocket.errors import ConfigError
from rocket.pools import (
    POLICIES,
    AdaptivePolicy,
    FixedPolicy,
    LoadPolicy,
    QueuePolicy,
    Readings,
    ScalingPolicy,
    StallPolicy,
    load,
)


class OneMore(ScalingPolicy):
    """What a user writes."""

    def __init__(self, step=1):
        self.step = step

    def target(self, readings):
        return readings.goal + self.step


class Duck:
    def target(self, readings):
        return 7


duck = Duck()
not_a_policy = 3


def needs_a_word():
    raise TypeError("a word is missing")


# ---------------------------------------------------------------------- fixed


def test_fixed_without_a_number_is_the_maximum():
    assert FixedPolicy().target(readings(max=16)) == 16


def test_fixed_with_a_number_is_that():
    assert FixedPolicy(8).target(readings(goal=3, queued=100)) == 8


@pytest.mark.parametrize("n", [0, -1])
def test_fixed_needs_a_thread(n):
    with pytest.raises(ConfigError, match=f"at least 1, not {n}"):
        FixedPolicy(n)


# ---------------------------------------------------------------------- queue


def test_queue_keeps_the_goal_while_it_suffices():
    assert QueuePolicy().target(readings(busy=2, busy_max=4)) == 4


def test_queue_grows_while_the_head_waits_for_busy_workers():
    policy = QueuePolicy()
    assert policy.target(readings(busy=4, queued=2, oldest=0.02)) == 6
    assert "queue 2 long, 20 ms > 5 ms" in policy.reason


def test_queue_at_most_doubles():
    assert QueuePolicy().target(readings(busy=4, queued=1000, oldest=1.0)) == 8


@pytest.mark.parametrize("changes", [{"oldest": 0.001}, {"busy": 3}, {"queued": 0}])
def test_queue_does_not_grow_without_need(changes):
    assert QueuePolicy().target(readings(**{"busy": 4, "queued": 9, "oldest": 1.0, "busy_max": 4, **changes})) == 4


def test_queue_shrinks_slowly_and_not_below_the_peak():
    policy = QueuePolicy()
    goals, goal, now = [], 16, 100.0
    while len(goals) < 30:
        goal = policy.target(readings(goal=goal, busy_max=5, now=now))
        goals.append(goal)
        now += 1.0
    assert goals == sorted(goals, reverse=True)
    assert goals[0] >= 14
    assert goals[-1] == 5


def test_queue_does_not_shrink_soon_after_growing():
    policy = QueuePolicy(cool=5.0)
    policy.target(readings(busy=4, queued=2, oldest=1.0, now=100.0))
    assert policy.target(readings(goal=6, now=104.9)) == 6
    assert policy.target(readings(goal=6, now=105.1)) == 5


# ---------------------------------------------------------------------- load


def test_load_grows_by_half_while_work_waits_and_the_host_is_calm():
    assert LoadPolicy().target(readings(goal=5, busy=5, busy_avg=5.0, queued=1)) == 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpu": 0.9}, "the workers use 0.90 of 1 cores"),
        ({"host_cpu": 0.95}, "the host's CPUs are 95% busy"),
        ({"load1": 7.0, "cpus": 4.0}, "the load average is 7.0 on 4 CPUs"),
    ],
)
def test_load_leaves_a_hot_host_alone(changes, reason):
    policy = LoadPolicy()
    assert policy.target(readings(goal=5, busy=5, busy_avg=5.0, queued=9, **changes)) == 5
    assert policy.reason == reason


def test_load_gives_back_threads_when_memory_is_short():
    assert LoadPolicy().target(readings(goal=16, busy=16, queued=9, mem_free=0.09)) == 15


def test_load_shrinks_after_five_calm_questions():
    policy = LoadPolicy()
    goals = [policy.target(readings(goal=16, now=100.0 + second)) for second in range(5)]
    assert goals == [16, 16, 16, 16, 14]


# ---------------------------------------------------------------------- stall


def test_stall_adds_one_when_nothing_moves():
    policy = StallPolicy()
    assert policy.target(readings(busy=4, queued=9, oldest=0.06, since_start=0.06)) == 5


def test_stall_looks_at_the_head_of_the_queue_also_when_others_move():
    assert StallPolicy().target(readings(busy=4, queued=9, oldest=0.3)) == 5


def test_stall_pauses_longer_the_larger_the_pool_and_the_fuller_the_cpu():
    def added(seconds, **changes):
        policy = StallPolicy()
        stalled = {"busy": 99, "busy_max": 99, "queued": 9, "oldest": 1.0, "since_start": 1.0, **changes}
        goal = stalled.pop("goal", 4)
        start = goal
        for step in range(int(seconds / 0.025)):
            goal = policy.target(readings(goal=goal, now=100 + step * 0.025, **stalled))
        return goal - start

    assert added(1.0) > added(1.0, goal=14) > added(1.0, goal=14, cpu=0.95)


def test_stall_gives_one_back_a_second_after_twenty_calm_ones():
    policy = StallPolicy()
    goal, goals = 6, []
    for second in range(24):
        goal = policy.target(readings(goal=goal, busy_max=3, now=100.0 + second))
        goals.append(goal)
    assert goals[19] == 6
    assert goals[20:] == [5, 4, 3, 3]  # 3 are needed


# ---------------------------------------------------------------------- adaptive

WAITING = {"busy": 4, "busy_max": 4, "busy_avg": 4.0, "queued": 100, "oldest": 0.05, "cpus": 2.0, "max": 128}


def ask(policy, seconds, goal, dt=0.01, **changes):
    """Ask *policy* for some time, doing as it says; all workers are busy. Return the goals."""
    goals, now = [], 100.0
    for _ in range(int(seconds / dt)):
        now += dt
        busy = {"busy": goal, "busy_max": goal, "busy_avg": float(goal)}
        per_worker = changes.get("cpu_each")
        cpu = {} if per_worker is None else {"cpu": min(1.0, per_worker * goal)}
        rest = {name: value for name, value in changes.items() if name != "cpu_each"}
        cpu = {**cpu, "proc_cpu": cpu.get("cpu", rest.get("cpu", 0.0))}
        goal = policy.target(readings(**{**WAITING, **busy, **cpu, "goal": goal, "now": now, "dt": dt, **rest}))
        goals.append(goal)
    return goals


def test_adaptive_grows_to_the_knee_at_once():
    """1 ms of CPU and 50 ms of waiting: 51 * 0.95 workers."""
    goals = ask(AdaptivePolicy(), 0.2, 4, cpu_each=1 / 51, finished=1, wall=0.051)
    assert goals[:3] == [8, 16, 32]
    assert goals[-1] in (49, 50)


def test_adaptive_says_why():
    policy = AdaptivePolicy()
    ask(policy, 0.01, 4, cpu_each=0.02)
    assert policy.reason.startswith("queue 100 long, 50 ms > 5 ms, the workers use")


def test_adaptive_cuts_to_the_floor_when_the_cpu_is_full():
    goals = ask(AdaptivePolicy(), 12, 40, cpu=1.0, finished=1, wall=0.1)
    assert goals[-1] == 2
    assert len(set(goals)) > 10  # a tenth at a time
    assert goals == sorted(goals, reverse=True)


def test_adaptive_does_not_grow_when_the_cpu_is_full():
    assert max(ask(AdaptivePolicy(), 12, 2, cpu=1.0, finished=1, wall=0.1)) <= 4


def test_adaptive_does_not_take_want_of_a_cpu_for_waiting():
    """Neighbours leave half a core to handlers that compute; the GIL is always taken."""
    goals = ask(AdaptivePolicy(), 12, 2, cpu=0.5, lateness=0.006, finished=1, wall=0.1)
    assert max(goals) <= 4


def test_adaptive_grows_beside_a_thread_that_computes():
    goals = ask(AdaptivePolicy(), 1, 2, cpu_each=0.01, proc_cpu=1.0, lateness=0.006, finished=1, wall=0.05)
    assert goals[-1] > 20


def test_adaptive_lets_one_more_in_when_nothing_moves():
    goals = ask(AdaptivePolicy(), 10, 2, cpu=1.0, oldest=5.0, since_start=5.0)
    assert 3 <= goals[-1] <= 40


def test_adaptive_does_not_count_the_stuck():
    goals = ask(AdaptivePolicy(), 1, 6, cpu=0.5, stuck=6, finished=1, wall=0.002)
    assert goals[-1] >= 8


BESIDE_LONG = {"cpu": 1.0, "finished": 10, "wall": 0.1, "turn_cpu": 0.004, "ages": (0.3, 0.3, 0.01), "stuck": 0}


def test_adaptive_gives_short_turns_a_share_beside_long_ones():
    """The CPU is full, two turns take long and use most of it, turns of 10 ms wait: up to eight for each long one."""
    policy = AdaptivePolicy()
    goals = ask(policy, 3, 3, **BESIDE_LONG)
    assert goals == sorted(goals)
    assert goals[-1] == 2 + 2 + 16
    assert max(after - before for before, after in zip(goals, goals[1:])) <= 5  # in steps, to see what each brings
    assert policy.reason.startswith(("2 take much longer than is usual, 100 wait", "the CPU is full"))


def test_adaptive_lets_nobody_in_beside_long_turns_that_use_little():
    assert max(ask(AdaptivePolicy(), 3, 3, **{**BESIDE_LONG, "turn_cpu": 0.01})) <= 2 + 2 + 1


def test_adaptive_lets_nobody_in_beside_long_turns_while_nothing_is_finished():
    """All may be such: more of them would only take longer."""
    assert max(ask(AdaptivePolicy(), 3, 3, **{**BESIDE_LONG, "finished": 0})) <= 2 + 2 + 1


def test_adaptive_does_not_cut_what_waits_beside_long_turns():
    assert set(ask(AdaptivePolicy(), 3, 40, **{**BESIDE_LONG, "ages": (0.9, 0.9, 0.01)})) == {40}


def test_adaptive_forgets_the_share_when_no_turn_takes_long():
    policy = AdaptivePolicy()
    goal = ask(policy, 3, 3, **BESIDE_LONG)[-1]
    assert ask(policy, 10, goal, **{**BESIDE_LONG, "ages": (0.01,)})[-1] == 2


def test_adaptive_gives_the_share_back_when_nothing_waits():
    """Else the next long turn would find it, minutes later."""
    for ages in ((), (0.3, 0.3)):
        policy = AdaptivePolicy()
        ask(policy, 3, 3, **BESIDE_LONG)
        assert policy._extra
        ask(policy, 60, 3, cpu=0.1, queued=0, oldest=0.0, busy=0, busy_avg=0.0, ages=ages)
        assert policy._extra == 0


def test_turns_that_all_take_a_second_are_not_long():
    policy = AdaptivePolicy()
    goals = ask(policy, 20, 3, cpu=1.0, finished=1, wall=2.0, turn_cpu=0.01, dt=0.7, ages=(2.0, 1.9, 1.8), stuck=3)
    assert goals[-1] <= 2 + 2 * 2


def test_adaptive_counts_on_all_cpus_without_the_gil():
    goals = ask(AdaptivePolicy(), 3, 2, cpu=4.0, gil=False, cpus=4.0, finished=1, wall=0.1)
    assert goals[-1] == 5


def test_adaptive_shrinks_slowly_to_the_recent_peak():
    policy = AdaptivePolicy()
    goals = ask(policy, 60, 100, dt=0.25, busy=10, busy_max=10, busy_avg=10.0, queued=0, oldest=0.0)
    assert goals[1] > 70
    assert goals[-1] == 14


def test_adaptive_takes_a_quota_that_bites_for_a_full_cpu():
    goals = ask(AdaptivePolicy(), 3, 40, cpu=0.5, throttled=0.2)
    assert goals[-1] < 20


# ---------------------------------------------------------------------- all of them

counts = st.integers(0, 1000)
times = st.floats(0, 1e6)
shares = st.floats(0, 1)


@st.composite
def any_readings(draw):
    """What could be read on some host, and some of what could not."""
    least = draw(st.integers(1, 20))
    busy, threads, finished = draw(counts), draw(counts), draw(counts)
    return Readings(
        now=draw(times),
        dt=draw(st.floats(1e-6, 3600)),
        goal=draw(st.integers(1, 1000)),
        threads=threads,
        busy=busy,
        busy_avg=draw(st.floats(0, 1000)),
        busy_max=busy + draw(counts),
        stuck=draw(st.integers(0, busy)),
        queued=draw(counts),
        oldest=draw(times),
        arrived=draw(counts),
        started=draw(counts),
        finished=finished,
        wall=draw(times),
        lateness=draw(st.floats(0, 100)),
        gil=draw(st.booleans()),
        min=least,
        max=least + draw(st.integers(0, 40)),
        since_start=draw(times),
        turn_cpu=draw(times),
        cpu=draw(st.floats(0, 128)),
        proc_cpu=draw(st.floats(0, 128)),
        cpus=draw(st.floats(0.01, 128)),
        switch=draw(st.floats(1e-6, 1)),
        host_cpu=draw(st.none() | shares),
        load1=draw(st.none() | st.floats(0, 1000)),
        mem_free=draw(st.none() | shares),
        swap_free=draw(st.none() | shares),
        rss=draw(st.none() | counts),
        throttled=draw(st.none() | shares),
        ages=tuple(sorted(draw(st.lists(times, max_size=20)), reverse=True)),
    )


every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)


@every_policy
@given(st.lists(any_readings(), min_size=1, max_size=10))
def test_any_readings_give_an_int(make, sequence):
    policy = make()
    for r in sequence:
        goal = policy.target(r)
        assert isinstance(goal, int)
        assert not isinstance(goal, bool)
        assert isinstance(policy.reason, str)


@every_policy
@settings(max_examples=40, deadline=None)
@given(any_readings())
def test_constant_readings_settle(make, r):
    policy = make()
    goal, now, goals = max(r.min, min(r.max, r.goal)), r.now, []
    for _ in range(1600):
        now += 0.25
        busy = goal if r.queued else min(r.busy, goal)  # nobody is idle while work waits
        same = {**r.__dict__, "dt": 0.25, "now": now, "goal": goal, "busy": busy, "busy_max": max(busy, r.busy_max)}
        goal = max(r.min, min(r.max, policy.target(Readings(**same))))
        goals.append(goal)
    assert len(set(goals[-100:])) == 1


@every_policy
@given(st.lists(any_readings(), min_size=1, max_size=10))
def test_nothing_grows_while_nothing_waits(make, sequence):
    if make is FixedPolicy:
        return
    policy = make()
    for r in sequence:
        assert policy.target(Readings(**{**r.__dict__, "queued": 0, "oldest": 0.0})) <= r.goal


# ---------------------------------------------------------------------- names


def test_all_names_are_loaded():
    for name, policy in POLICIES.items():
        assert type(load(name)) is policy


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("fixed:8", {"n": 8}),
        ("fixed:n=8", {"n": 8}),
        ("queue:0.02", {"age": 0.02, "cool": 5.0}),
        ("queue:age=0.02,cool=9", {"age": 0.02, "cool": 9}),
        ("queue:0.02, cool=1e1", {"age": 0.02, "cool": 10.0}),
        (f"{__name__}:OneMore", {"step": 1}),
        (f"{__name__}:OneMore:3", {"step": 3}),
        (f"{__name__}:OneMore:step=-2", {"step": -2}),
    ],
)
def test_names_take_arguments(text, attributes):
    policy = load(text)
    assert {name: getattr(policy, name) for name in attributes} == attributes


def test_policies_may_be_objects_classes_and_factories():
    assert load(duck) is duck
    assert load(f"{__name__}:duck") is duck
    assert isinstance(load(Duck), Duck)
    assert load(lambda: duck) is duck
    assert load(OneMore(2)).step == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixd", "did you mean 'fixed'"),
        ("nonsense", "there are fixed"),
        ("fixed:many", "'many' in 'fixed:many' is not a number"),
        ("fixed:0", "at least 1"),
        ("fixed:2.5", "a whole number"),
        ("queue:age=nan", "'nan' in 'queue:age=nan' is not a number"),
        ("no_such_module:Policy:3", "cannot load"),
        ("fixed:1,2", "'fixed:1,2'"),
        ("queue:speed=1", "speed"),
        ("no.such.module:Policy", "cannot load 'no.such.module:Policy'"),
        ("rocket.pools:Nothing", "Nothing"),
        (f"{__name__}:not_a_policy", "not_a_policy"),
        (f"{__name__}:needs_a_word", "a word is missing"),
        (object, "no method target"),
        (5, "5 is no policy"),
        ("queue:speed=1", "it takes age, cool"),
        ("queue:age=-1", "not -1 and 5.0"),
        ("queue:cool=-5", "not 0.005 and -5"),
        ("stall:limit=0", "not 0 and 20.0"),
        ("stall:idle=-1", "not 0.05 and -1"),
        ("load:memory=5", "not 5"),
        ("adaptive:spare=-3", "not -3"),
        ("adaptive:spare=1.5", "not 1.5"),
        ("adaptive:window=0", "not 0"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(text, message):
    with pytest.raises(ConfigError, match="scaling: ") as caught:
        load(text)
    assert message in str(caught.value)
