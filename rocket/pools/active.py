"""The active queue: what is taken out of it other than by a worker. Late workers may be taking from it, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque

    from rocket.connection import Connection


def take_all(queue: deque[Connection]) -> list[Connection]:
    """Empty *queue*, one connection at a time."""
    taken = []
    try:
        while True:
            taken.append(queue.popleft())
    except IndexError:
        return taken


def take_overdue(queue: deque[Connection], now: float, timeout: float, most: int) -> list[Connection]:
    """Return what `ThreadPool.take_overdue` does. *now* is a `time.monotonic`."""
    taken = []
    try:
        for _ in range(len(queue)):  # once around: the order of the others stays
            connection = queue.popleft()
            task = connection.task
            if now - connection.since > timeout or (task is not None and task.light):
                taken.append(connection)
            else:
                queue.append(connection)
        for _ in range(len(queue) - most):
            taken.append(queue.pop())
    except IndexError:
        pass  # the workers have emptied it
    return taken
