"""The API of Rocket 1.x and rocket3, for programs that were written for them: `Rocket` and what belongs to it.

::

    from rocket import Rocket

    Rocket(("127.0.0.1", 8000), "wsgi", {"wsgi_app": app}).start()

New programs use `rocket.Server`. docs/migrating.md says what each parameter has become, and what differs.
"""

from __future__ import annotations

import errno
import logging
import platform
import signal
import socket
import threading
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from rocket import CLASSIC_NAMES
from rocket.classic.app import ClassicApp
from rocket.classic.log import NullHandler as NullHandler
from rocket.classic.log import forward_errors
from rocket.errors import ConfigError
from rocket.files import Folder
from rocket.kinds import LONGEST_SECONDS
from rocket.server import Server
from rocket.version import __version__
from rocket.workers import FileWorker

if TYPE_CHECKING:
    from types import FrameType

VERSION = __version__
SERVER_NAME = socket.gethostname()
SERVER_SOFTWARE = f"Rocket {VERSION}"
HTTP_SERVER_SOFTWARE = f"{SERVER_SOFTWARE} Python/{platform.python_version()}"
BUF_SIZE = 16384
SOCKET_TIMEOUT = 10
THREAD_STOP_CHECK_INTERVAL = 1
IS_JYTHON = platform.system() == "Java"
IGNORE_ERRORS_ON_CLOSE = {errno.ECONNABORTED, errno.ECONNRESET}
DEFAULT_LISTEN_QUEUE_SIZE = 5
DEFAULT_MIN_THREADS = 10
DEFAULT_MAX_THREADS = 0
# The only constants that still mean something: what Rocket() takes if it is not told. Programs assign to the items.
DEFAULTS = {
    "LISTEN_QUEUE_SIZE": DEFAULT_LISTEN_QUEUE_SIZE,
    "MIN_THREADS": DEFAULT_MIN_THREADS,
    "MAX_THREADS": DEFAULT_MAX_THREADS,
}
PY3K = True

# What "no limit" (max_threads=0) has become: more than requests that wait ever needed, less than what a host refuses.
# The scaling policy decides how many of them there are.
UNLIMITED = 1000

log = logging.getLogger("Rocket")
log.addHandler(NullHandler())

__all__ = list(CLASSIC_NAMES)


def __getattr__(name: str) -> object:
    if name != "ssl":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:  # web2py asks for rocket.ssl, to know whether there is any
        return import_module("ssl")
    except ImportError:
        return None


def b(val: Any) -> Any:
    """Return *val* as bytes if it is a str."""
    return val.encode() if isinstance(val, str) else val


def u(val: Any, encoding: str = "us-ascii") -> Any:
    """Return *val* as str if it is bytes."""
    return val.decode(encoding) if isinstance(val, bytes) else val


