"""Rounds: in turn, bounded, and ended by signals."""

import os
import signal
import time

import pytest

from rocket.bench.load import LoadError
from rocket.bench.rounds import Step, affordable, estimate, run_rounds


class Silent:
    def __init__(self):
        self.steps, self.lines = [], []

    def begin(self, steps):
        self.total = steps

    def step(self, name):
        self.steps.append(name)

    def found(self, line):
        self.lines.append(line)

    def problem(self, line):
        self.lines.append(line)


def steps_that_note(seen, names="ABC"):
    return [Step(name, lambda number, name=name: seen.append(f"{name}{number}"), 1.0) for name in names]


def test_steps_take_turns_and_round_0_is_the_warm_up():
    seen, watcher = [], Silent()
    outcome = run_rounds(steps_that_note(seen), 2, watcher)
    assert seen == ["A0", "B0", "C0", "A1", "B1", "C1", "A2", "B2", "C2"]
    assert outcome.rounds == 2
    assert not outcome.ended
    assert watcher.total == 9
    assert watcher.steps[0] == "warm-up: A"
    assert watcher.steps[-1] == "round 2 of 2: C"


@pytest.fixture
def handling():
    """What sets a signal's handler for the test, and returns it."""
    before = {}

    def handle(number, handler):
        before.setdefault(number, signal.signal(number, handler))
        return handler

    yield handle
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_it_and_what_was_found_stands(number, handling):
    seen = []
    before = handling(number, signal.default_int_handler)

    def interrupted(_round):
        os.kill(os.getpid(), number)
        time.sleep(20)  # ends at once, with the signal

    steps = [*steps_that_note(seen, "A"), Step("B", interrupted, 1.0)]
    outcome = run_rounds(steps, 5, Silent())
    assert outcome.ended == "interrupted"
    assert seen == ["A0"]
    assert signal.getsignal(number) is before


def test_signal_that_is_ignored_stays_so(handling):
    handling(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    steps = [Step("A", lambda _: os.kill(os.getpid(), signal.SIGHUP), 1.0)]
    assert run_rounds(steps, 2, Silent()).ended == ""
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_step_that_fails_twice_is_left_out_and_said_once():
    watcher, tried = Silent(), []

    def fail(number):
        tried.append(number)
        raise LoadError("nobody there")

    seen = []
    outcome = run_rounds([Step("bad", fail, 1.0), *steps_that_note(seen, "A")], 3, watcher)
    assert tried == [0, 1]
    assert seen == ["A0", "A1", "A2", "A3"]
    assert outcome.problems == ["bad: nobody there"]
    assert watcher.lines == ["bad: nobody there"]


def test_step_that_fails_now_and_then_goes_on():
    tried = []

    def fail_at_times(number):
        tried.append(number)
        if number % 2:
            raise LoadError("not now")

    run_rounds([Step("moody", fail_at_times, 1.0)], 5, Silent())
    assert tried == [0, 1, 2, 3, 4, 5]


def test_budget_means_fewer_rounds_and_never_none():
    steps = steps_that_note([])
    assert estimate(steps, 5) == 18
    assert affordable(steps, 5, None) == 5
    assert affordable(steps, 5, 18.0) == 5
    assert affordable(steps, 5, 17.0) == 4
    assert affordable(steps, 5, 1.0) == 1


def test_budget_ends_it_before_a_step_that_does_not_fit():
    seen = []
    outcome = run_rounds([*steps_that_note(seen, "A"), Step("long", lambda _: None, 3600.0)], 5, Silent(), budget=60.0)
    assert seen == ["A0"]
    assert outcome.ended == "the budget of 60 s was used up"


def test_other_errors_are_not_hidden():
    def broken(_round):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_rounds([Step("broken", broken, 1.0)], 1, Silent())
