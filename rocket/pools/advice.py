"""Asks a policy in a thread of its own: it may be anybody's, and take its time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Union

if TYPE_CHECKING:
    from rocket.pools.policy import Readings, ScalingPolicy


class Advice(NamedTuple):
    """What a policy answered."""

    policy: ScalingPolicy
    readings: Readings  # what it was told
    goal: Union[int, BaseException]  # or why there is none
    reason: str


def consult(policy: ScalingPolicy, readings: Readings) -> Advice:
    """Ask *policy* now. Never raises."""
    try:
        goal = policy.target(readings)
        if not isinstance(goal, int) or isinstance(goal, bool):
            raise TypeError(f"target() returned {goal!r}, not an int")
        return Advice(policy, readings, goal, str(getattr(policy, "reason", "")) or "policy")
    except BaseException as exc:
        return Advice(policy, readings, exc, "")


class Adviser:
    """Ask policies, one question at a time, and call *on_advice* when there is an answer.

    The controller is also the guard that relieves stuck workers, so it must never wait for a policy. Those that
    ship with Rocket are arithmetic, and asked by the controller itself: a thread more would want the GIL at each pulse.
    """

    def __init__(self, on_advice: Callable[[], None]) -> None:
        self._on_advice = on_advice
        self._question: Optional[tuple[ScalingPolicy, Readings]] = None  # one store; None ends the thread
        self._advice: Optional[Advice] = None  # stored by the thread, taken by the controller
        self._bell = threading.Semaphore(0)
        self._thread: Optional[threading.Thread] = None
        self.thinking = False  # from `ask` on, until `take` has the answer
        self.asked: Optional[ScalingPolicy] = None  # while it thinks; by now the controller may have another one

    def ask(self, policy: ScalingPolicy, readings: Readings) -> bool:
        """Ask *policy*, unless the last question has not been answered. The controller's. May raise RuntimeError."""
        if self.thinking:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="rocket-policy", daemon=True)
            thread.start()
            self._thread = thread
        self.thinking = True
        self.asked = policy
        self._question = policy, readings
        self._bell.release()
        return True

    def take(self) -> Optional[Advice]:
        """Return the answer, if there is one, and forget it. The controller's."""
        advice = self._advice
        if advice is None:
            return None  # and nothing is stored: the answer may be coming just now
        self._advice = None
        self.thinking = False
        self.asked = None
        return advice

    def stop(self, timeout: float) -> None:
        """End the thread, if its policy lets it within *timeout* seconds."""
        self._question = None
        self._bell.release()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._bell.acquire()
            question = self._question
            if question is None:
                return
            self._advice = consult(*question)
            del question  # a policy is not to be kept alive by the thread that waits for another one
            self._on_advice()
