"""What a monitor is, and what all backends share: one-shot arming without system calls, and waking up.

Rules here: a descriptor is an int that somebody else opens and closes; events are READ and WRITE bits;
times are seconds. This file makes no readiness call; the backends make nothing else.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Collection
from threading import Lock, RLock
from time import monotonic
from typing import ClassVar, Optional

from rocket import gil

READ = 1  # the value of POLLIN and EPOLLIN: poll(2) and epoll(7) need no translation
WRITE = 4  # the value of POLLOUT and EPOLLOUT
LONGEST_WAIT = 86400.0  # s; poll(2) and epoll_wait(2) take an int of ms and overflow after 24 days


class Monitor(ABC):
    """Tell which of many descriptors are ready.

    Each monitor wraps one readiness call of the operating system, select(2), poll(2),
    epoll(7) or kqueue(2), and nothing else. Connections, deadlines and threads are the
    reactor's business; a monitor knows descriptors.

    Arming is one-shot: a descriptor that `poll` has returned is no longer armed.
    Otherwise it would be reported again and again while a worker reads from it.

    An event is a hint: the descriptor may turn out not to be ready after all (it was armed for
    something else when it fired), so its user must be prepared for BlockingIOError. A ready
    descriptor that is armed is always reported.

    Called by one thread at a time, but for `wakeup`, which any thread may call, and `arm` and
    `disarm`, which any thread may call if the monitor is `concurrent`. One descriptor has one
    owner: no two threads arm or disarm the same one at once.

    A monitor is made in the process that uses it, after any fork.
    """

    name: ClassVar[str]
    concurrent: ClassVar[bool] = False  # whether arm() reaches a poll() that is in progress
    max_fd: ClassVar[Optional[int]] = None  # the highest descriptor it can watch; None: no limit

    @classmethod
    def unavailable(cls) -> Optional[str]:
        """Return None, or the reason why this host does not have this monitor."""
        return None

    @abstractmethod
    def arm(self, fd: int, events: int) -> None:
        """Report *fd* once, as soon as it is ready for *events*: READ, WRITE or READ | WRITE.

        Arming what is armed replaces its events. Ownership passes to whoever polls: it may get
        the event before `arm` returns. If arm raises, *fd* is not armed and still the caller's.

        Raises MonitorFull if *fd* is above `max_fd`, and OSError if the system refuses it or
        the monitor is closed.
        """

    @abstractmethod
    def disarm(self, fd: int) -> None:
        """Forget *fd* altogether; no later `poll` reports it unless it is armed again.

        To be called before *fd* is closed, and at the latest before its number can be used again:
        a monitor may go by what it told the kernel, and cannot see that a number now means
        another file. Never raises if *fd* is unknown or closed, or the monitor is.
        """

    @abstractmethod
    def poll(self, timeout: Optional[float]) -> list[tuple[int, int]]:
        """Wait for at most *timeout* seconds and return (fd, events) of what is ready, each fd once.

        None waits for ever; 0 (or less) only looks. *events* is not zero: READ and WRITE bits; a hang-up
        or an error may show as other bits (EPOLLHUP, POLLNVAL), and the reader finds out by reading.
        Returns [] when the time is up (or after a day), or on `wakeup`.
        """

    @abstractmethod
    def wakeup(self) -> None:
        """Make the poll in progress, or else the next one, return at once. Any thread, also from a signal handler.

        Many calls before that poll are as one. Does nothing once the monitor is closed.
        """

    def keep_gil(self, keep: bool) -> None:  # noqa: B027 (a monitor need not)
        """From now on keep the GIL in calls that do not wait, if that is possible (see `rocket.gil`), or let it go.

        A hint: threads that compute take it. Any thread.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what the monitor holds; not while another thread polls. Again does nothing.

        The descriptors that it watched stay open: they belong to others.
        """


class Waker:
    """Interrupt a poll: a pipe whose read end `fd` is polled together with the rest.

    Promises that `fd` is readable from `ring` until `drain`, and that the pipe never fills:
    while a byte is in it, no other is written. `ring` is for any thread, `drain` for the poller.
    """

    __slots__ = ("_end", "_lock", "_rung", "fd", "keeps_gil")

    def __init__(self) -> None:
        self.keeps_gil = False  # see `Monitor.keep_gil`
        self.fd, self._end = os.pipe()  # not inheritable (PEP 446)
        os.set_blocking(self.fd, False)
        os.set_blocking(self._end, False)
        # Re-entrant: a signal handler may ring in the thread that is in here just now.
        self._lock = RLock()
        self._rung = False  # True: a byte is in the pipe, or the pipe is closed; guarded by lock

    def ring(self) -> None:
        """Make `fd` readable. Any thread; never blocks."""
        with self._lock:
            if not self._rung:
                # In this order: an exception from a signal handler in between costs one byte too many, not a wake-up.
                (gil.write if self.keeps_gil else os.write)(self._end, b"!")
                self._rung = True

    def drain(self) -> None:
        """Make `fd` unreadable until the next `ring`."""
        with self._lock:
            try:
                (gil.read if self.keeps_gil else os.read)(self.fd, 512)
            finally:
                self._rung = False

    def close(self) -> None:
        """Close both ends; `ring` does nothing from now on. To be called once."""
        with self._lock:
            # Not before the ends are closed: a late ring must not write into a stranger's descriptor.
            self._rung = True
            os.close(self.fd)
            os.close(self._end)


class LazyMonitor(Monitor):
    """Arm once for each event, but seldom tell the kernel.

    The kernel watches level-triggered and is told only what changes: a descriptor that was
    reported stays watched, and what is armed is noted here. Usually a worker is done with a
    connection before the next poll, so arming it again is a note and no system call. (EPOLLONESHOT
    needs one each: 8 % fewer requests/s.) A descriptor that fires while it is not armed, because a
    worker still serves it, is *muted*: the kernel forgets it until it is armed again, or a
    pipelining or half-closed peer would make a busy loop.

    A backend supplies `_wait`, `_watch`, `_unwatch` and `_release`, and makes its kernel object before it calls
    `__init__`. `_watch`, `_unwatch` and `_release` run under the lock; `_wait` in the polling thread without it.

    Arming races with muting and with other armings, because whoever polls may deliver an arming,
    and its new owner arm again, while the first `arm` is still on its way. Three rules, on dict
    operations that are atomic with and without the GIL, make sure that nothing is lost:

    * `arm` writes `_armed` before it reads `_watched`; whoever changes `_watched` reads `_armed` afterwards.
      One of the two sees the other.
    * What the kernel is told is what `_armed` says at that time, never the argument of a late `arm`.
    * An arming is delivered by whoever pops it from `_armed`: by one poll, or by nobody.
    """

    def __init__(self) -> None:
        self._armed: dict[int, int] = {}  # fd -> events; any thread, single operations only
        self._watched: dict[int, int] = {}  # fd -> what the kernel was told; read by any thread, written under the lock
        self._lock = Lock()
        self._closed = False  # set under the lock
        self._keeps_gil = False
        self._waker = Waker()  # watched, but never armed: poll meets it off the hot path
        try:
            self._watch(self._waker.fd, READ, 0)
        except (OSError, ValueError):
            self._waker.close()
            raise

    @abstractmethod
    def _wait(self, timeout: Optional[float]) -> Collection[tuple[int, int]]:
        """Return (fd, events) of what is ready, each fd once, after at most *timeout* seconds (None or >= 0)."""

    @abstractmethod
    def _watch(self, fd: int, events: int, before: int) -> None:
        """Let the kernel watch *fd* for *events*. It was told *before* (0: nothing), but may have forgotten it."""

    @abstractmethod
    def _unwatch(self, fd: int, before: int) -> None:
        """Let the kernel forget *fd*, which it was told to watch for *before*. OSError: it knows no such."""

    @abstractmethod
    def _release(self) -> None:
        """Close the kernel object."""

    def arm(self, fd: int, events: int) -> None:
        armed = self._armed
        # Armed already: perhaps it was closed and its number used again, and the kernel has forgotten it.
        again = fd in armed
        armed[fd] = events
        if again or self._watched.get(fd) != events:
            self._tell(fd, again)

    def _tell(self, fd: int, again: bool) -> None:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, f"the {self.name} monitor is closed")
            try:
                if fd < 0:  # fileno() of a closed socket; select and poll would only find out later
                    raise OSError(errno.EBADF, f"{fd} is no descriptor")
                while True:
                    events = self._armed.get(fd)
                    before = self._watched.get(fd, 0)
                    # None: it was delivered meanwhile, and is its new owner's business.
                    if events is None or (events == before and not again):
                        return
                    self._watch(fd, events, before)
                    self._watched[fd] = events
                    again = False
            except (OSError, ValueError):
                delivered = self._armed.pop(fd, None) is None
                self._forget_locked(fd)
                if not delivered:  # else its new owner will hear of it
                    raise

    def _forget_locked(self, fd: int) -> None:
        events = self._watched.pop(fd, None)
        if events is not None:
            try:
                self._unwatch(fd, events)
            except OSError:
                pass  # it is closed, and the kernel forgot it by itself

    def disarm(self, fd: int) -> None:
        self._armed.pop(fd, None)
        with self._lock:
            self._forget_locked(fd)

    def poll(self, timeout: Optional[float]) -> list[tuple[int, int]]:
        if self._closed:
            raise OSError(errno.EBADF, f"the {self.name} monitor is closed")
        deadline = None
        if timeout is not None:
            if not 0 <= timeout <= LONGEST_WAIT:
                timeout = 0 if timeout < 0 else LONGEST_WAIT
            deadline = monotonic() + timeout
        take = self._armed.pop
        ready = []
        while True:
            fired = self._wait(timeout)
            woken = False
            for event in fired:
                if take(event[0], None) is None:
                    if event[0] == self._waker.fd:
                        self._waker.drain()
                        woken = True
                        continue
                    self._mute(event[0])
                    # An arm from before that took `_watched` at its word, told nobody, and is delivered here.
                    # A later one sees that the kernel has to be told.
                    if take(event[0], None) is None:
                        continue
                ready.append(event)
            if ready or woken or not fired:
                return ready
            if deadline is not None:
                timeout = deadline - monotonic()
                if timeout <= 0:
                    return ready

    def _mute(self, fd: int) -> None:
        with self._lock:
            self._forget_locked(fd)

    def wakeup(self) -> None:
        self._waker.ring()

    def keep_gil(self, keep: bool) -> None:
        self._keeps_gil = self._waker.keeps_gil = keep

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._armed.clear()
            self._watched.clear()  # so that a late arm takes the slow path, and finds out
            self._release()
            self._waker.close()


def is_closed(fd: int) -> bool:
    """Whether no open file has the number *fd*."""
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


def reason_not_to_open(module: object, call: str) -> Optional[str]:
    """Return None if *module* has *call* and it opens, else what is wrong.

    Python may have been built where the call exists and run where it does not (ENOSYS).
    """
    make = getattr(module, call, None)
    if make is None:
        return f"Python's select module has no {call}() on this system"
    try:
        opened = make()
    except OSError as exc:
        return f"{call}() fails: {exc}"
    if hasattr(opened, "close"):
        opened.close()
    return None
