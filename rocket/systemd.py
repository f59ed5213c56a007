"""systemd's protocols: sockets that it hands over (sd_listen_fds(3)), readiness and watchdog (sd_notify(3)).

Any supervisor may speak them; nothing here needs systemd, or its library.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Mapping, MutableMapping
from typing import Callable, Optional

log = logging.getLogger("rocket.systemd")

FIRST_FD = 3  # SD_LISTEN_FDS_START
UNNAMED = "unknown"  # what a socket without FileDescriptorName= is called
TELL_PATIENCE = 1.0  # s: for a supervisor that does not read; it must not hold up the server


class PassedSockets:
    """The descriptors that were handed over to this process, until they are taken.

    *environ* is read when somebody asks first, and the three variables are removed from it then: a child would
    find them, and must not (sd_listen_fds(3), unset_environment). *first* is the first descriptor. Any thread.
    """

    def __init__(self, environ: MutableMapping[str, str], first: int = FIRST_FD) -> None:
        self._environ = environ
        self._first = first
        self._lock = threading.Lock()
        self._waiting: Optional[list[tuple[int, str]]] = None  # (descriptor, name); guarded by _lock

    def named(self, name: str) -> list[int]:
        """Return the descriptors of the name *name*, "" for all, which nobody has taken. Raises OSError: why none."""
        with self._lock:
            if self._waiting is None:
                self._waiting = self._read()
            found = [fd for fd, own in self._waiting if not name or own == name]
            if not found:
                others = ", ".join(dict.fromkeys(own for _, own in self._waiting))
                raise OSError(errno.ENOENT, f"no socket has that name, but {others}" if others else "all are taken")
            return found

    def take(self, fds: list[int]) -> None:
        """Strike *fds* off: they have an owner now."""
        with self._lock:
            if self._waiting is not None:
                self._waiting = [item for item in self._waiting if item[0] not in fds]

    def unasked(self) -> int:
        """Return how many sockets were handed over to this process that nobody has asked for yet."""
        with self._lock:
            mine = self._waiting is None and self._environ.get("LISTEN_PID") == str(os.getpid())
            number = self._environ.get("LISTEN_FDS", "")
            return int(number) if mine and number.isdecimal() else 0

    def _read(self) -> list[tuple[int, str]]:
        given = {name: self._environ.get(name) for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
        pid, number, names = given.values()
        if pid is None or number is None:
            raise OSError(errno.ENOENT, "none was handed over: LISTEN_PID and LISTEN_FDS are not both set")
        if pid != str(os.getpid()):
            why = f"LISTEN_PID is {pid}, and this process {os.getpid()}: a wrapper must start it by exec"
            raise OSError(errno.ENOENT, f"they were handed over to another process ({why})")
        if not number.isdecimal() or len(number) > 5:
            raise OSError(errno.EINVAL, f"LISTEN_FDS is not possible: {number!r}")
        called = names.split(":") if names else [UNNAMED] * int(number)
        if len(called) != int(number):
            raise OSError(errno.EINVAL, f"LISTEN_FDNAMES has {len(called)} names, LISTEN_FDS says {number}")
        for name in given:
            self._environ.pop(name, None)
        if not called:
            raise OSError(errno.ENOENT, "none was handed over: LISTEN_FDS is 0")
        return [(self._first + i, name or UNNAMED) for i, name in enumerate(called)]


PASSED = PassedSockets(os.environ)


class Notifier:
    """Tell the supervisor how we are (sd_notify(3)), if it has asked for that with NOTIFY_SOCKET. Never raises."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        elif self._address and not self._address.startswith("/"):
            log.warning("NOTIFY_SOCKET is neither a path nor an abstract socket: %r", self._address)
            self._address = ""

    def __bool__(self) -> bool:
        return bool(self._address)

    def tell(self, *states: str) -> None:
        """Send *states*, such as "READY=1", in one message. Any thread."""
        if not self._address:
            return
        message = "\n".join(state.replace("\n", " ") for state in states)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(TELL_PATIENCE)
                sock.connect(self._address)
                sock.send(message.encode(errors="surrogateescape"))
        except OSError as exc:
            log.warning("cannot tell the supervisor %s: %s", states[0], exc)


def watchdog_interval(environ: Mapping[str, str], pid: int) -> Optional[float]:
    """Return how often (s) the supervisor wants to hear from *pid*; None if it does not (sd_watchdog_enabled(3))."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None  # it is another process that is watched
    return int(microseconds) / 1e6


class Supervised:
    """What a supervisor hears of a server, from `ready` to `stopping`. Does nothing for one that has not asked.

    *ailment* is called at half the watchdog's interval, as sd_watchdog_enabled(3) recommends, in a thread that is
    there for it alone. It returns "" if all is well, else what is wrong: the supervisor then hears nothing, and, if
    that goes on for the interval, does what it is told to (WatchdogSec= and Restart= in systemd.service(5)).
    """

    def __init__(self, environ: Mapping[str, str], *, ailment: Callable[[], str], pid: Optional[int] = None) -> None:
        self._notifier = Notifier(environ)
        self._ailment = ailment
        interval = watchdog_interval(environ, os.getpid() if pid is None else pid) if self._notifier else None
        self._half = 0.0 if interval is None else interval / 2
        self._end = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def ready(self, status: str) -> None:
        """Say that we serve; *status* is for people (systemctl status). Begin to answer the watchdog."""
        self._notifier.tell("READY=1", f"STATUS={status}")
        if self._half:
            self._thread = threading.Thread(target=self._run, name="rocket-watchdog", daemon=True)
            self._thread.start()

    def stopping(self, status: str) -> None:
        """Say that we are about to stop."""
        self._notifier.tell("STOPPING=1", f"STATUS={status}")

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        ill = ""
        while True:
            try:
                found = self._ailment()
            except Exception:
                log.exception("the health check failed")
                found = "the health check failed"
            if not found:
                self._notifier.tell("WATCHDOG=1")
            elif found != ill:
                log.error("not well, and the watchdog is not answered: %s", found)
            ill = found
            if self._end.wait(self._half):
                return
