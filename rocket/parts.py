"""What a running server is made of, and how its parts are put together."""

from __future__ import annotations

import logging
import resource
import sys
import threading
import time
import weakref
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Callable, Optional

from rocket import gil, http1, monitors, pools
from rocket.binds import Bind
from rocket.certificates import Certificates
from rocket.config import Config
from rocket.listener import Listener
from rocket.pools.controller import Controller
from rocket.pools.health import Health
from rocket.pools.threadpool import ThreadPool
from rocket.proxies import VERSIONS, Proxies
from rocket.reactor import Reactor
from rocket.sockets import open_all
from rocket.systemd import PASSED
from rocket.workers import HeadCache, Options, Routes, Services, Worker, WSGIWorker
from rocket.workers.handshake import HANDSHAKE
from rocket.workers.proxied import ProxyTask
from rocket.workers.tasks import BodyTask, DrainTask, FlushTask

if TYPE_CHECKING:
    from rocket.connection import Connection
    from rocket.futures import WSGIExecutor
    from rocket.pools import ScalingPolicy

log = logging.getLogger("rocket.server")

RESERVE = 64  # descriptors that are left for files, databases and the like
EVICT = 16  # idle connections that go at a time when room is needed
EVICT_SLOW = 256  # slow ones: more, for those who bring them come in crowds
SLOW = 1.0  # s: who has not sent the whole head after this long may have to go
SWEEP_PAUSE = 0.05  # s: between two looks at what is left, while draining
FRESH = 0.2  # s: what a new connection's first request is given when the server stops
STILL = 10.0  # s: who has taken nothing of an answer for this long may have to go; slow readers pause for up to 6 s
STOP_PATIENCE = 0.5  # s: what stop() gives handlers that are at work


class Parts:
    """What a running server is made of. Made by `Server.start`, which starts the listeners; of no use after `stop`."""

    def __init__(
        self,
        app: Any,
        config: Config,
        *,
        make_monitor: Callable[[], monitors.Monitor],
        policy: ScalingPolicy,
        binds: list[Bind],
        stats: Callable[[], dict[str, Any]],
    ) -> None:
        self.draining = False
        self._keeps_gil = False  # written by the controller
        self._may_keep_gil = gil.prepare() and gil.gil_enabled()
        self._config = config
        self._drained = threading.Event()
        # Every open connection: add and discard are atomic. So closed = accepted - len.
        self._connections: set[Connection] = set()
        # Those of the pool, which keeps them for as long as their threads live. Replaced by who starts a thread.
        self._workers: list[weakref.ref[Worker]] = []
        self._stopped = False
        self.certificates = Certificates(binds, config)  # first: it has nothing open if it fails
        monitor = monitors.opened(make_monitor, config.monitor)
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
            on_lost=self._lose,
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
            stats=stats,
        )
        self.listeners: list[Listener] = []
        self.controller = Controller(
            self.pool,
            policy,
            thread_idle_timeout=config.thread_idle_timeout,
            queue_timeout=config.queue_timeout,
            max_queue=config.max_queue,
            on_overdue=self._turn_away,
            on_contention=self._keep_gil if gil.prepare() else None,
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
        """Let the oldest idle connections go; if there are none, those whose peers keep the others waiting.

        That is, half heads and bodies in which nothing has come for a second, and answers of which nothing was taken
        for longer than slow readers pause. Else as many such clients as there may be connections would keep all others
        out until the timeouts.
        """
        idle: list[Connection] = []  # touched by the poller only, which makes both sweeps one after the other
        late = time.monotonic() + self._config.head_timeout - SLOW
        still = min(STILL, self._config.write_timeout / 2)

        def is_idle(connection: Connection) -> bool:
            if not _is_idle(connection):
                return False
            idle.append(connection)
            return True

        def is_slow(connection: Connection) -> bool:
            task = connection.task
            if isinstance(task, DrainTask):
                return True  # it has its answer, the 408 of the last sweep say
            if idle:
                return False
            if task is None:
                return bool(connection.buffer) and connection.deadline < late
            if isinstance(task, FlushTask) and connection.stands_still() > still:
                connection.give_up_on_reader()
                return True
            return isinstance(task, BodyTask) and task.stalled

        self._reactor.sweep(is_idle, EVICT)
        self._reactor.sweep(is_slow, EVICT_SLOW)

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

    def _lose(self, connection: Connection) -> None:
        """Close *connection*, whose worker died in the middle of it."""
        if connection.until_close:
            connection.reset_on_close()  # or a part of an answer would look like the whole
        self._close(connection)

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

    @property
    def workers(self) -> list[Worker]:
        """Those of the pool's threads. Any thread; a moment's list."""
        return [worker for worker in (ref() for ref in self._workers) if worker is not None]

    def _make_worker(self) -> Callable[[Connection], None]:
        worker = self._new_worker()
        self._workers = [weakref.ref(each) for each in (*self.workers, worker)]
        worker.draining = self.draining  # after it is there, or a drain in between would miss it
        worker.keeps_gil = self._keeps_gil
        worker.may_keep_gil = self._may_keep_gil
        return worker.run

    def _keep_gil(self, keep: bool) -> None:
        """Let workers and monitor keep the GIL in their system calls, or not any more. The controller's thread."""
        log.debug("threads that compute take the GIL: %s", keep)
        self._keeps_gil = keep
        try:
            self._reactor.monitor.keep_gil(keep)
        except Exception:
            log.exception("the monitor %s failed in keep_gil(%s)", self.monitor_name, keep)
        for listener in self.listeners:
            listener.keeps_gil = keep
        for worker in (self._clerk, self._usher, *self.workers):
            worker.keeps_gil = keep
        if not keep:
            for connection in list(self._connections):
                connection.keeps_gil = False  # whoever has it: a flag that is looked at before each call
        if self._config.switch_interval:
            if keep:
                gil.SWITCH_INTERVAL.shorten(self, self._config.switch_interval)
            else:
                gil.SWITCH_INTERVAL.restore(self)

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
            "cpu_seconds": self.pool.crew.cpu_seconds(),
            "keeps_gil": self._keeps_gil,
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
        for worker in self.workers:
            worker.draining = True
        self._clerk.draining = True
        # Whoever closed the last connection while the listeners still accepted, has said so too early.
        self._drained.clear()
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
        if self._keeps_gil:
            self._keep_gil(False)
        # A drain that was not finished has had its time already.
        cut_off = self.draining and not self._drained.is_set()
        late = self.pool.stop(0.05 if cut_off else STOP_PATIENCE)
        if late and not self.draining:
            for stack in self.pool.stacks():
                log.warning("cut off: %s", stack)
        self._stopped = True
        mine = {*self._reactor.close(), *self.pool.take_queued()}
        for connection in list(self._connections):
            if connection in mine or not late:
                if connection.unsent:
                    connection.reset_on_close()
                self._close(connection)
            else:
                connection.cut_off()  # a thread is still at it


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
