"""What becomes of a connection after a turn."""

from __future__ import annotations

import enum


class After(enum.Enum):
    """What becomes of the connection after a turn."""

    NEXT = "wait for the next message"
    READ_MORE = "wait until the peer has sent more of this one, or connection.deadline"
    WRITE_MORE = "wait until the peer has taken more of the answer, or connection.deadline"
    CLOSE = "close, once all was taken"
    LINGER = "close, but let the peer read the answer first: it may still be sending"
    DETACH = "the socket belongs to somebody else now"


# Names of the module's own: a look-up in the class costs 0.1 us, and there are several a request.
NEXT, READ_MORE, WRITE_MORE, CLOSE, LINGER, DETACH = After
