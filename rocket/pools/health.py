"""Whether a pool still does its work: for a supervisor's watchdog."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rocket.pools.controller import Controller
    from rocket.pools.threadpool import ThreadPool


class Health:
    """Compare what a pool has done since the last look. One thread calls `ailment`, as often as it likes.

    Slow is not ill: that all threads are busy, and for long, is normal where handlers wait for events.
    """

    def __init__(self, pool: ThreadPool, controller: Controller) -> None:
        self._pool = pool
        self._controller = controller
        self._turns = -1
        self._queued = 0
        self._looks = -1

    def ailment(self) -> str:
        """Return what is wrong; "" if nothing is.

        Wrong is: requests waited at the last look, others or the same wait now, and no request was finished in between;
        or the controller, which relieves stuck workers, did not look though it was woken.
        """
        turns, queued, looks = self._pool.turns, self._pool.queued, self._controller.looks
        stuck = queued > 0 and self._queued > 0 and turns == self._turns
        dead = looks == self._looks
        self._turns, self._queued, self._looks = turns, queued, looks
        self._controller.wake()
        if dead:
            return "the controller does not look after the threads"
        return f"{queued} requests wait, and none is finished" if stuck else ""
