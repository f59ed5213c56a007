"""The loggers that programs for Rocket 1.x and rocket3 listen to: "Rocket", "Rocket.Requests" and "Rocket.Errors"."""

from __future__ import annotations

import copy
import logging
from typing import Optional

NullHandler = logging.NullHandler

requests = logging.getLogger("Rocket.Requests")
requests.addHandler(NullHandler())
errors = logging.getLogger("Rocket.Errors")
errors.addHandler(NullHandler())


def forward_errors() -> None:
    """Give what is logged below "rocket" also to the handlers of "Rocket.Errors" and "Rocket". Again does nothing."""
    logging.getLogger("rocket").addHandler(_FORWARDER)


class _Forwarder(logging.Handler):
    """Call the handlers of Rocket.Errors and Rocket as if the message were theirs.

    Not those of the root, which hear it from the logger "rocket" already.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if not errors.isEnabledFor(record.levelno):
            return
        renamed: Optional[logging.LogRecord] = None
        logger: Optional[logging.Logger] = errors
        while logger is not None and logger.parent is not None:
            for handler in logger.handlers:
                if record.levelno >= handler.level and not isinstance(handler, logging.NullHandler):
                    if renamed is None:
                        renamed = copy.copy(record)
                        renamed.name = "Rocket.Errors" + record.name[len("rocket") :]
                    handler.handle(renamed)
            logger = logger.parent if logger.propagate else None


_FORWARDER = _Forwarder()
