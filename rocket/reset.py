"""Reset a TCP connection at once (RST), without closing its descriptor."""

from __future__ import annotations

import functools
import socket
import sys
from typing import Callable, Optional

UNSPECIFIED = bytes(16)  # a struct sockaddr of the family AF_UNSPEC, which is 0


def reset(sock: socket.socket) -> bool:
    """Reset the connection of *sock*, on Linux; False, and nothing done, where that is not possible.

    connect(2) to AF_UNSPEC "dissolves the association": the peer gets a RST, whoever waits for the socket wakes up, and
    all later calls fail. The descriptor stays open; the caller sees to it that nobody closes it meanwhile.
    """
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    connect = _connect()
    return connect is not None and connect(sock.fileno(), UNSPECIFIED, len(UNSPECIFIED)) == 0


@functools.cache
def _connect() -> Optional[Callable[[int, bytes, int], int]]:
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        function = ctypes.CDLL(None).connect
    except (ImportError, OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function
