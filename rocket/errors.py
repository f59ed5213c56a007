"""Every exception that Rocket raises on purpose.

::

    RocketError
      ConfigError (ValueError)     an option is unknown or its value is not possible
      BindError (OSError)          an address cannot be listened on
      MonitorUnavailable           the named monitor does not exist, or not on this host
      MonitorFull (ValueError)     the monitor cannot watch one more, or such a, descriptor
      ConnectionLost (ConnectionError)   the peer went away or was too slow
        ReadTimeout
        WriteTimeout
      BadRequest                   the peer broke the protocol; .status is the answer it gets
        BodyTooLarge               413
        TargetTooLong              414
        ExpectationFailed          417
        NotTLS                     400, in plain HTTP, on a port that speaks HTTPS
        HeadTooLarge               431
        NotImplementedByServer     501
        VersionNotSupported        505
      ApplicationError             the application broke WSGI (PEP 3333); logged, answered 500
"""


class RocketError(Exception):
    """Base of all errors of Rocket."""


class ConfigError(RocketError, ValueError):
    """An option is unknown, or its value is not possible. The message names both."""


class BindError(RocketError, OSError):
    """An address cannot be listened on. The message names the address and the reason."""


class MonitorUnavailable(RocketError):
    """The named monitor does not exist, or not on this host, or cannot be opened. The message says which and why."""


class MonitorFull(RocketError, ValueError):
    """The monitor cannot watch this descriptor: select(2) ends at FD_SETSIZE."""


class ConnectionLost(RocketError, ConnectionError):
    """The peer went away or was too slow. Not a fault of the server: logged at DEBUG.

    An OSError, because frameworks take one out of ``wsgi.input`` for a client that broke off.
    """


class ReadTimeout(ConnectionLost):
    """The peer did not send in time."""


class WriteTimeout(ConnectionLost):
    """The peer did not take the answer in time."""


class BadRequest(RocketError):
    """The peer broke the protocol. *status* is the answer that it gets (RFC 9110, section 15.5)."""

    status = 400


class BodyTooLarge(BadRequest):
    """The body is longer than the server takes (RFC 9110, section 15.5.14)."""

    status = 413


class TargetTooLong(BadRequest):
    """The request line is longer than the server reads (RFC 9110, section 15.5.15)."""

    status = 414


class ExpectationFailed(BadRequest):
    """The request expects what the server does not know (RFC 9110, section 15.5.18)."""

    status = 417


class NotTLS(BadRequest):
    """The peer does not begin with TLS on a port that speaks nothing else (RFC 9110, section 4.2.2)."""


class HeadTooLarge(BadRequest):
    """A header field, or all of them together, are more than the server reads (RFC 6585, section 5)."""

    status = 431


class NotImplementedByServer(BadRequest):
    """An unknown transfer coding, or CONNECT (RFC 9110, section 15.6.2)."""

    status = 501


class VersionNotSupported(BadRequest):
    """A major version other than 1 (RFC 9110, section 15.6.6)."""

    status = 505


class ApplicationError(RocketError):
    """The application broke WSGI (PEP 3333). Logged once with its traceback; the client gets 500."""
