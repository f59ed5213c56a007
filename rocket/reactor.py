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
    called, by any thread, with a connection that the monitor refuses to watch.

    A connection is in three places while it is parked: in `_parked`, whose entry says who owns it; in the
    monitor, armed; and in a bucket of the wheel. The wheel is lazy: a connection stays in the bucket it
    is in when its deadline moves further away, and is put into the right one when its bucket is due. So
    parking costs no more than a store and a comparison, and a bucket is looked at once per deadline.
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
        # fd -> connection. Stored to by any thread (one dict store), removed from by the polling thread.
        self._parked: dict[int, Connection] = {}
        self._concurrent = monitor.concurrent
        # For monitors whose arm does not reach a poll in progress: what to arm, or with 0 to disarm, in this
        # order, or a reused descriptor would lose its arming. Appended to by any thread, emptied by the poller.
        self._changes: deque[tuple[Connection, int]] = deque()
        self._polling = False  # written by the poller, before it empties the changes for the last time
        self._wheel: dict[int, dict[Connection, None]] = {}  # tick -> connections; guarded by _lock
        self._ticks: list[int] = []  # a heap of the wheel's ticks; guarded by _lock
        self._due = NEVER  # monotonic s: when the first bucket is due; written under _lock
        self._lock = threading.Lock()
        self._sweeps: deque[tuple[Callable[[Connection], bool], Optional[int]]] = deque()

    def __len__(self) -> int:
        """Return how many connections are parked. Any thread; a moment's figure."""
        return len(self._parked) + len(self._changes)

    # ------------------------------------------------------------------ any thread

    def park(self, connection: Connection, events: int, deadline: float) -> None:
        """Keep *connection* until it is ready for *events*, or *deadline* (monotonic s). Any thread; never blocks.

        The caller has handed the connection over when this returns, and must have forgotten it.
        """
        connection.deadline = deadline
        if not self._concurrent:
            self._changes.append((connection, events))
            if self._polling:
                self.monitor.wakeup()
            return
        # Parked before it is armed: an event that finds no parked connection would be lost.
        self._parked[connection.fd] = connection
        if deadline < connection.timer:
            self._schedule(connection)
        self._arm(connection, events)

    def forget(self, connection: Connection) -> None:
        """Take *connection*, which its owner is about to close, out of monitor and wheel. Any thread."""
        if connection.bucket is not None:
            with self._lock:
                if connection.bucket is not None:
                    connection.bucket.pop(connection, None)
                    connection.bucket = None
        if self._concurrent:
            self.monitor.disarm(connection.fd)
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
            timeout = None
            self._polling = True  # from here on changes wake the monitor
            if self._due != NEVER:
                timeout = max(0.0, self._due - self._clock())
        if self._changes:
            self._apply_changes()
        events = self.monitor.poll(timeout)
        self._polling = False
        now = self._clock()
        ready = []
        take = self._parked.pop
        for fd, _ in events:
            connection = take(fd, None)
            if connection is not None:
                connection.since = now
                ready.append(connection)
        if now >= self._due:
            self._expire(now, ready)
        if self._sweeps:
            self._run_sweeps(ready)
        return ready

    def close(self) -> list[Connection]:
        """Close the monitor; return the connections that were parked. After the last poll."""
        parked = list(self._parked.values()) + [connection for connection, events in self._changes if events]
        self._parked.clear()
        self._changes.clear()
        self.monitor.close()
        return parked

    # ------------------------------------------------------------------ inside

    def _arm(self, connection: Connection, events: int) -> None:
        try:
            self.monitor.arm(connection.fd, events)
        except (OSError, ValueError) as exc:  # ValueError: MonitorFull, or a monitor that is closed
            if self._parked.get(connection.fd) is connection:
                self._parked.pop(connection.fd, None)
                log.warning("cannot watch %r: %s", connection, exc)
                self._on_fail(connection)

    def _apply_changes(self) -> None:
        while self._changes:
            connection, events = self._changes.popleft()
            if events:
                self._parked[connection.fd] = connection
                if connection.deadline < connection.timer:
                    self._schedule(connection)
                self._arm(connection, events)
            else:
                self.monitor.disarm(connection.fd)

    def _schedule(self, connection: Connection) -> None:
        """Put *connection* into the bucket of its deadline."""
        tick = int(connection.deadline / TICK) + 1
        with self._lock:
            if connection.bucket is not None:
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
        if earlier and self._polling:
            self.monitor.wakeup()  # the poll in progress sleeps for longer than that

    def _expire(self, now: float, ready: list[Connection]) -> None:
        """Look at the buckets that are due: let go what is late, move what has a later deadline."""
        looked_at: list[Connection] = []
        with self._lock:
            while self._ticks and self._ticks[0] * TICK <= now:
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
            if connection.deadline > now:
                self._schedule(connection)
            else:
                self._let_go(connection, ready)

    def _let_go(self, connection: Connection, ready: list[Connection]) -> None:
        del self._parked[connection.fd]
        connection.since = self._clock()
        if self._on_expire(connection):
            ready.append(connection)

    def _run_sweeps(self, ready: list[Connection]) -> None:
        while self._sweeps:
            choose, count = self._sweeps.popleft()
            for connection in list(self._parked.values()):  # a copy: others go on parking
                if count is not None and count <= 0:
                    break
                if choose(connection) and self._parked.get(connection.fd) is connection:
                    self._let_go(connection, ready)
                    count = None if count is None else count - 1
