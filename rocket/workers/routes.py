"""Which routes wait: what the learned hand-over has learned."""

from __future__ import annotations

FAST = 0.00005  # s: a route that waits less than this on average is not measured any longer
SLOW = 0.0005  # s: a route that took longer once is measured; one that waits longer is handed over before


class Routes:
    """Remember, for the paths that were slow once, how long they are off the CPU.

    Shared by all workers. *waits* maps a path to a moving average in seconds; single look-ups and stores
    are atomic, and a lost update of an average does not matter. Bounded by *size*: the oldest path goes.
    """

    def __init__(self, size: int = 1024) -> None:
        self.waits: dict[str, float] = {}
        self._size = size

    def watch(self, path: str) -> None:
        """Measure *path* from now on: one request of it was slow."""
        waits = self.waits
        try:
            while len(waits) >= self._size:  # may be more: `learn` can bring one back that just went
                del waits[next(iter(waits))]
        except (KeyError, RuntimeError, StopIteration):
            return  # another thread is at it; the next slow request tries again
        waits.setdefault(path, SLOW / 2)

    def learn(self, path: str, waited: float) -> None:
        """Take in that a request of *path* was off the CPU for *waited* seconds."""
        average = self.waits.get(path)
        if average is None:
            return
        average += 0.2 * (waited - average)
        if average < FAST:
            self.waits.pop(path, None)  # it computes, or was slow by chance: measuring costs 1.5 us a request
        else:
            self.waits[path] = average
