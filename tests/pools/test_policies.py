"""The policies that ship, and how they are named."""

import pytest

from rocket.errors import ConfigError
from rocket.pools import POLICIES, FixedPolicy, QueuePolicy, Readings, ScalingPolicy, load

QUIET = Readings(
    now=100.0, dt=0.25, goal=4, threads=4, busy=0, busy_avg=0.0, busy_max=0, stuck=0, queued=0, oldest=0.0,
    arrived=0, started=0, finished=0, wall=0.0, lateness=0.0, gil=True, min=2, max=16,
)  # fmt: skip


def readings(**changes):
    return Readings(**{**QUIET.__dict__, **changes})


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
    ],
)
def test_what_is_wrong_with_a_name_is_said(text, message):
    with pytest.raises(ConfigError, match="scaling: ") as caught:
        load(text)
    assert message in str(caught.value)
