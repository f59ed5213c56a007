"""The facade: puts listeners, reactor, pool, controller and workers together, and takes them apart."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from rocket import monitors, pools
from rocket.binds import Address, Bind, parse_binds
from rocket.certificates import secured
from rocket.config import Config
from rocket.errors import BindError, ConfigError
from rocket.parts import Parts
from rocket.signals import STOPPING, Signals
from rocket.stderr import quiet_handshakes
from rocket.systemd import Supervised
from rocket.workers import Worker, WSGIWorker

if TYPE_CHECKING:
    from rocket.pools import ScalingPolicy

log = logging.getLogger("rocket.server")


class Server:
    """Serve a WSGI application over HTTP/1.1 with threads.

    ::

        with Server(app, bind="127.0.0.1:0", monitor="epoll") as server:
            print(server.url)

    *options* are those of `rocket.config.Config` (docs/options.md); a ConfigError names the nearest
    known option if one is unknown. *monitor* and *scaling* take names, dotted paths or objects. With
    ``worker=`` a subclass of `Worker` serves, and *app* is whatever that expects.

    Several servers may run in one process, in any thread. A stopped server can be started again,
    unless it listened on sockets that were inherited: they are closed then.
    """

    def __init__(self, app: Any, *, config: Optional[Config] = None, **options: Any) -> None:
        self.config = Config(**options) if config is None else config.replace(**options)
        worker = self.config.worker
        if worker is None and not callable(app):
            hint = ", for a folder's files say worker=rocket.FileWorker" if isinstance(app, (str, os.PathLike)) else ""
            raise ConfigError(f"the application is not callable: {app!r}{hint}")
        if worker is not None and not issubclass(worker, Worker):
            raise ConfigError(f"worker: {worker.__name__} is not a subclass of rocket.Worker")
        if self.config.futures and worker is not None and not issubclass(worker, WSGIWorker):
            raise ConfigError(f"futures ({self.config.futures}) is for WSGI applications, not for {worker.__name__}")
        self.app = app if worker is None else worker.prepare(app)
        self._make_monitor = monitors.load(self.config.monitor)  # type: ignore[arg-type]  # checked there
        self._policy: ScalingPolicy = pools.load(self.config.scaling)  # type: ignore[arg-type]  # checked there
        self._binds = secured(parse_binds(self.config.bind), self.config)
        self._spent: Optional[Bind] = None  # what was inherited, and is not there a second time
        self._state_lock = threading.RLock()  # one start or stop at a time
        self._running: Optional[Parts] = None
        self._started_at = 0.0
        self._signals: Optional[Signals] = None  # while serve_forever waits
        self._waiter: Optional[threading.Thread] = None  # who is in serve_forever

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Listen and serve, in threads of the server's own. Raises BindError, MonitorUnavailable."""
        with self._state_lock:
            if self._running is not None:
                raise RuntimeError("the server is running already")
            if self._spent is not None:
                raise BindError(errno.EBADF, f"cannot bind {self._spent}: it was closed when the server stopped")
            self._running = parts = Parts(
                self.app,
                self.config,
                make_monitor=self._make_monitor,
                policy=self._policy,
                binds=self._binds,
                stats=lambda: self.stats,
            )
            self._started_at = time.monotonic()
            _running.add(self)
            try:
                # Not earlier: a client that has waited for us is served at once, and its handler may ask us.
                for listener in parts.listeners:
                    listener.start()
            except BaseException:
                self.stop()
                raise

    def serve_forever(self, on_ready: Callable[[], object] = lambda: None, *, handle_signals: bool = True) -> None:
        """Serve until `stop`, or until SIGTERM or SIGINT: the first drains, a second one stops now.

        Starts the server if it has not been started; *on_ready* is called when it serves. The signals are
        only listened to in the main thread, from before the start on. Without *handle_signals* they are the program's:
        its handlers run meanwhile, and may call `drain` or `stop`; what they raise is passed on. A supervisor that
        has asked for it is told that we are ready, well, and stopping (sd_notify(3)).
        """
        supervised = Supervised(os.environ, ailment=self._ailment)
        with quiet_handshakes(), Signals(STOPPING if handle_signals else ()) as signals:
            self._signals = signals
            self._waiter = threading.current_thread()
            try:
                if self._running is None:
                    self.start()
                on_ready()
                supervised.ready("serving on " + ", ".join(self.urls))
                number = signals.wait()
                supervised.stopping("finishing what is in progress")
                if number or signals.count:
                    name = signal.Signals(number).name if number else "told to stop"
                    timeout = self.config.graceful_timeout
                    log.info("%s: finishing what is in progress, for at most %g s", name, timeout)
                    self._drain(timeout)
            finally:
                self._signals = self._waiter = None
                supervised.stop()

    def drain(self, timeout: Optional[float] = None) -> bool:
        """Accept no more, close idle connections, finish requests in progress, then stop. Return whether all finished.

        *timeout* in seconds; by default graceful_timeout. What is not done by then is cut off, and the
        threads that are still busy are logged with their stacks. For calls in a handler of the application, or of a
        signal, see `stop`.
        """
        if self._in_worker():
            self._stop_elsewhere(self.drain)
            return False
        if self._interrupt(1):
            return False
        return self._drain(self.config.graceful_timeout if timeout is None else timeout)

    def stop(self) -> None:
        """Stop now: close everything, end all threads. Idempotent; any thread.

        A handler may call it, too: the server is then drained, by another thread, as soon as the handler is done.
        So may a signal's handler that interrupts `serve_forever`, which then does it: a handler must not wait for
        locks that its own thread may hold.
        """
        if self._in_worker():
            self._stop_elsewhere(self.drain)
        elif not self._interrupt(2):
            self._stop()

    def _drain(self, timeout: float) -> bool:
        parts = self._running
        if parts is None:
            return True
        finished = parts.drain(timeout, self._in_a_hurry)
        self._stop()
        return finished

    def _stop(self) -> None:
        with self._state_lock:
            parts, self._running = self._running, None
            if parts is not None:
                _running.discard(self)
                self._spent = next((bind for bind in self._binds if bind.inherited), None)
                parts.stop()
                log.info("stopped")
                if self._signals is not None:
                    self._signals.wake()

    def __enter__(self) -> Server:
        if self._running is None:
            self.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], exc: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.drain()

    # ------------------------------------------------------------------ how many threads

    @property
    def scaling(self) -> ScalingPolicy:
        """The policy. Assign a name, dotted path or object to exchange it, at any time; raises ConfigError."""
        return self._policy

    @scaling.setter
    def scaling(self, scaling: Any) -> None:
        policy = pools.load(scaling)
        with self._state_lock:
            self._policy = policy
            self.config = self.config.replace(scaling=scaling)
            if self._running is not None:
                self._running.controller.policy = policy

    def resize(self, min_threads: int, max_threads: int) -> None:
        """Change the bounds of the number of threads, at any time. Any thread; raises ConfigError.

        Threads that are too many finish their turns, and end after thread_idle_timeout.
        """
        with self._state_lock:
            self.config = config = self.config.replace(min_threads=min_threads, max_threads=max_threads)
            if self._running is not None:
                self._running.controller.resize(config.min_threads, config.max_threads)  # "4" is 4 by now

    # ------------------------------------------------------------------ what it tells

    @property
    def running(self) -> bool:
        return self._running is not None

    @property
    def addresses(self) -> list[Union[Address, str]]:
        """What is listened on, as `socket.connect` takes it; empty if it does not run.

        (host, port), with the real port; for a unix socket its path, which begins with NUL if it is abstract.
        """
        parts = self._running
        return [] if parts is None else [listener.place.address for listener in parts.listeners]

    @property
    def urls(self) -> list[str]:
        """A URL for each address: an any-address is named by the loopback address, a unix socket as in
        `http+unix://%2Frun%2Fsite.sock/`.
        """
        parts = self._running
        return [] if parts is None else [listener.place.url for listener in parts.listeners]

    @property
    def url(self) -> str:
        """The first of `urls`."""
        if not self.urls:
            raise RuntimeError("the server is not running")
        return self.urls[0]

    @property
    def stats(self) -> dict[str, Any]:
        """A moment's figures: counts since the start, and states now. Any thread."""
        parts = self._running
        if parts is None:
            return {"running": False}
        return {"running": True, "uptime": round(time.monotonic() - self._started_at, 3), **parts.stats()}

    def describe(self) -> list[str]:
        """Return lines for a person who has just started it: addresses, monitor and why, pool and policy."""
        parts = self._running
        config = self.config
        lines = []
        if parts is not None:
            lines.append("listening on " + ", ".join(listener.place.describe() for listener in parts.listeners))
            why = monitors.choose()[1] if config.monitor == "auto" else "as asked for"
            lines.append(f"monitor {parts.monitor_name}: {why}")
            lines += parts.certificates.describe()
            lines.append(f"at most {parts.max_connections} connections")
        if config.forwarded_allow_ips:
            lines.append(_about_proxies(config))
        policy = config.scaling if isinstance(config.scaling, str) else type(self._policy).__name__
        lines.append(f"{config.min_threads} to {config.max_threads} threads, policy {policy}")
        return lines

    # ------------------------------------------------------------------ inside

    def _after_fork(self) -> None:
        """Leave the clients to the parent. In the child of a fork, whose only thread is the one that forked."""
        self._state_lock = threading.RLock()
        parts, self._running = self._running, None
        if parts is not None:
            parts.abandon()

    def _ailment(self) -> str:
        """Return what is wrong with the running server, for a supervisor's watchdog."""
        parts = self._running
        return "" if parts is None else parts.ailment()

    def _interrupt(self, count: int) -> bool:
        """Have serve_forever do the rest, if it is what this thread is in; return whether it is."""
        signals = self._signals
        if signals is None or self._waiter is not threading.current_thread():
            return False
        signals.interrupt(count)
        return True

    def _in_a_hurry(self) -> bool:
        """Whether a second signal has come."""
        return self._signals is not None and self._signals.count > 1

    def _in_worker(self) -> bool:
        parts = self._running
        return parts is not None and threading.current_thread() in parts.pool.threads

    @staticmethod
    def _stop_elsewhere(stop: Callable[[], object]) -> None:
        threading.Thread(target=stop, name="rocket-stopper").start()


# The servers that run, for a child of a fork: add and discard are atomic.
_running: set[Server] = set()


def _after_fork_in_child() -> None:
    """Let no child serve: a handler may fork, and the child would answer, and poll, in place of the parent."""
    for server in _running:
        server._after_fork()
    _running.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def serve(app: Any, **options: Any) -> None:
    """Serve *app* until SIGTERM or SIGINT: ``Server(app, **options).serve_forever()``."""
    Server(app, **options).serve_forever()


def _about_proxies(config: Config) -> str:
    """Say who is believed, and what."""
    told = [", ".join(config.forwarded_headers)] if config.forwarded_headers else []
    if config.proxy_protocol != "off":
        versions = {"on": "v1 or v2"}.get(config.proxy_protocol, config.proxy_protocol)
        told.append(f"a PROXY protocol header ({versions}), which is required")
    hops = "" if config.forwarded_hops == 1 else f", {config.forwarded_hops} proxies in a row at most"
    return f"from {', '.join(config.forwarded_allow_ips)} is believed: {'; '.join(told) or 'nothing'}{hops}"
