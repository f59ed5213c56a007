"""SelectorsMonitor: whatever Python's `selectors` chooses; the portable fallback."""

import errno
import selectors
import warnings
from typing import Callable, ClassVar, Optional

from rocket.monitors.base import READ, WRITE, LazyMonitor, is_closed

# Selectors have WRITE = 2.
TO_SELECTOR = {READ: 1, WRITE: 2, READ | WRITE: 3}
FROM_SELECTOR = (0, READ, WRITE, READ | WRITE)


def default_selector() -> Callable[[], selectors.BaseSelector]:
    """Return the DefaultSelector of the `selectors2` package, or of the standard library where that does not import.

    selectors2 2.0.2, its last release, imports up to Python 3.9 (collections.Mapping).
    """
    chosen: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # collections.Mapping, not ours to mend
        try:
            import selectors2  # type: ignore[import, unused-ignore]
        except ImportError:
            pass
        else:
            chosen = selectors2.DefaultSelector
    return chosen


class SelectorsMonitor(LazyMonitor):
    """Watch descriptors with a selector of *selector*, by default the best that Python knows on this host."""

    name: ClassVar[str] = "selectors"

    def __init__(self, *, selector: Optional[Callable[[], selectors.BaseSelector]] = None) -> None:
        self._selector = (selector or default_selector())()
        super().__init__()

    def _wait(self, timeout: Optional[float]) -> list[tuple[int, int]]:
        try:
            return [(key.fd, FROM_SELECTOR[events]) for key, events in self._selector.select(timeout)]
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            # A selector over select(2), and somebody closed a descriptor that is watched: report it and be rid of it.
            fds = [key.fd for key in self._selector.get_map().values()]
            return [(fd, READ) for fd in fds if is_closed(fd)]

    def _watch(self, fd: int, events: int, before: int) -> None:
        # Not modify(): it goes by the selector's notes, and the kernel may have forgotten a closed descriptor.
        if before:
            self._unwatch(fd, before)
        try:
            self._selector.register(fd, TO_SELECTOR[events])
        except OSError:
            self._unwatch(fd, events)  # the selector has noted it nevertheless
            raise

    def _unwatch(self, fd: int, before: int) -> None:
        try:
            self._selector.unregister(fd)
        except KeyError:
            pass

    def _release(self) -> None:
        self._selector.close()
