"""The connection monitor: connections between requests, or half-way through one, with a deadline each.

Who holds the lead (see `rocket.pools.threadpool`) calls `poll`; everybody else only parks. So a parked
connection is claimed, by an event, its deadline or `sweep`, by one thread at a time.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Callable, Optional

from rocket.connection import NEVER

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.monitors import Monitor

log = logging.getLogger("rocket.reactor")

TICK = 0.125  # s: deadlines are looked at this coarsely; a bucket of the wheel for each


class Reactor:
    """Keep connections until their peers speak, or for too long.

    *monitor* tells which descriptors are ready. *on_expire* is called by the polling thread with a
    connection whose deadline has passed, or that is swept out; it owns the connection from then on,
    and returns whether it is ready to be served after all (a request had just arrived). *on_fail* is
    called, by any thread, with a connection that cannot be kept: the monitor refuses to watch it, or is closed.

    A connection is in three places while it is parked: in the monitor, armed; in `_parked`; and in a
    bucket of the wheel. The entry in `_parked` is the ownership: who stores it gives the connection away,
    who pops it has it. The wheel is lazy: a connection stays in the bucket it is in when its deadline
    moves further away, and is put into the right one when its bucket is due. So parking costs no more
    than a store and a comparison, and a bucket is looked at once per deadline.
    """

    def __init__(
        self,
        monitor: Monitor,
        *,
        on_expire: Callable[[Connection], bool],
        on_fail: Callable[[Connection], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monitor = monitor
        self._on_expire = on_expire
        self._on_fail = on_fail
        self._clock = clock
        self._arm = monitor.arm
        # fd -> connection. Any thread stores and pops, one entry at a time: each is one atomic operation.
        self._parked: dict[int, Connection] = {}
        self._concurrent = monitor.concurrent
        # For monitors whose arm does not reach a poll in progress: what to arm, or with 0 to disarm, in this
        # order, or a reused descriptor would lose its arming. Appended to by any thread, emptied by the poller.
        self._changes: deque[tuple[Connection, int]] = deque()
        # fds whose event came between their arming and their parking. Stored to by the poller, which looks into
        # `_parked` again afterwards; popped by who parks, after its store to `_parked`: one of the two sees it.
        self._missed: dict[int, bool] = {}
        self._late: deque[Connection] = deque()  # ready, found by who parked; appended to by any thread
        self._polling = False  # written by the poller, before it empties the changes for the last time
        self._closed = False
        self._wheel: dict[int, dict[Connection, None]] = {}  # tick -> connections; guarded by _lock
        self._ticks: list[int] = []  # a heap of the wheel's ticks; guarded by _lock
        self._due = NEVER  # monotonic s: when the first bucket is due; written under _lock
        self._lock = threading.Lock()
        self._sweeps: deque[tuple[Callable[[Connection], bool], Optional[int]]] = deque()

    def __len__(self) -> int:
        """Return how many connections are parked. Any thread; a moment's figure."""
        waiting = 0
        changes = self._changes
        try:
            # One at a time: without the GIL no copy of a deque is safe from those who append to it (CPython 3.13).
            for i in range(len(changes)):
                waiting += changes[i][1] != 0
        except IndexError:
            pass  # the poller has just applied the rest
        return len(self._parked) + len(self._late) + waiting

    # ------------------------------------------------------------------ any thread

    def park(self, connection: Connection, events: int, deadline: float) -> None:
        """Keep *connection* until it is ready for *events*, or *deadline* (monotonic s). Any thread; never blocks.

        The caller has handed the connection over when this returns, and must have forgotten it.
        """
        connection.deadline = deadline
        if not self._concurrent:
            self._changes.append((connection, events))
            if self._polling:
                self._tell_poller()
            return
        fd = connection.fd
        try:
            # Armed before it is parked: once it is parked, it may be swept out, closed, and its number used
            # again, and a late arming would replace that of another connection.
            self._arm(fd, events)
        except (OSError, ValueError) as exc:  # ValueError: MonitorFull, or a monitor that is closed
            self._refuse(connection, exc)
            return
        self._parked[fd] = connection
        # Somebody else's now. What follows does no harm to a connection that has gone on meanwhile.
        if deadline < connection.timer:
            self._schedule(connection)
        if self._missed:
            self._claim(fd)

    def forget(self, connection: Connection) -> None:
        """Take *connection*, which its owner is about to close, out of monitor and wheel. Any thread."""
        if connection.closed:
            return  # the number may be another connection's by now
        fd = connection.fd
        if connection.bucket is not None:
            with self._lock:
                if connection.bucket is not None:
                    connection.bucket.pop(connection, None)
                    connection.bucket = None
        if self._parked.get(fd) is connection:
            self._parked.pop(fd, None)  # its worker failed after it had parked it
        if self._concurrent:
            self.monitor.disarm(fd)
            if self._missed:
                self._missed.pop(fd, None)
        else:
            self._changes.append((connection, 0))

    def sweep(self, choose: Callable[[Connection], bool], count: Optional[int] = None) -> None:
        """At the next poll let those go that *choose* chooses, oldest first, at most *count*. Any thread."""
        self._sweeps.append((choose, count))
        self.monitor.wakeup()

    def wakeup(self) -> None:
        """Make the poll in progress, or the next one, return at once. Any thread."""
        self.monitor.wakeup()

    # ------------------------------------------------------------------ the polling thread

    def poll(self, *, block: bool) -> list[Connection]:
        """Return connections that are ready, in order of readiness. One thread at a time.

        With *block* wait for the first of: an event, a deadline, `wakeup`. Else only look.
        """
        timeout: Optional[float] = 0.0
        if block:
            self._polling = True  # from here on changes wake the monitor
        if self._changes:
            self._apply_changes()
        if block:
            timeout = None if self._due == NEVER else max(0.0, self._due - self._clock())
        events = self.monitor.poll(timeout)
        self._polling = False
        now = self._clock()
        ready = []
        take = self._parked.pop
        for fd, _ in events:
            connection = take(fd, None)
            if connection is None:
                connection = self._look_again(fd)
                if connection is None:
                    continue
            connection.since = now
            ready.append(connection)
        if now >= self._due:
            self._expire(now, ready)
        if self._late:
            self._take_late(now, ready)
        if self._sweeps:
            self._run_sweeps(ready)
        return ready

    def close(self) -> list[Connection]:
        """Close the monitor; return the connections that were parked. After the last poll.

        Who parks from now on finds *on_fail* called.
        """
        self._closed = True
        # Both lead who parks later out of the fast path, to where it sees `_closed`.
        self._polling = self._missed[-1] = True
        self.monitor.close()
        # One at a time: workers that were not waited for may be parking.
        parked = []
        while self._parked:
            try:
                parked.append(self._parked.popitem()[1])
            except KeyError:
                break
        while self._late:
            parked.append(self._late.popleft())
        return parked + self._take_changes()

    # ------------------------------------------------------------------ inside: any thread

    def _refuse(self, connection: Connection, exc: Exception) -> None:
        if not self._closed:
            log.warning("cannot watch %r: %s", connection, exc)
        self._on_fail(connection)

    def _claim(self, fd: int) -> None:
        """See to an event that came before the connection of *fd* was parked, and to one parked after the end."""
        if self._missed.pop(fd, False):
            connection = self._parked.pop(fd, None)
            if connection is not None:
                self._late.append(connection)
                self.monitor.wakeup()
        if self._closed:
            connection = self._parked.pop(fd, None)
            if connection is not None:
                self._on_fail(connection)

    def _tell_poller(self) -> None:
        """Have the changes applied: the poll in progress knows nothing of them."""
        self.monitor.wakeup()
        if self._closed:
            for connection in self._take_changes():
                self._on_fail(connection)

    def _take_changes(self) -> list[Connection]:
        """Empty the changes; return those that were to be armed."""
        taken = []
        try:
            while True:
                connection, events = self._changes.popleft()
                if events:
                    taken.append(connection)
        except IndexError:
            return taken

    def _schedule(self, connection: Connection) -> None:
        """Put *connection* into the bucket of its deadline, and see that the poll in progress knows."""
        if self._put(connection) and self._polling:
            self.monitor.wakeup()  # it sleeps for longer than that

    def _put(self, connection: Connection) -> bool:
        """Put *connection* into the bucket of its deadline. Return whether no other bucket is due before.

        It stays where it is if that is due before: who parks is here after it has given the connection away, perhaps so
        late that a next one has parked it again, with an earlier deadline.
        """
        tick = int(connection.deadline / TICK) + 1
        with self._lock:
            if connection.bucket is not None:
                if connection.timer <= tick * TICK:
                    return False
                connection.bucket.pop(connection, None)
            bucket = self._wheel.get(tick)
            if bucket is None:
                bucket = self._wheel[tick] = {}
                heapq.heappush(self._ticks, tick)
            bucket[connection] = None
            connection.bucket = bucket
            connection.timer = tick * TICK
            earlier = connection.timer < self._due
            if earlier:
                self._due = connection.timer
        return earlier

    # ------------------------------------------------------------------ inside: the polling thread

    def _apply_changes(self) -> None:
        while self._changes:
            connection, events = self._changes.popleft()
            if not events:
                self.monitor.disarm(connection.fd)
                continue
            try:
                self._arm(connection.fd, events)
            except (OSError, ValueError) as exc:
                self._refuse(connection, exc)
                continue
            self._parked[connection.fd] = connection
            if connection.deadline < connection.timer:
                self._put(connection)

    def _look_again(self, fd: int) -> Optional[Connection]:
        """Return the connection of an event that found none parked, if it has been parked by now.

        If not, who is just parking it finds the note, and hands it back.
        """
        self._missed[fd] = True
        connection = self._parked.pop(fd, None)
        if connection is not None:
            self._missed.pop(fd, None)
        return connection

    def _take_late(self, now: float, ready: list[Connection]) -> None:
        while self._late:
            connection = self._late.popleft()
            connection.since = now
            ready.append(connection)

    def _expire(self, now: float, ready: list[Connection]) -> None:
        """Look at the buckets that are due: let go what is late, move what has a later deadline."""
        looked_at: list[Connection] = []
        with self._lock:
            # Empty ones too, whose connections are closed: an idle server does not wake up for them.
            while self._ticks and (self._ticks[0] * TICK <= now or not self._wheel[self._ticks[0]]):
                looked_at.extend(self._wheel.pop(heapq.heappop(self._ticks)))
            self._due = self._ticks[0] * TICK if self._ticks else NEVER
            for connection in looked_at:
                connection.timer = NEVER
                connection.bucket = None
        for connection in looked_at:
            # Whoever parks stores to _parked before it reads the timer; here the timer was written before
            # _parked is read. So one of the two sees that the connection needs a bucket; both may.
            if self._parked.get(connection.fd) is not connection:
                continue  # it is being served; the next parking finds no timer and makes one
            if connection.deadline <= now:
                self._let_go(connection, ready)
            elif connection.deadline != NEVER:
                self._put(connection)

    def _let_go(self, connection: Connection, ready: list[Connection]) -> None:
        if self._parked.pop(connection.fd, None) is None:
            return  # who parked it has seen an event, and handed it back
        # What it was armed for must not be reported when it is waiting for something else.
        self.monitor.disarm(connection.fd)
        connection.since = self._clock()
        try:
            is_ready = self._on_expire(connection)
        except Exception:
            log.exception("cannot let go of %r", connection)
            self._on_fail(connection)
            return
        if is_ready:
            ready.append(connection)

    def _run_sweeps(self, ready: list[Connection]) -> None:
        while self._sweeps:
            choose, count = self._sweeps.popleft()
            for connection in self._parked.copy().values():  # a copy: others go on parking
                if count is not None and count <= 0:
                    break
                if choose(connection) and self._parked.get(connection.fd) is connection:
                    self._let_go(connection, ready)
                    count = None if count is None else count - 1
