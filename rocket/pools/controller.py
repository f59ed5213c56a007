"""The controller: the thread that asks the policy, starts and retires threads, and relieves workers."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional

from rocket.connection import NEVER
from rocket.gil import gil_enabled
from rocket.pools.advice import Advice, Adviser, consult
from rocket.pools.contention import LASTING, Contention
from rocket.pools.journal import Journal
from rocket.pools.policy import DEAR, LONGEST_INTERVAL, Readings, interval_of, pulse_of
from rocket.pools.readings import Sampler

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.pools.policy import ScalingPolicy
    from rocket.pools.slot import Counts
    from rocket.pools.threadpool import ThreadPool

log = logging.getLogger("rocket.pool")

LOOK = 0.002  # s: between two looks of the guard while work may wait
LONGEST_LOOK = 0.016  # s: the same, where the GIL or the CPUs are full
QUIET_LOOKS = 8  # looks without waiting work before the guard goes to sleep
RETIRE_PAUSE = 1.0  # s: at most one thread is retired in this time
START_PAUSE = 1.0  # s: between two attempts to start the threads that are missing
LONGEST_NAP = LONGEST_INTERVAL  # s: a policy that keeps its goal for longer on an idle server will go on to
TURN_AWAY_PAUSE = 0.1  # s: between two looks for what can be done without a worker
CONTENTION_NAP = LASTING / 2  # s: threads that compute are looked for so often while nothing else is to be done
STUCK = 10.0  # s: a handler that takes longer is logged, once, with its stack
COMPLAIN = 5.0  # s: between two log lines about a failure of the controller's own
SLOW = 0.5  # s: a policy that takes longer to answer is named, once
TIGHTEN_PAUSE = 1.0  # s: between two cuts because memory is short
STOP_PATIENCE = 0.2  # s: what a policy that is being asked gets when all ends


class Controller:
    """Size the pool by *policy*, and see that work goes on when workers overstay.

    It has one thread. While work may be waiting this guard looks every couple of milliseconds: if no turn
    was finished since the last look, and the queue is not empty or nobody polls, it lets one more worker
    go, or polls once itself. Nobody else starts threads. On an idle server it sleeps; `ring` wakes it.

    *policy* may be exchanged at any time. Those of a class in *trusted* are asked by this thread; any other one
    might sleep, and is asked in a thread of its own. Whatever it says, the goal falls while less than
    *memory_reserve* (a share; 0: off) of the memory is free.

    *on_overdue* is called with each new request that no worker took within *queue_timeout* seconds (0: for ever), or
    that makes the queue longer than *max_queue* while nothing moves, and with each queued connection that needs no
    worker, because all that is left is to send or to close. *on_contention* is called with True when threads that
    compute take the GIL from the others, and with False when they do so no more.
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
        on_contention: Optional[Callable[[bool], None]] = None,
        memory_reserve: float = 0.0,
        trusted: frozenset[type] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
        process_clock: Callable[[], float] = time.process_time,
        sampler: Optional[Sampler] = None,
    ) -> None:
        self.pool = pool
        self.readings: Optional[Readings] = None  # those that the policy was asked with last
        self.looks = 0  # written by the controller's thread: that it goes on
        self._policy = policy
        self._ask_now = False  # whether the policy is new; set by any thread, cleared by the controller
        self._thread_idle_timeout = thread_idle_timeout
        self._queue_timeout = queue_timeout or float("inf")
        self._max_queue = max_queue
        self._on_overdue = on_overdue
        self._on_contention = on_contention
        self._memory_reserve = memory_reserve
        self._trusted = trusted
        self._clock = clock
        self._process_clock = process_clock
        self._bell = threading.Lock()  # held while nobody rings
        self._bell.acquire()
        self._asleep = False  # written by the controller before it looks for work the last time
        self._stopping = False
        self._complained_at = -COMPLAIN
        self._thread = threading.Thread(target=self._run, name="rocket-controller", daemon=True)
        # Of the controller's thread alone:
        self._sampler = sampler or Sampler()
        self._adviser = Adviser(self.wake)
        self._journal = Journal()
        self._contention = Contention(self._contend, process_clock=process_clock)
        self._seen_turns = 0
        self._stalled = False  # at the last look
        self._still_since = NEVER  # monotonic s: since when nothing has been finished though work waits
        self._last_late = 0.0  # s: how late it woke from the last wait
        self._busy_max = 0
        self._asked_at = clock()
        self._last_counts: Counts = pool.counts()
        self._last_cpu = self._cpu_times()
        self._retired_at = clock()
        self._turned_away_at = clock()
        self._started_at = -START_PAUSE
        self._tightened_at = -TIGHTEN_PAUSE
        self._nap = 0.0  # s: how long it slept last; 0 while there is work
        self._late = 0.0  # s: the sum of how late it woke since it asked last
        self._waits = 0  # how many times that was
        self._complained_about: object = None
        self._slow_policy: object = None

    @property
    def policy(self) -> ScalingPolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: ScalingPolicy) -> None:
        """Ask *policy* from now on, and at once. Any thread."""
        self._policy = policy
        self._ask_now = True
        self.wake()

    def start(self) -> None:
        self._ask_now = True  # a fixed number of threads is to be there before the first rush
        # The first time takes long (it imports psutil), and the guard must not wait for it.
        self._sampler.dear(self._clock(), _needs(self.policy))
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stopping = True
        self._release_bell()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._adviser.stop(STOP_PATIENCE)

    def resize(self, min_threads: int, max_threads: int) -> None:
        """Change the pool's bounds. Any thread, one at a time."""
        pool = self.pool
        # Never the lower above the upper, whenever the controller looks.
        pool.max_threads = max(pool.max_threads, max_threads)
        pool.min_threads = min_threads
        pool.max_threads = max_threads
        self.wake()

    def wake(self) -> None:
        """Look, whatever the guard is at. Any thread."""
        self._release_bell()

    @property
    def stalled(self) -> bool:
        """Whether nothing has been finished for some time though work waits. Any thread; a moment's figure."""
        return self._clock() - self._still_since > TURN_AWAY_PAUSE

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
                    # Who is woken late waited for the GIL, or a CPU: more looks, and more workers, would only take
                    # it from those who use it (20 % of the requests/s of handlers that compute).
                    self._wait(min(LONGEST_LOOK, max(LOOK, 4 * self._last_late)))
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
        self._last_late = 0.0
        if not self._bell.acquire(timeout=timeout):
            self._last_late = max(0.0, self._clock() - before - timeout)
            self._late += self._last_late
            self._waits += 1

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
        if self._ask_now:
            naps.append(LOOK)
        if counts.goal > self.pool.min_threads:
            # The policy may want fewer. Asked less and less often, or "fixed" would wake an idle server for ever.
            self._nap = max(interval_of(self.policy), 2 * self._nap)
            if self._nap < LONGEST_NAP:
                naps.append(self._nap)
        if self._contention.present:
            naps.append(CONTENTION_NAP)
        if counts.busy:
            naps.append(STUCK)  # one leads, and the rest may be stuck: it is to be told
        if self._journal.pending:
            naps.append(RETIRE_PAUSE)
        if counts.threads < counts.goal:
            naps.append(START_PAUSE)
        elif counts.threads > counts.goal:
            due = self.pool.asleep_since + self._thread_idle_timeout - self._clock()
            naps.append(min(LONGEST_NAP, max(RETIRE_PAUSE, due)))
        return min(naps) if naps else -1

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
        self.looks += 1
        turns = self.pool.turns
        stalled = turns == self._seen_turns
        self._seen_turns = turns
        if not stalled:
            self._nap = 0.0
        if self._on_contention is not None:
            self._contention.look(self._clock(), self._last_late, self.pool.crew)
        if self.pool.quiet:
            self._still_since = NEVER
            return False
        if stalled and (self._stalled or self._last_late < LOOK):
            self.pool.relieve(LOOK)
        self._stalled = stalled
        if not stalled:
            self._still_since = NEVER
        elif self._still_since == NEVER:
            self._still_since = self._clock()
        self._turn_away(stalled=stalled)
        return True

    def _contend(self, present: bool) -> None:
        self._sampler.keep_gil(present)
        if self._on_contention is not None:
            self._on_contention(present)

    def _tend(self) -> None:
        """Ask the policy when it is time to, and see to the threads."""
        now = self._clock()
        counts = self.pool.counts()
        self._busy_max = max(self._busy_max, counts.busy)
        if not self.pool.min_threads <= counts.goal <= self.pool.max_threads:
            self.pool.resize(counts.goal)  # the bounds were changed
            counts = self.pool.counts()
        interval = pulse_of(self.policy) if counts.queued else interval_of(self.policy)
        if self._ask_now or now - self._asked_at >= interval:
            self._ask(now, counts)
        advice = self._adviser.take()
        if advice is not None:
            self._follow(advice)
        missing = counts.threads < min(counts.goal, self.pool.goal)  # one died, or could not be started
        if missing and (not self.pool.short or now - self._started_at >= START_PAUSE):
            self._started_at = now
            self.pool.resize(self.pool.goal)
        if now - self._retired_at >= RETIRE_PAUSE:
            self._retired_at = now
            self._see_to_the_stuck(now, counts)
            self.pool.retire(self._thread_idle_timeout)

    def _see_to_the_stuck(self, now: float, counts: Counts) -> None:
        if counts.stuck:
            for stack in self.pool.stacks(STUCK, once=True):
                log.warning("a handler is stuck: %s", stack)
        reason = str(getattr(self.policy, "reason", ""))
        self._journal.look_at(counts, self.pool.max_threads, now, reason, self.pool.stacks)
        self._journal.tend(now)

    def _ask(self, now: float, counts: Counts) -> None:
        if self._adviser.thinking:
            thinker = self._adviser.asked
            if now - self._asked_at >= SLOW and self._slow_policy is not thinker:
                self._slow_policy = thinker
                log.warning("the policy %r has not answered for %.1f s; the goal stays", thinker, now - self._asked_at)
            return
        self._ask_now = False
        policy = self.policy
        self.readings = readings = self._read(now, counts, policy)
        if type(policy) in self._trusted:
            self._follow(consult(policy, readings))
        else:
            self._adviser.ask(policy, readings)

    def _read(self, now: float, counts: Counts, policy: ScalingPolicy) -> Readings:
        """Return what has happened since this was called last."""
        last, cpu_before = self._last_counts, self._last_cpu
        gil = gil_enabled()  # asked each time: an extension may switch it on (PEP 703)
        cpus = self._sampler.cpus(now)
        self.pool.width = 1 if gil else math.ceil(cpus)
        dt = max(1e-6, now - self._asked_at)
        cpu = self._cpu_times()
        busy_time = max(0.0, counts.wall - last.wall)
        finished = max(0, counts.finished - last.finished)
        started = max(0, finished + counts.busy - last.busy)
        needs = _needs(policy) | ({"mem_free"} if self._memory_reserve else frozenset())
        readings = Readings(
            now=now,
            dt=dt,
            goal=counts.goal,
            threads=counts.threads,
            busy=counts.busy,
            busy_avg=busy_time / dt,
            busy_max=max(self._busy_max, counts.busy),
            stuck=counts.stuck,
            queued=counts.queued,
            oldest=counts.oldest,
            arrived=max(0, started + counts.queued - last.queued),
            started=started,
            finished=finished,
            wall=max(0.0, counts.turn_wall - last.turn_wall),
            lateness=self._late / self._waits if self._waits else 0.0,
            gil=gil,
            min=self.pool.min_threads,
            max=self.pool.max_threads,
            ages=counts.ages,
            since_start=max(0.0, now - counts.last_turn),
            turn_cpu=max(0.0, cpu[1] - cpu_before[1]),
            cpu=max(0.0, cpu[0] - cpu_before[0]) / dt,
            proc_cpu=max(0.0, cpu[2] - cpu_before[2]) / dt,
            cpus=cpus,
            switch=sys.getswitchinterval(),
            **self._sampler.dear(now, needs),
        )
        self._asked_at = now
        self._last_counts = counts
        self._last_cpu = cpu
        self._busy_max = counts.busy
        self._late, self._waits = 0.0, 0
        return readings

    def _cpu_times(self) -> tuple[float, float, float]:
        """Return seconds of CPU: of the workers, of their finished turns, of the process, also in their place."""
        process = self._process_clock()
        return (*(self.pool.crew.cpu_times(self._asked_at) or (process, process)), process)

    def _follow(self, advice: Advice) -> None:
        """Do as a policy says, if it is still asked, and memory allows."""
        policy, readings, goal, reason = advice
        if policy is not self.policy:
            return
        if isinstance(goal, BaseException):
            if self._complained_about is not policy:
                self._complained_about = policy
                log.error("the policy %r failed; the goal stays at %s", policy, readings.goal, exc_info=goal)
            goal = readings.goal
        free = readings.mem_free
        if free is not None and free < self._memory_reserve:
            goal = min(goal, self._tightened(readings))
            reason = f"{free:.1%} of the memory is free, less than {self._memory_reserve:.1%}"
        in_force = self.pool.resize(goal) if goal != self.pool.goal else goal
        if in_force != readings.goal:
            self._nap = 0.0
            self._journal.changed(readings, in_force, reason)

    def _tightened(self, readings: Readings) -> int:
        """Return the goal while memory is short: a tenth less each second, as often as memory is looked at."""
        if readings.now - self._tightened_at < TIGHTEN_PAUSE:
            return readings.goal
        self._tightened_at = readings.now
        return readings.goal - max(1, readings.goal // 10)


def _needs(policy: ScalingPolicy) -> frozenset[str]:
    try:
        return DEAR & frozenset(getattr(policy, "needs", ()))
    except TypeError:
        return frozenset()
