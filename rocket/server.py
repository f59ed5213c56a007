"""The facade: puts listeners, reactor, pool, controller and workers together, and takes them apart."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from rocket import http1, monitors, pools
from rocket.binds import Address, Bind, parse_binds
from rocket.certificates import Certificates, secured
from rocket.config import Config
from rocket.errors import BindError, ConfigError
from rocket.listener import Listener
from rocket.pools.controller import Controller
from rocket.pools.health import Health
from rocket.pools.threadpool import ThreadPool
from rocket.proxies import VERSIONS, Proxies
from rocket.reactor import Reactor
from rocket.signals import STOPPING, Signals
from rocket.sockets import open_all
from rocket.systemd import PASSED, Supervised
from rocket.workers import HeadCache, Options, Routes, Services, Worker, WSGIWorker
from rocket.workers.handshake import HANDSHAKE
from rocket.workers.proxied import ProxyTask
from rocket.workers.tasks import FlushTask

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.futures import WSGIExecutor
    from rocket.pools import ScalingPolicy

log = logging.getLogger("rocket.server")

RESERVE = 64  # descriptors that are left for files, databases and the like
EVICT = 16  # idle connections that go at a time when room is needed
SWEEP_PAUSE = 0.05  # s: between two looks at what is left, while draining
FRESH = 0.2  # s: what a new connection's first request is given when the server stops
STOP_PATIENCE = 0.5  # s: what stop() gives handlers that are at work


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
        self._running: Optional[_Parts] = None
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
            self._running = parts = _Parts(
                self.app,
                self.config,
                make_monitor=self._make_monitor,
                policy=self._policy,
                binds=self._binds,
                server=self,
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
        with Signals(STOPPING if handle_signals else ()) as signals:
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
            self.config = self._changed(scaling=scaling)
            if self._running is not None:
                self._running.controller.policy = policy

    def resize(self, min_threads: int, max_threads: int) -> None:
        """Change the bounds of the number of threads, at any time. Any thread; raises ConfigError.

        Threads that are too many finish their turns, and end after thread_idle_timeout.
        """
        with self._state_lock:
            self.config = self._changed(min_threads=min_threads, max_threads=max_threads)
            if self._running is not None:
                self._running.controller.resize(min_threads, max_threads)

    def _changed(self, **options: Any) -> Config:
        return Config(**{**self.config.as_dict(), **options})

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


class _Parts:
    """What a running server is made of. Made by `Server.start`, which starts the listeners; of no use after `stop`."""

    def __init__(
        self,
        app: Any,
        config: Config,
        *,
        make_monitor: Callable[[], monitors.Monitor],
        policy: ScalingPolicy,
        binds: list[Bind],
        server: Server,
    ) -> None:
        self.draining = False
        self._config = config
        self._drained = threading.Event()
        # Every open connection: add and discard are atomic. So closed = accepted - len.
        self._connections: set[Connection] = set()
        self._workers: list[Worker] = []  # appended to by the controller
        self._stopped = False
        self.certificates = Certificates(binds, config)  # first: it has nothing open if it fails
        monitor = make_monitor()
        self.monitor_name = monitor.name
        self.max_connections = _connection_limit(config.max_connections, monitor)
        self._reactor = Reactor(monitor, on_expire=self._expire, on_fail=self._close)
        self._options = _worker_options(config)
        self._proxy_versions = VERSIONS.get(config.proxy_protocol)
        self._routes = Routes()
        self._heads = HeadCache()
        self._worker_class: Any = config.worker or WSGIWorker
        self._executor: Optional[WSGIExecutor] = None
        if config.futures:
            from rocket.futures import FuturesMiddleware, WSGIExecutor

            self._executor = WSGIExecutor(config.futures)
            app = FuturesMiddleware(app, executor=self._executor)
        self._app = app
        self.pool = ThreadPool(
            make_worker=self._make_worker,
            poll=self._reactor.poll,
            wakeup=self._reactor.wakeup,
            min_threads=config.min_threads,
            max_threads=config.max_threads,
            on_busy=self._ring,
            on_lost=self._close,
            on_thread_start=config.on_thread_start,
            on_thread_exit=config.on_thread_exit,
        )
        # A request whose body has stalled may hold a thread, but never all of them.
        self._early = threading.BoundedSemaphore(max(1, config.max_threads // 4))
        self._services = Services(
            park=self._reactor.park,
            submit=self.pool.submit,
            close=self._close,
            detach=self._detach,
            hand_over=self.pool.hand_over,
            begin_early=self._begin_early,
            end_early=self._early.release,
            stats=lambda: server.stats,
        )
        self.listeners: list[Listener] = []
        self.controller = Controller(
            self.pool,
            policy,
            thread_idle_timeout=config.thread_idle_timeout,
            queue_timeout=config.queue_timeout,
            max_queue=config.max_queue,
            on_overdue=self._turn_away,
            memory_reserve=config.memory_reserve,
            trusted=frozenset(pools.POLICIES.values()),
        )
        self._health = Health(self.pool, self.controller)
        try:
            self._clerk = self._new_worker()  # sees to late connections, in the polling thread
            self._usher = self._new_worker()  # turns away those that wait too long, in the controller's
            self._listen(binds)
            self.pool.start()
            self.controller.start()
        except BaseException:
            self.stop()
            raise

    def _listen(self, binds: list[Bind]) -> None:
        config = self._config
        places = open_all(binds, backlog=config.backlog, dual_stack=config.dual_stack, defer_accept=config.defer_accept)
        try:
            while places:
                listener = Listener(
                    places[0],
                    on_connection=self._accepted,
                    full=self._full,
                    on_shortage=self._make_room,
                    congested=self._congested,
                    output_limits=(config.response_buffer, config.response_spool),
                    contexts=self.certificates.of(places[0].bind),
                )
                self.listeners.append(listener)
                places.pop(0)
        finally:
            for place in places:  # out of descriptors: a listener has a pipe
                place.release()
        if PASSED.unasked():
            log.warning("systemd has handed over sockets (LISTEN_FDS): only bind='systemd:' listens on them")

    # ------------------------------------------------------------------ called by the parts

    def _accepted(self, connection: Connection) -> None:
        """Take a new connection in. A listener's thread."""
        self._connections.add(connection)
        timeout = self._config.head_timeout
        if connection.secure:
            connection.task = HANDSHAKE
            timeout = self._config.handshake_timeout
        connection.deadline = connection.created + timeout
        if self._proxy_versions is not None:  # its header comes first, also before TLS
            connection.task = ProxyTask(self._proxy_versions, connection.task)
        if self._stopped:
            self._close(connection)
        else:
            self.pool.submit(connection)

    def _full(self) -> bool:
        return len(self._connections) >= self.max_connections

    def _congested(self) -> bool:
        # If nothing moves, new clients are let in, and told so with a 503: the queue would not get shorter.
        return self.pool.queued >= self._config.max_queue and not self.controller.stalled

    def _make_room(self) -> None:
        """Let the oldest idle connections go."""
        self._reactor.sweep(_is_idle, EVICT)

    def _turn_away(self, connection: Connection) -> None:
        if connection.task is not None and connection.task.light:
            self._usher.run(connection)
        else:
            self._usher.turn_away(connection)

    def _expire(self, connection: Connection) -> bool:
        return self._clerk.expire(connection)

    def _close(self, connection: Connection) -> None:
        """Close *connection*. Whoever owns it."""
        if not self._stopped:
            self._reactor.forget(connection)
        connection.close()
        self._discard(connection)

    def _detach(self, connection: Connection) -> None:
        if not self._stopped:
            self._reactor.forget(connection)
        connection.detach()
        self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self.draining and not self._connections:
            self._drained.set()

    def _begin_early(self) -> bool:
        return self._config.max_threads > 1 and self._early.acquire(blocking=False)

    def _ring(self) -> None:
        self.controller.ring()

    def _make_worker(self) -> Callable[[Connection], None]:
        worker = self._new_worker()
        self._workers.append(worker)
        worker.draining = self.draining  # after the append, or a drain in between would miss it
        return worker.run

    def _new_worker(self) -> Worker:
        made = (
            WSGIWorker(self._app, self._services, self._options, self._routes, self._heads)
            if self._worker_class is WSGIWorker
            else self._worker_class(self._app, self._services, self._options)
        )
        if not isinstance(made, Worker):
            raise TypeError(f"worker: {self._worker_class.__name__} is not a subclass of rocket.Worker")
        return made

    # ------------------------------------------------------------------ figures

    def stats(self) -> dict[str, Any]:
        counts = self.pool.counts()
        readings = self.controller.readings
        accepted = sum(listener.accepted for listener in self.listeners)
        connections = len(self._connections)
        return {
            "threads": counts.threads,
            "goal": counts.goal,
            "min_threads": self.pool.min_threads,
            "max_threads": self.pool.max_threads,
            "busy": counts.busy,
            "idle": counts.threads - counts.awake,
            "stuck": counts.stuck,
            "queued": counts.queued,
            "oldest": round(counts.oldest, 6),
            "accepted": accepted,
            "connections": connections,
            "parked": len(self._reactor),
            "closed": max(0, accepted - connections),
            "turns": counts.finished,
            "turn_seconds": round(counts.turn_wall, 6),
            "busy_seconds": round(counts.wall, 6),  # with those of the turns in progress
            "cpu_seconds": self.pool.cpu_seconds(),
            "monitor": self.monitor_name,
            "policy": type(self.controller.policy).__name__,
            "reason": str(getattr(self.controller.policy, "reason", "")),
            "readings": None if readings is None else asdict(readings),
        }

    def ailment(self) -> str:
        """Return what is wrong; "" if nothing is. One thread."""
        if self.draining or self._stopped:
            return ""
        deaf = [str(listener.place) for listener in self.listeners if not listener.alive]
        return f"nobody accepts on {', '.join(deaf)}" if deaf else self._health.ailment()

    # ------------------------------------------------------------------ the end

    def drain(self, timeout: float, hurry: Callable[[], bool]) -> bool:
        """Finish what is in progress; return whether all of it was finished in time."""
        end = time.monotonic() + timeout
        self.draining = True
        for listener in self.listeners:
            listener.stop()
        for worker in list(self._workers):
            worker.draining = True
        self._clerk.draining = True
        if not self._connections:
            self._drained.set()
        while not self._drained.is_set():
            # Again and again: a worker may have parked a connection before it saw that we drain.
            self._reactor.sweep(_may_go)
            left = end - time.monotonic()
            if left <= 0 or hurry() or self._stopped:
                break
            self._drained.wait(min(SWEEP_PAUSE, left))
        if not self._drained.is_set():
            for stack in self.pool.stacks():
                log.warning("cut off: %s", stack)
            return False
        if self._executor is None or self._executor.finish(end - time.monotonic(), lambda: self._stopped or hurry()):
            return True
        log.warning("cut off: work in wsgiorg.executor that is not done")
        return False

    def abandon(self) -> None:
        """Close a forked child's copies of the descriptors. What the parent has open stays open."""
        self._stopped = True
        self.pool.abandon()
        for listener in self.listeners:
            listener.sock.close()
        for connection in self._connections:
            connection.sock.close()  # not Connection.close(): its task and output may be half-way in another thread

    def stop(self) -> None:
        """Close everything and end all threads."""
        for listener in self.listeners:
            listener.stop()
        self.controller.stop()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        # A drain that was not finished has had its time already.
        cut_off = self.draining and not self._drained.is_set()
        late = self.pool.stop(0.05 if cut_off else STOP_PATIENCE)
        if late and not self.draining:
            for stack in self.pool.stacks():
                log.warning("cut off: %s", stack)
        self._stopped = True
        mine = {*self._reactor.close(), *self.pool.take_queued()}
        for connection in list(self._connections):
            if connection.unsent:
                connection.reset_on_close()
            if connection in mine or not late:
                self._close(connection)
                continue
            try:
                # Not closed: a thread that is still at it would then write to whoever gets the descriptor.
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not connected any more


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


