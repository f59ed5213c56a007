"""The controller: the thread that asks the policy, starts and retires threads, and relieves workers."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional

from rocket.pools.policy import Readings
from rocket.pools.threadpool import gil_enabled

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.pools.policy import ScalingPolicy
    from rocket.pools.threadpool import Counts, ThreadPool

log = logging.getLogger("rocket.pool")

LOOK = 0.002  # s: between two looks of the guard while work may wait
QUIET_LOOKS = 8  # looks without waiting work before the guard goes to sleep
RETIRE_PAUSE = 1.0  # s: at most one thread is retired in this time
START_PAUSE = 1.0  # s: between two attempts to start the threads that are missing
INTERVAL = 0.25  # s: between two questions to a policy that does not say
LONGEST_NAP = 60.0  # s: a policy that keeps its goal for longer on an idle server will go on to
TURN_AWAY_PAUSE = 0.1  # s: between two looks for what can be done without a worker
STUCK = 10.0  # s: a handler that takes longer is logged, once, with its stack
COMPLAIN = 5.0  # s: between two log lines about a failure of the controller's own


class Controller:
    """Size the pool by *policy*, and see that work goes on when workers overstay.

    It has one thread. While work may be waiting this guard looks every couple of milliseconds: if no turn
    was finished since the last look, and the queue is not empty or nobody polls, it lets one more worker
    go, or polls once itself. Nobody else starts threads. On an idle server it sleeps; `ring` wakes it.

    *policy* may be exchanged at any time. *on_overdue* is called with each new request that no worker took
    within *queue_timeout* seconds (0: for ever), or that makes the queue longer than *max_queue* while nothing moves,
    and with each queued connection that needs no worker, because all that is left is to send or to close.
    """

    def __init__(
        self,
        pool: ThreadPool,
        policy: ScalingPolicy,
        *,
        thread_idle_timeout: float = 30.0,
        queue_timeout: float = 0.0,
        max_queue: int = sys.maxsize,
        on_overdue: Optional[Callable[[Connection], None]] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self.policy = policy
        self._thread_idle_timeout = thread_idle_timeout
        self._queue_timeout = queue_timeout or float("inf")
        self._max_queue = max_queue
        self._on_overdue = on_overdue
        self._clock = clock
        self._bell = threading.Lock()  # held while nobody rings
        self._bell.acquire()
        self._asleep = False  # written by the controller before it looks for work the last time
        self._stopping = False
        self._complained_at = -COMPLAIN
        self._thread = threading.Thread(target=self._run, name="rocket-controller", daemon=True)
        # Of the controller's thread alone:
        self._seen_turns = 0
        self._busy_max = 0
        self._asked_at = clock()
        self._last_counts: Counts = pool.counts()
        self._retired_at = clock()
        self._turned_away_at = clock()
        self._started_at = -START_PAUSE
        self._nap = 0.0  # s: how long it slept last; 0 while there is work
        self._lateness = 0.0
        self._complained_about: object = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stopping = True
        self._release_bell()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def ring(self) -> None:
        """Say that there is work. Any thread; cheap when the guard is awake."""
        if self._asleep:
            self._release_bell()

    def _release_bell(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # two rang at once: it has been heard

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        quiet = 0
        while not self._stopping:
            try:
                quiet = 0 if self._look() else quiet + 1
                self._tend()
                if quiet < QUIET_LOOKS:
                    self._wait(LOOK)
                else:
                    self._sleep()
                    quiet = 0
            except BaseException:  # also what is set from outside: without the guard a stuck worker stops all
                self._asleep = False
                if self._clock() - self._complained_at >= COMPLAIN:
                    self._complained_at = self._clock()
                    log.exception("the controller failed; it goes on")
                self._wait(LOOK)

    def _wait(self, timeout: float) -> None:
        before = self._clock()
        if not self._bell.acquire(timeout=timeout):
            self._lateness = max(self._lateness, self._clock() - before - timeout)

    def _sleep(self) -> None:
        """Sleep until somebody rings, or there is something to see to."""
        self._asleep = True
        counts = self.pool.counts()
        if self.pool.quiet:  # or somebody began to work just before
            self._wait(self._until_next_task(counts))
        self._asleep = False

    def _until_next_task(self, counts: Counts) -> float:
        """How long an idle server's guard may sleep: for good (-1) once there is nothing to change."""
        naps = []
        if counts.goal > self.pool.min_threads:
            # The policy may want fewer. Asked less and less often, or "fixed" would wake an idle server for ever.
            self._nap = max(self._interval(), 2 * self._nap)
            if self._nap < LONGEST_NAP:
                naps.append(self._nap)
        if counts.busy:
            naps.append(STUCK)  # one leads, and the rest may be stuck: it is to be told
        if counts.threads < counts.goal:
            naps.append(START_PAUSE)
        elif counts.threads > counts.goal:
            due = self.pool.asleep_since + self._thread_idle_timeout - self._clock()
            naps.append(min(LONGEST_NAP, max(RETIRE_PAUSE, due)))
        return min(naps) if naps else -1

    def _interval(self) -> float:
        return _seconds(getattr(self.policy, "interval", INTERVAL), INTERVAL)

    def _turn_away(self, *, stalled: bool) -> None:
        """Take from the queue what has waited too long; while nothing moves also what is too much."""
        now = self._clock()
        if self._on_overdue is not None and self.pool.queued and now - self._turned_away_at >= TURN_AWAY_PAUSE:
            self._turned_away_at = now
            most = self._max_queue if stalled else sys.maxsize  # a long queue that moves is served in no time
            for connection in self.pool.take_overdue(self._queue_timeout, most):
                self._on_overdue(connection)

    def _look(self) -> bool:
        """Relieve workers that overstay. Return whether work may be waiting."""
        turns = self.pool.turns
        stalled = turns == self._seen_turns
        self._seen_turns = turns
        if not stalled:
            self._nap = 0.0
        if self.pool.quiet:
            return False
        if stalled:
            self.pool.relieve(LOOK)
        self._turn_away(stalled=stalled)
        return True

    def _tend(self) -> None:
        """Ask the policy when it is time to, and see to the threads."""
        now = self._clock()
        counts = self.pool.counts()
        self._busy_max = max(self._busy_max, counts.busy)
        interval = self._interval()
        if counts.queued:
            interval = _seconds(getattr(self.policy, "pulse", None), interval)
        if now - self._asked_at >= interval:
            self._ask(now, counts)
        if counts.threads < counts.goal and (not self.pool.short or now - self._started_at >= START_PAUSE):
            self._started_at = now
            self.pool.resize(counts.goal)  # one died, or could not be started
        if now - self._retired_at >= RETIRE_PAUSE:
            self._retired_at = now
            if counts.stuck:
                for stack in self.pool.stacks(STUCK, once=True):
                    log.warning("a handler is stuck: %s", stack)
            self.pool.retire(self._thread_idle_timeout)

    def _ask(self, now: float, counts: Counts) -> None:
        last = self._last_counts
        gil = gil_enabled()  # asked each time: an extension may switch it on (PEP 703)
        self.pool.width = 1 if gil else os.cpu_count() or 1
        dt = max(1e-6, now - self._asked_at)
        wall = max(0.0, counts.wall - last.wall)
        finished = counts.finished - last.finished
        started = finished + counts.busy - last.busy
        readings = Readings(
            now=now,
            dt=dt,
            goal=counts.goal,
            threads=counts.threads,
            busy=counts.busy,
            busy_avg=wall / dt,
            busy_max=max(self._busy_max, counts.busy),
            stuck=counts.stuck,
            queued=counts.queued,
            oldest=counts.oldest,
            arrived=max(0, started + counts.queued - last.queued),
            started=max(0, started),
            finished=max(0, finished),
            wall=wall,
            lateness=self._lateness,
            gil=gil,
            min=self.pool.min_threads,
            max=self.pool.max_threads,
        )
        self._asked_at = now
        self._last_counts = counts
        self._busy_max = counts.busy
        self._lateness = 0.0
        try:
            goal = self.policy.target(readings)
            if not isinstance(goal, int) or isinstance(goal, bool):
                raise TypeError(f"target() returned {goal!r}, not an int")
        except BaseException:
            if self._complained_about is not self.policy:
                self._complained_about = self.policy
                log.exception("the policy %r failed; the goal stays at %s", self.policy, counts.goal)
            return
        in_force = self.pool.resize(goal) if goal != counts.goal else goal
        if in_force != counts.goal:
            self._nap = 0.0
            log.info("pool %s -> %s: %s", counts.goal, in_force, getattr(self.policy, "reason", "") or "policy")


def _seconds(value: object, default: float) -> float:
    """Return *value* if one can wait that long: policies are other people's, and need not inherit from ours."""
    return float(value) if isinstance(value, (int, float)) and 0 < value <= LONGEST_NAP else default
