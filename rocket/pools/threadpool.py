"""The thread pool: the active queue, and the workers' threads that take from it, poll, or sleep.

Leader and followers (Schmidt et al., POSA 2): a worker that finds nothing to do becomes the leader, who
polls the connection monitor, queues what is ready, gives up the lead and serves what it queued. If
somebody leads already, it sleeps on a stack: the thread that slept last is woken first, so its caches are
warm, and threads that are not needed stay asleep and can be retired. A thread of its own for polling
would fight the workers for the GIL: 27,000 requests/s instead of 80,000 (docs/design.md).

Of the workers that are awake, some are blocked: in a handler that is known to wait, or that has overstayed.
Of the others no more run than can run at the same time, `width`: one with the GIL. Two that run would
only take the GIL from each other, at every system call.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Callable, Optional, Protocol

from rocket.gil import gil_enabled
from rocket.pools.active import take_all, take_overdue
from rocket.pools.slot import Counts, Crew, Slot, call_hook

if TYPE_CHECKING:
    from rocket.connection import Connection

log = logging.getLogger("rocket.pool")

POLL_PAUSE = 0.1  # s: between two polls that fail
COMPLAIN = 5.0  # s: between two log lines about them


class Poll(Protocol):
    """What the leader calls: see `Reactor.poll`."""

    def __call__(self, *, block: bool) -> list[Connection]: ...


class ThreadPool:
    """Serve ready connections with as many workers at a time as the goal allows.

    *make_worker* returns what a new thread calls with each connection; it must not raise. *poll* and
    *wakeup* are the reactor's. *on_busy* tells the controller that workers may be needed; *on_lost* gets a
    connection that nobody will serve: its worker died, or it was queued after the end. *on_thread_start* and
    *on_thread_exit* are called in each worker's thread, before its first turn and after its last. Only the controller,
    or who starts the pool, calls `resize`: starting a thread blocks its caller for 10 ms beside one
    CPU-bound thread.

    The rule that nothing waits for ever: there is always a worker that is awake. It leads, or it serves and
    will look at the queue afterwards. Whoever queues wakes the leader; a worker that goes to sleep has seen,
    under the lock, that somebody leads and the queue was empty. Where that does not hold, because work was
    found that may keep its worker for long, the goal has become smaller or a worker has died, the controller
    is told, and looks until somebody leads again.
    """

    def __init__(
        self,
        *,
        make_worker: Callable[[], Callable[[Connection], None]],
        poll: Poll,
        wakeup: Callable[[], None],
        min_threads: int,
        max_threads: int,
        on_busy: Callable[[], None] = lambda: None,
        on_lost: Callable[[Connection], None] = lambda connection: connection.close(),
        clock: Callable[[], float] = time.monotonic,
        start_thread: Callable[[threading.Thread], None] = threading.Thread.start,
        on_thread_start: Optional[Callable[[], object]] = None,
        on_thread_exit: Optional[Callable[[], object]] = None,
    ) -> None:
        self.min_threads = min_threads
        self.max_threads = max_threads
        self._make_worker = make_worker
        self._poll = poll
        self._wakeup = wakeup
        self._on_busy = on_busy
        self._on_lost = on_lost
        self._clock = clock
        self._start = start_thread
        self._on_thread_start = on_thread_start
        self._on_thread_exit = on_thread_exit
        self._queue: deque[Connection] = deque()  # the active queue; append and popleft are atomic
        self._lock = threading.Lock()
        self._goal = min_threads  # written by the controller under the lock
        self.crew = Crew()  # replaced under _lock: what a reader has got does not change
        self._idle: list[Slot] = []  # the stack of sleepers; guarded by _lock
        self._awake = 0  # threads that do not sleep; guarded by _lock
        self._blocked = 0  # those of them whose slot is blocked; guarded by _lock
        # Turns to take before somebody polls again although the queue is not empty: pipelined requests queue
        # again and again, and would starve the others. Written by the leader, and under _lock.
        self._budget = 0
        self._current: dict[int, Slot] = {}  # thread ident -> its slot; each thread stores and removes its own
        self.width = 1 if gil_enabled() else os.cpu_count() or 1  # workers that may run at once; the controller's
        self._led: object = None  # who polls; taken under _lock, given up by the leader with one store
        self._stopping = False
        self._unserved: list[Connection] = []  # what `stop` took out of the queue; of who stops the pool
        self._numbered = 0
        self._complained_at = -COMPLAIN  # monotonic s: about a poll that failed
        self.short = False  # the last thread could not be started; written by who resizes

    # ------------------------------------------------------------------ any thread

    @property
    def goal(self) -> int:
        return self._goal

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def threads(self) -> list[threading.Thread]:
        """The live worker threads."""
        return [slot.thread for slot in self.crew.slots if slot.thread is not None]

    def submit(self, connection: Connection) -> None:
        """Queue *connection* for the next free worker. Any thread; never blocks."""
        connection.since = self._clock()
        self._queue.append(connection)
        # A leader that has not seen it is in poll, or about to be; a wake-up is kept until then.
        if self._led is not None:
            self._wakeup()
        elif self._stopping:
            self._abandon()

    def hand_over(self) -> None:
        """Let another worker run in place of this one, which is about to block. A worker's thread."""
        slot = self._current.get(threading.get_ident())
        if slot is None:
            return
        with self._lock:
            if not slot.blocked:
                slot.blocked = True
                self._blocked += 1
        if self._queue or self._led is None:
            self._wake()

    def relieve(self, overstay: float) -> None:
        """Let work go on that waits for workers who overstay: wake one, or poll once. The controller's.

        Who has been at one turn for more than *overstay* seconds counts as blocked.
        """
        late = self._clock() - overstay
        with self._lock:
            for slot in self.crew.slots:
                if slot.connection is not None and not slot.blocked and slot.since < late:
                    slot.blocked = True
                    self._blocked += 1
        if self._wake():
            return
        with self._lock:
            if self._led is not None or self._stopping:
                return
            self._led = self
        try:
            self._queue.extend(self._poll(block=False))
        finally:
            self._led = None
            self._wake()  # the last busy worker may have gone to sleep meanwhile, because somebody led

    @property
    def quiet(self) -> bool:
        """Whether nothing waits: somebody leads, and the queue is empty."""
        return self._led is not None and not self._queue

    def counts(self) -> Counts:
        """Add up what the threads are doing. Any thread; never blocks."""
        # Without the lock: who holds it, and waits for the GIL beside threads that compute, holds up all workers.
        return self.crew.counts(self._queue, self._clock(), goal=self._goal, awake=self._awake)

    @property
    def turns(self) -> int:
        """How many turns were finished: the guard's sign of life."""
        return sum(slot.finished for slot in self.crew.slots)

    # ------------------------------------------------------------------ the controller's thread

    def start(self) -> None:
        """Start min_threads threads."""
        self.resize(self.min_threads)

    def resize(self, goal: int) -> int:
        """Let *goal* workers be active, within the bounds; start threads that are missing. Return the goal in force.

        Fewer threads than the goal is no error: RuntimeError ("can't start new thread") is logged, and the next
        call tries again.
        """
        goal = max(self.min_threads, min(self.max_threads, goal))
        with self._lock:
            self._goal = goal
            missing = goal - len(self.crew.slots)
        for _ in range(missing):
            if not self._start_thread():
                break
        if self._led is None:
            self._wake()  # the goal may have kept a worker asleep that is needed now
        return goal

    def retire(self, older_than: float) -> bool:
        """End the thread that has slept longest, if for *older_than* s and more threads live than the goal needs."""
        with self._lock:
            if not self._idle or len(self.crew.slots) <= self._goal:
                return False
            if self._clock() - self._idle[0].idle_since < older_than:
                return False
            slot = self._idle.pop(0)
            slot.retired = True
            self._awake += 1
        slot.sleep.release()
        return True

    @property
    def asleep_since(self) -> float:
        """Since when (monotonic s) the thread sleeps that has slept longest; infinity if none sleeps."""
        try:
            return self._idle[0].idle_since
        except IndexError:
            return math.inf

    # ------------------------------------------------------------------ stopping

    def stop(self, timeout: float) -> list[threading.Thread]:
        """End all threads; return those that were still busy after *timeout* seconds. Queued work is not begun."""
        with self._lock:
            self._stopping = True
            sleepers, self._idle = self._idle, []
            self._awake += len(sleepers)
            slots = self.crew.slots
        self._unserved += take_all(self._queue)
        for slot in sleepers:
            slot.sleep.release()
        self._wakeup()
        end = self._clock() + timeout
        late = []
        for slot in slots:
            thread = slot.thread
            if thread is None or thread is threading.current_thread() or not thread.is_alive():
                continue
            thread.join(max(0.0, end - self._clock()))
            if thread.is_alive():
                late.append(thread)
        return late

    def abandon(self) -> None:
        """End, in a forked child, the only thread there is, if it is a worker, after its turn."""
        self._lock = threading.Lock()  # another thread may have held the old one, and is not here to release it
        self._stopping = True
        self._queue.clear()

    def take_overdue(self, timeout: float, most: int) -> list[Connection]:
        """Take out of the queue what needs no worker: see `Controller`. The controller's, while nothing moves.

        That is what has waited for more than *timeout* s, the last of what exceeds *most*, and connections
        whose task is light: it does not call the application.
        """
        taken = take_overdue(self._queue, self._clock(), timeout, most)
        # While it was turned over, a worker may have found it empty, and polls now.
        if self._queue and self._led is not None:
            self._wakeup()
        return taken

    def take_queued(self) -> list[Connection]:
        """Return, and forget, what was queued and not served. After `stop`."""
        unserved, self._unserved = self._unserved, []
        return unserved + take_all(self._queue)

    def stacks(self, longer_than: float = 0.0, *, once: bool = False) -> list[str]:
        """Return, for each worker that is at its turn for *longer_than* seconds, its name, request, time and stack.

        With *once*, leave out the turns that were told of before. The controller's, or after the end.
        """
        return self.crew.stacks(self._clock(), longer_than, once=once)

    # ------------------------------------------------------------------ inside

    def _abandon(self) -> None:
        for connection in take_all(self._queue):
            self._on_lost(connection)

    def _wake(self) -> bool:
        """Wake the worker that fell asleep last, if one more may run. Return whether one was woken."""
        with self._lock:
            if not self._idle or self._awake >= self._goal or self._awake - self._blocked >= self.width:
                return False
            slot = self._idle.pop()
            self._awake += 1
        slot.sleep.release()
        return True

    def _start_thread(self) -> bool:
        slot = Slot(self._make_worker())
        with self._lock:
            if self._stopping:
                return False
            self._numbered += 1
            slot.thread = threading.Thread(
                target=self._main, args=(slot,), name=f"rocket-worker-{self._numbered}", daemon=True
            )
            self.crew = self.crew.joined_by(slot)
            self._awake += 1
            if self._on_thread_start is not None:
                slot.blocked = True  # by the hook: it may open a database connection, and the others are to go on
                self._blocked += 1
        try:
            self._start(slot.thread)
        except (RuntimeError, MemoryError) as exc:
            with self._lock:
                self._remove_locked(slot)
            if not self.short:
                self.short = True
                log.error("cannot start a worker thread (there are %s): %s; trying on", len(self.crew.slots), exc)
            return False
        self.short = False
        return True

    def _remove_locked(self, slot: Slot) -> None:
        """Strike *slot* off. It may be asleep, if it died just when it was about to."""
        self.crew = self.crew.left_by(slot)
        self._idle = [other for other in self._idle if other is not slot]
        # Not counted down: an exception set from outside may have come between two of the changes.
        self._awake = len(self.crew.slots) - len(self._idle)
        self._blocked = sum(other.blocked for other in self.crew.slots)

    def _main(self, slot: Slot) -> None:
        """What a worker's thread runs. If it dies, of an exception set from outside, nothing dies with it."""
        ident = threading.get_ident()
        self._current[ident] = slot
        slot.find_cpu_clock()
        try:
            call_hook(self._on_thread_start)
            self._run(slot)
        except BaseException as exc:
            self._bury(slot, exc)
        finally:
            self._current.pop(ident, None)
            call_hook(self._on_thread_exit)

    def _bury(self, slot: Slot, exc: BaseException) -> None:
        """Undo what the thread of *slot*, which dies of *exc*, has taken on."""
        with self._lock:
            self._remove_locked(slot)
        if self._led is slot:
            self._led = None
        connection, slot.connection = slot.connection, None
        if connection is not None:
            self._on_lost(connection)
        log.error("%s died; another will be started", threading.current_thread().name, exc_info=exc)
        if self._queue or self._led is None:
            self._wake()  # somebody may have woken this one
        self._on_busy()  # the controller looks, and starts another

    def _run(self, slot: Slot) -> None:
        """A worker's thread: turns while there are any, else the lead, else sleep."""
        clock = self._clock
        popleft = self._queue.popleft
        serve = slot.serve
        taken = 0
        while True:
            turns = self._next_turns(slot, taken)
            if turns < 0:
                return
            taken = 0
            slot.since = clock()
            for _ in range(turns):
                try:
                    connection = popleft()
                except IndexError:
                    break
                slot.connection = connection
                serve(connection)
                slot.connection = connection = None  # type: ignore[assignment]  # it is somebody else's now
                now = clock()
                slot.wall += now - slot.since
                slot.finished += 1
                slot.since = now
                taken += 1  # noqa: SIM113 (what was broken off does not count)
                if slot.blocked:
                    break  # somebody else may run in this one's place by now

    def _next_turns(self, slot: Slot, taken: int) -> int:
        """Poll, or sleep, or neither, after *taken* turns; return how many turns to take next, -1 to end the thread."""
        queue = self._queue
        with self._lock:
            self._budget -= taken
            returned = slot.blocked
            if returned:
                slot.blocked = False
                self._blocked -= 1
            if self._stopping or slot.retired:
                slot.look_at_cpu()
                self._remove_locked(slot)
                return -1
            led = self._led is not None
            surplus = self._awake > self._goal or self._awake - self._blocked > self.width
            if queue and not surplus and (self._budget > 0 or led):
                return min(len(queue), max(1, self._budget))
            if returned and self._awake <= self._goal:
                # One turn more, or the lead, before it sleeps: where handlers wait, the next one will wait again,
                # and sleeping and being woken for it costs 50 us (sleep10: 4,500 -> 5,600 requests/s).
                if queue:
                    return 1
                surplus = surplus and led
            if surplus or led:
                slot.idle_since = self._clock()
                self._awake -= 1
                self._idle.append(slot)
                lead = False
            else:
                self._led = slot
                lead = True
        if not lead:
            if not led:
                self._on_busy()  # those who stay awake may be at it for long, and nobody polls
            slot.sleep.acquire()
            return 0
        try:
            ready = self._poll(block=not queue)
        except Exception:
            ready = self._poll_failed(slot)
        queue.extend(ready)
        self._budget = len(queue)
        self._led = None
        if queue:
            # Also if the poll was but woken, by `submit`: what was submitted may keep this worker for long.
            self._on_busy()
            if self._stopping:
                return 0
            if self.width > 1:
                # Without the GIL what is ready is served side by side at once.
                for _ in ready[1 : self.width]:
                    self._wake()
        return len(queue)

    def _poll_failed(self, slot: Slot) -> list[Connection]:
        """Say so now and then; pause, or a monitor that fails for good would take all of a CPU."""
        if not self._stopping:
            now = self._clock()
            if now - self._complained_at >= COMPLAIN:
                self._complained_at = now
                log.exception("cannot poll; trying on")
            if not self._queue:
                slot.sleep.acquire(timeout=POLL_PAUSE)  # nobody releases it: this worker is awake
        return []
