"""The controller: the thread that asks the policy, starts and retires threads, and relieves workers."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Callable

from rocket.pools.policy import Readings
from rocket.pools.threadpool import gil_enabled

if TYPE_CHECKING:
    from rocket.pools.policy import ScalingPolicy
    from rocket.pools.threadpool import Counts, ThreadPool

log = logging.getLogger("rocket.pool")

LOOK = 0.002  # s: between two looks of the guard while work may wait
QUIET_LOOKS = 8  # looks without waiting work before the guard goes to sleep
RETIRE_PAUSE = 1.0  # s: at most one thread is retired in this time


class Controller:
    """Size the pool by *policy*, and see that work goes on when workers overstay.

    It has one thread. While work may be waiting this guard looks every couple of milliseconds: if no turn
    was finished since the last look, and the queue is not empty or nobody polls, it lets one more worker
    go, or polls once itself. Nobody else starts threads. On an idle server it sleeps; `ring` wakes it.

    *policy* may be exchanged at any time.
    """

    def __init__(
        self,
        pool: ThreadPool,
        policy: ScalingPolicy,
        *,
        thread_idle_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self.policy = policy
        self._thread_idle_timeout = thread_idle_timeout
        self._clock = clock
        self._bell = threading.Lock()  # held while nobody rings
        self._bell.acquire()
        self._asleep = False  # written by the controller before it looks for work the last time
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="rocket-controller", daemon=True)
        # Of the controller's thread alone:
        self._seen_turns = 0
        self._busy_max = 0
        self._asked_at = clock()
        self._last_counts: Counts = pool.counts()
        self._retired_at = clock()
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
            except Exception:
                log.exception("the controller failed; it goes on")
            if quiet < QUIET_LOOKS:
                self._wait(LOOK)
                continue
            self._asleep = True
            if self.pool.quiet:  # or somebody began to work just before
                self._wait(self._nap())
            self._asleep = False
            quiet = 0

    def _wait(self, timeout: float) -> None:
        before = self._clock()
        if not self._bell.acquire(timeout=timeout):
            self._lateness = max(self._lateness, self._clock() - before - timeout)

    def _nap(self) -> float:
        """How long an idle server's guard may sleep: for good once the pool is at its smallest."""
        if self.pool.goal > self.pool.min_threads:
            return float(getattr(self.policy, "interval", 0.25))
        if self._last_counts.threads > self.pool.goal:
            return RETIRE_PAUSE
        return -1

    def _look(self) -> bool:
        """Relieve workers that overstay. Return whether work may be waiting."""
        turns = self.pool.turns
        stalled = turns == self._seen_turns
        self._seen_turns = turns
        if self.pool.quiet:
            return False
        if stalled:
            self.pool.relieve(LOOK)
        return True

    def _tend(self) -> None:
        """Ask the policy when it is time to, and see to the threads."""
        now = self._clock()
        counts = self.pool.counts()
        self._busy_max = max(self._busy_max, counts.busy)
        pulse = getattr(self.policy, "pulse", None)
        interval = getattr(self.policy, "interval", 0.25)
        waiting = counts.queued > 0
        if now - self._asked_at >= (pulse if waiting and pulse is not None else interval):
            self._ask(now, counts)
        if now - self._retired_at >= RETIRE_PAUSE:
            self._retired_at = now
            self.pool.revive()
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
            if not isinstance(goal, int):
                raise TypeError(f"target() returned {goal!r}, not an int")
        except Exception:
            if self._complained_about is not self.policy:
                self._complained_about = self.policy
                log.exception("the policy %r failed; the goal stays at %s", self.policy, counts.goal)
            return
        in_force = self.pool.resize(goal) if goal != counts.goal or counts.threads < counts.goal else goal
        if in_force != counts.goal:
            log.info("pool %s -> %s: %s", counts.goal, in_force, getattr(self.policy, "reason", "") or "policy")