class Interface(NamedTuple):
    """Where to listen: what was a tuple ``(ip, port)``, ``(ip, port, key, cert)`` or ``(ip, port, key, cert, ca)``."""

    host: str
    port: int
    keyfile: Optional[str] = None
    certfile: Optional[str] = None
    ca_certs: Optional[str] = None

    @property
    def bind(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def tls(self) -> tuple[Optional[str], ...]:
        return self[2:]


class Rocket:
    """The server of Rocket 1.x and rocket3, on top of `rocket.Server`.

    *interfaces* is one tuple ``(ip, port)``, with TLS ``(ip, port, key file, certificate file)``, and a file with the
    certificates of authorities at the end if clients may present one; or a list of such tuples. *method* is "wsgi",
    with ``{"wsgi_app": app}`` as *app_info* (and ``"futures": True`` for wsgiorg.executor); or "fs", with
    ``{"document_root": folder, "display_index": False}``. *queue_size* is listen(2)'s backlog. After *timeout* seconds
    an idle connection is closed; 0 is never. *min_threads*, *max_threads*: None is what DEFAULTS says, 0 threads at
    most is no limit (`UNLIMITED`). With *handle_signals* SIGTERM and SIGINT stop it, and SIGUSR1 restarts it.

    *options* are further ones of `rocket.Server`, so that a program can move by and by.
    """

    def __init__(  # noqa: PLR0917 (as it always was)
        self,
        interfaces: Union[tuple[Any, ...], list[tuple[Any, ...]]] = ("127.0.0.1", 8000),
        method: str = "wsgi",
        app_info: Optional[dict[str, Any]] = None,
        min_threads: Optional[int] = None,
        max_threads: Optional[int] = None,
        queue_size: Optional[int] = None,
        timeout: float = 600,
        handle_signals: bool = True,
        **options: Any,
    ) -> None:
        self.interfaces = _read_interfaces(interfaces)
        self.app_info = app_info if isinstance(app_info, dict) else {}
        self.handle_signals = handle_signals
        self.timeout = timeout
        low, high = _read_threads(min_threads, max_threads)
        given: dict[str, Any] = {
            "min_threads": low,
            "max_threads": high,
            "keep_alive": _read_timeout(timeout),
            **({"backlog": queue_size} if queue_size else {}),
        }
        app, by_method = _read_method(method, self.app_info, single=high == 1)
        given = {**given, **by_method, **options}
        # One server for each key and certificate: to it TLS is one thing for all its addresses.
        groups: dict[tuple[Optional[str], ...], list[Interface]] = {}
        for interface in self.interfaces:
            groups.setdefault(interface.tls, []).append(interface)
        self._secure = [bool(group[0].certfile) for group in groups.values()]
        self.servers = [
            Server(app, bind=[each.bind for each in group], **_tls_options(group[0]), **given)
            for group in groups.values()
        ]
        self._lock = threading.Lock()  # one stop at a time
        self._starter: Optional[threading.Thread] = None  # who is in start()
        self._stopper: Optional[threading.Thread] = None  # who is in stop(); guarded by _lock
        self._listening = False  # the log says so
        self._stop_wanted = False  # since start() was called
        self._restarting = False  # who is in start() is to start again
        self._handlers: dict[signal.Signals, Any] = {}  # what was there before ours
        forward_errors()

    # ------------------------------------------------------------------ the classic methods

    def start(self, background: bool = False) -> None:
        """Serve. Return at once if *background*, or else when the server has been stopped. Raises BindError."""
        log.info("Starting %s", SERVER_SOFTWARE)
        if background:
            self._start_all()
            self._handle_signals({signal.SIGTERM: self._sigterm, signal.SIGUSR1: self._sigusr1})
            return
        self._stop_wanted = False
        self._starter = threading.current_thread()
        try:
            while True:
                try:
                    self._serve()
                except KeyboardInterrupt:
                    pass  # from a console: stop
                finally:
                    self._stop_all()
                if not self._restarting:
                    return
                self._restarting = self._stop_wanted = False
        finally:
            self._restarting = False
            self._starter = None
            self._restore_signals()

    def stop(self, stoplogging: bool = False) -> None:
        """Stop: listen no more, finish what is in progress, for at most graceful_timeout. Any thread.

        In a signal's handler that interrupts `start` or `stop` it returns at once, and these do it; `start` hurries if
        it is called twice.
        """
        self._stop_wanted = True
        if self._starter is threading.current_thread():
            self.servers[0].drain()  # which only tells it to
        elif self._stopper is not threading.current_thread():
            self._stop_all()
            if self._starter is None and not self._restarting:
                self._restore_signals()
        if stoplogging:
            warnings.warn("stop(stoplogging=True): logging is the program's own, and goes on", DeprecationWarning, 2)

    def restart(self) -> None:
        """Stop, and start again: in the thread that is in `start`, or in the background if there is none."""
        if self._stopper is threading.current_thread():
            return  # a signal's handler, which has interrupted the end
        self._restarting = True
        self.stop()
        if self._starter is None:
            self._restarting = False
            self.start(background=True)

    # ------------------------------------------------------------------ inside

    def _serve(self) -> None:
        first, *others = self.servers

        def ready() -> None:
            for server in others:
                if not server.running:  # they may, since start(background=True)
                    server.start()
            self._tell()
            if self._stop_wanted:  # it came before anything was there to be stopped
                first.drain()

        self._handle_signals({signal.SIGUSR1: self._sigusr1})
        first.serve_forever(ready, handle_signals=self.handle_signals)

    def _stop_all(self) -> None:
        with self._lock:
            self._stopper = threading.current_thread()
            try:
                if self._listening:
                    self._listening = False
                    log.info("Stopping %s", SERVER_SOFTWARE)
                for server in self.servers:
                    server.drain()
            finally:
                self._stopper = None

    def _start_all(self) -> None:
        if any(server.running for server in self.servers):
            raise RuntimeError("the server is running already")
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            for server in self.servers:
                server.stop()
            raise
        self._tell()

    def _tell(self) -> None:
        told = [
            f"{address[0]}:{address[1]}{'*' if server_tls else ''}"
            for server, server_tls in zip(self.servers, self._secure)
            for address in server.addresses
        ]
        self._listening = True
        log.info("Listening on sockets: %s", ", ".join(told))

    def _handle_signals(self, handlers: Mapping[signal.Signals, Any]) -> None:
        if self.handle_signals and threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                before = signal.signal(number, handler)
                self._handlers.setdefault(number, before)

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            while self._handlers:
                number, handler = self._handlers.popitem()
                if signal.getsignal(number) in (self._sigterm, self._sigusr1):  # else the program has its own by now
                    signal.signal(number, handler)

    def _sigterm(self, number: int, frame: Optional[FrameType]) -> None:
        log.info("Received SIGTERM")
        self.stop()

    def _sigusr1(self, number: int, frame: Optional[FrameType]) -> None:
        log.info("Received SIGUSR1")
        self.restart()


def CherryPyWSGIServer(  # noqa: PLR0917 (as it always was)
    bind_addr: Union[tuple[Any, ...], list[tuple[Any, ...]]],
    wsgi_app: Any,
    numthreads: int = 10,
    server_name: Optional[str] = None,
    max: int = -1,
    request_queue_size: int = 5,
    timeout: float = 10,
    shutdown_timeout: float = 5,
) -> Rocket:
    """Return a `Rocket` for programs that were written for CherryPy's server. *server_name* is not used.

    *numthreads* and *max* are the threads at least and at most, below 0 without limit. *timeout* is that of `Rocket`.
    Requests in progress get *shutdown_timeout* seconds when it stops.
    """
    return Rocket(
        bind_addr,
        "wsgi",
        {"wsgi_app": wsgi_app},
        min_threads=numthreads,
        max_threads=max if max > 0 else 0,
        queue_size=request_queue_size,
        timeout=timeout,
        graceful_timeout=shutdown_timeout,
    )


# --- What the parameters have become ---------------------------------------------------------------------------------


def _read_interfaces(interfaces: Any) -> list[Interface]:
    one = isinstance(interfaces, (tuple, list)) and interfaces and isinstance(interfaces[0], str)
    found = [interfaces] if one else interfaces
    if not isinstance(found, (tuple, list)) or not found:
        raise ConfigError(f"interfaces must be a tuple (ip, port) or a list of such tuples, not {interfaces!r}")
    return [_read_interface(each) for each in found]


def _read_interface(interface: Any) -> Interface:
    if not isinstance(interface, (tuple, list)) or len(interface) not in {2, 4, 5}:
        raise ConfigError(
            "an interface must be (ip, port), (ip, port, key file, certificate file) or "
            f"(ip, port, key file, certificate file, CA file), not {interface!r}"
        )
    host, port, *files = interface
    if not isinstance(host, str) or isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigError(f"an interface begins with an address and a port from 0 to 65535: {interface!r}")
    if files and not (files[0] and files[1]):
        raise ConfigError(f"an interface with TLS needs a key file and a certificate file: {interface!r}")
    return Interface(host, port, *(str(name) if name else None for name in files))


def _read_threads(low: Optional[int], high: Optional[int]) -> tuple[int, int]:
    """Return min_threads and max_threads. Of two that contradict each other the larger wins, as in Rocket 1."""
    most = DEFAULTS["MAX_THREADS"] if high is None else high
    least = DEFAULTS["MIN_THREADS"] if low is None else low
    for name, number in (("min_threads", least), ("max_threads", most)):
        if not isinstance(number, int):
            raise ConfigError(f"{name} must be a whole number, not {number!r}")
    most = most or max(UNLIMITED, least)
    if low is None:
        least = min(least, most)
    return max(1, least), max(1, least, most)


def _read_timeout(timeout: Any) -> Any:
    """Return keep_alive: 0 and None are never, and so is what is longer than it can be."""
    if isinstance(timeout, (int, float)) and timeout > LONGEST_SECONDS:
        return LONGEST_SECONDS
    return timeout or LONGEST_SECONDS


def _read_method(method: str, app_info: Mapping[str, Any], *, single: bool) -> tuple[Any, dict[str, Any]]:
    """Return what to serve, and the options that go with it."""
    name = method.lower() if isinstance(method, str) else method
    if name == "fs":
        return _folder(app_info)
    if name != "wsgi":
        raise ConfigError(f"method must be 'wsgi' or 'fs', not {method!r}")
    app = app_info.get("wsgi_app")
    if not callable(app):
        raise ConfigError(f"app_info['wsgi_app'] must be a WSGI application, not {app!r}")
    options = {"futures": max(DEFAULTS["MIN_THREADS"], 2)} if app_info.get("futures") else {}  # as many as then
    return ClassicApp(app, single=single), options


def _folder(app_info: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the folder of method "fs", and the options of the worker for files."""
    root = app_info.get("document_root")
    if not root:
        raise ConfigError("method 'fs' needs app_info['document_root'], the folder to serve")
    # No index files: a folder was listed or not found, whatever is in it.
    return Folder(root, index=(), listing=bool(app_info.get("display_index"))), {"worker": FileWorker}


def _tls_options(interface: Interface) -> dict[str, Any]:
    """Return the options of an interface with a key and a certificate."""
    if not interface.certfile:
        return {}
    given = {"keyfile": interface.keyfile, "certfile": interface.certfile}
    if interface.ca_certs:
        given.update(ca_certs=interface.ca_certs, cert_reqs="optional")  # as then: who shows none is served, too
    return given