def _is_idle(connection: Connection) -> bool:
    task = connection.task
    return (task is None or task is HANDSHAKE or isinstance(task, ProxyTask)) and not connection.buffer


def _may_go(connection: Connection) -> bool:
    """Whether a parked connection is cut when the server stops: all but those that are being answered, and new ones.

    Who has just connected has not been told to go elsewhere, and its first request is on the way: where another process
    takes the socket over, nobody is to notice.
    """
    if not connection.requests and not connection.buffer and time.monotonic() - connection.created < FRESH:
        return False
    return not isinstance(connection.task, FlushTask)


def _connection_limit(wanted: int, monitor: monitors.Monitor) -> int:
    """Return how many connections the open-file limit and the monitor allow, or *wanted* if that is less."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = sys.maxsize if soft == resource.RLIM_INFINITY else soft
    if monitor.max_fd is not None:
        room = min(room, monitor.max_fd + 1)
    room = max(1, room - min(RESERVE, room // 4))
    if wanted > room:
        log.warning("max_connections (%s) is more than the open-file limit or the monitor allows: %s", wanted, room)
    return min(wanted or room, room)


def _about_proxies(config: Config) -> str:
    """Say who is believed, and what."""
    told = [", ".join(config.forwarded_headers)] if config.forwarded_headers else []
    if config.proxy_protocol != "off":
        versions = {"on": "v1 or v2"}.get(config.proxy_protocol, config.proxy_protocol)
        told.append(f"a PROXY protocol header ({versions}), which is required")
    hops = "" if config.forwarded_hops == 1 else f", {config.forwarded_hops} proxies in a row at most"
    return f"from {', '.join(config.forwarded_allow_ips)} is believed: {'; '.join(told) or 'nothing'}{hops}"


def _worker_options(config: Config) -> Options:
    return Options(
        limits=http1.Limits(
            request_line=config.limit_request_line,
            fields=config.limit_request_fields,
            field_size=config.limit_request_field_size,
            head_size=config.max_head_size,
            body_size=config.max_body_size,
        ),
        head_timeout=config.head_timeout,
        body_timeout=config.body_timeout,
        write_timeout=config.write_timeout,
        keep_alive=config.keep_alive,
        park_delay=config.park_delay,
        lingering_time=config.lingering_time,
        body_buffer=config.body_buffer,
        min_body_rate=config.min_body_rate,
        stream=config.stream,
        max_requests=config.max_requests_per_connection,
        server_header=config.server_header,
        proxies=Proxies(config.forwarded_allow_ips, fields=config.forwarded_headers, hops=config.forwarded_hops),
    )
