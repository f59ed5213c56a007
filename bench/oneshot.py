"""What does lazy arming save? A monitor that does without: EPOLLONESHOT, one epoll_ctl(2) a request.

    python ../shared/compare/compare.py --servers rocket --app hello -c 64 \\
        --options "--monitor oneshot:OneShotEpollMonitor --app-dir $PWD/bench"

and the same without --options, in turn. docs/decisions/0001-lazy-arming.md has the figures. For measuring only: it
relies on its owners to disarm in time, as `rocket.monitors.base.Monitor` asks, and does not look for mistakes.
"""

import select

from rocket.monitors.base import READ, Monitor, Waker, reason_not_to_open

BITS = 0xFF  # EPOLLIN to EPOLLHUP, without EPOLLONESHOT


class OneShotEpollMonitor(Monitor):
    """Tell the kernel of each arming."""

    name = "oneshot"
    concurrent = True

    def __init__(self):
        self._epoll = select.epoll()
        self._known = set()  # fds that the kernel knows; single operations only
        self._waker = Waker()
        self._epoll.register(self._waker.fd, READ)

    @classmethod
    def unavailable(cls):
        return reason_not_to_open(select, "epoll")

    def arm(self, fd, events):
        if fd in self._known:
            self._epoll.modify(fd, events | select.EPOLLONESHOT)
        else:
            self._known.add(fd)
            self._epoll.register(fd, events | select.EPOLLONESHOT)

    def disarm(self, fd):
        if fd in self._known:
            self._known.discard(fd)
            self._epoll.unregister(fd)

    def poll(self, timeout):
        ready = [(fd, events & BITS) for fd, events in self._epoll.poll(timeout)]
        if any(fd == self._waker.fd for fd, _ in ready):
            self._waker.drain()
            ready = [event for event in ready if event[0] != self._waker.fd]
        return ready

    def wakeup(self):
        self._waker.ring()

    def close(self):
        if not self._epoll.closed:
            self._epoll.close()
            self._waker.close()
