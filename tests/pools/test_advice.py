"""The thread that asks policies which may take their time."""

import threading

from core_helpers import PATIENCE, until
from pools_helpers import readings

from rocket.pools.advice import Advice, Adviser, consult


class Duck:
    def target(self, readings):
        return 7


def test_answer_comes_with_its_question():
    answered = threading.Event()
    adviser = Adviser(answered.set)
    policy, asked = Duck(), readings()
    assert adviser.ask(policy, asked)
    assert answered.wait(PATIENCE)
    assert adviser.take() == (policy, asked, 7, "policy")
    assert adviser.take() is None
    adviser.stop(PATIENCE)


def test_one_question_at_a_time():
    class Patient(Duck):
        def target(self, readings):
            asked.set()
            assert go_on.wait(PATIENCE)
            return 7

    asked, go_on = threading.Event(), threading.Event()
    adviser = Adviser(lambda: None)
    assert adviser.ask(Patient(), readings())
    assert not adviser.ask(Duck(), readings())
    assert asked.wait(PATIENCE)
    adviser.stop(0.0)  # it does not wait for a policy that waits
    go_on.set()
    until(lambda: adviser.take() is not None)
    until(lambda: not adviser._thread.is_alive())


def test_answer_that_comes_just_after_the_look_for_it_is_not_lost():
    class Late(Adviser):
        coming = stored = None

        @property
        def _advice(self):
            seen = self.stored
            if self.coming is not None:
                self.stored, self.coming = self.coming, None
            return seen

        @_advice.setter
        def _advice(self, advice):
            self.stored = advice

    adviser = Late(lambda: None)
    adviser.thinking = True
    adviser.coming = answer = Advice(Duck(), readings(), 7, "policy")
    assert adviser.take() is None
    assert adviser.take() is answer
    assert not adviser.thinking


def test_adviser_that_was_never_asked_has_no_thread():
    adviser = Adviser(lambda: None)
    adviser.stop(PATIENCE)
    assert adviser._thread is None


def test_consulting_never_raises():
    class Broken(Duck):
        def target(self, readings):
            raise KeyboardInterrupt

    assert isinstance(consult(Broken(), readings()).goal, KeyboardInterrupt)
