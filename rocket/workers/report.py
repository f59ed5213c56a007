"""Logging that cannot fail: workers survive the application's log handlers, too."""

from __future__ import annotations

import logging
from typing import Optional

log = logging.getLogger("rocket.worker")


def report(level: int, message: str, *args: object, exc: Optional[BaseException] = None) -> None:
    """Log as `logging.Logger.log` does, with the traceback of *exc*; never raise.

    A filter may fail, and so may the ``str()`` of an application's exception (logging lets a RecursionError through).
    """
    try:
        log.log(level, message, *args, exc_info=exc, stacklevel=2)
    except BaseException:
        pass  # there is nobody left to tell
