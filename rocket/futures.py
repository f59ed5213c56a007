"""Work that goes on behind the answer: the executor and the futures of the wsgiorg.executor draft (T. Farrell, 2011).

An application finds them in environ as ``wsgiorg.executor`` and ``wsgiorg.futures``, if they were asked for with the
option `futures`, or `FuturesMiddleware`. Built on concurrent.futures (PEP 3148), but with threads of its own: the
interpreter waits for those of `ThreadPoolExecutor` when it ends, so that one stuck job would keep a stopped server.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LIFESPAN = 30.0  # s: how long a result is remembered if the application does not say, as in Rocket 1
THREADS = 5  # of FuturesMiddleware, as in Rocket 1
STEP = 0.05  # s: between two looks at whether somebody is in a hurry

has_futures = True  # Rocket 1 had none on Python 2

Job = tuple["WSGIFuture", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class WSGIFuture(Future[Any]):
    """What `WSGIExecutor.submit` returns: a Future that later requests can find by its name."""

    def __init__(self, remembered: Remembered) -> None:
        super().__init__()
        # Seconds that it may wait for a thread; what has waited for longer is cancelled. None: any time.
        self.timeout: Optional[float] = None
        self._remembered = remembered
        self._submitted = time.monotonic()

    def remember(self, name: str, lifespan: Optional[float] = None, duplicate_behavior: str = "raise") -> WSGIFuture:
        """Put it into ``wsgiorg.futures`` as *name*, until *lifespan* seconds (30) after it is done. Return it.

        If there is one of that name, raise NameError, or take its place if *duplicate_behavior* is "replace".
        """
        if duplicate_behavior not in {"raise", "replace"}:
            raise ValueError(f"duplicate_behavior must be 'raise' or 'replace', not {duplicate_behavior!r}")
        self._remembered._add(name, self, LIFESPAN if lifespan is None else lifespan, duplicate_behavior == "replace")
        return self

    def forget(self) -> None:
        """Take it out of ``wsgiorg.futures``. It goes on; to end it, cancel it."""
        self._remembered._remove(self)

    def set_running_or_notify_cancel(self) -> bool:
        if self.timeout is not None and time.monotonic() - self._submitted > self.timeout:
            self.cancel()
        return super().set_running_or_notify_cancel()


class Remembered(Mapping[str, WSGIFuture]):
    """``wsgiorg.futures``: remembered futures by name. Read-only; any thread.

    What is over goes when somebody looks or remembers; nobody sits there and counts the seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[str, WSGIFuture] = {}  # guarded by _lock
        self._lifespans: dict[str, float] = {}  # s; guarded by _lock
        self._ends: dict[str, float] = {}  # monotonic s, of those that are done; guarded by _lock

    def __getitem__(self, name: str) -> WSGIFuture:
        with self._lock:
            self._purge_locked()
            return self._futures[name]

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            self._purge_locked()
            return iter(list(self._futures))

    def __len__(self) -> int:
        with self._lock:
            self._purge_locked()
            return len(self._futures)

    def items(self) -> Any:
        """A moment's pairs: with those of Mapping a name could be gone between its key and its value."""
        return self._copy().items()

    def values(self) -> Any:
        return self._copy().values()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._copy()!r})"

    def _copy(self) -> dict[str, WSGIFuture]:
        with self._lock:
            self._purge_locked()
            return self._futures.copy()

    def _add(self, name: str, future: WSGIFuture, lifespan: float, replace: bool) -> None:
        with self._lock:
            self._purge_locked()
            known = self._futures.get(name)
            if known is not None and known is not future and not replace:
                raise NameError(f"there is a future of the name {name!r} already")
            self._drop_locked(future)
            self._futures[name] = future
            self._lifespans[name] = lifespan
            self._ends.pop(name, None)
        future.add_done_callback(self._done)  # not under the lock: it may be done, and would be called now

    def _remove(self, future: WSGIFuture) -> None:
        with self._lock:
            self._drop_locked(future)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            for name, known in self._futures.items():
                if known is future:
                    self._ends.setdefault(name, time.monotonic() + self._lifespans[name])

    def _drop_locked(self, future: WSGIFuture) -> None:
        for name in [name for name, known in self._futures.items() if known is future]:
            self._forget_locked(name)

    def _purge_locked(self) -> None:
        now = time.monotonic()
        for name in [name for name, end in self._ends.items() if end <= now]:
            self._forget_locked(name)

    def _forget_locked(self, name: str) -> None:
        del self._futures[name], self._lifespans[name]
        self._ends.pop(name, None)


class WSGIExecutor(Executor):
    """``wsgiorg.executor``: at most *max_workers* daemon threads, each started when it is first needed. Any thread.

    `submit` and `map` are those of PEP 3148. A job should not wait for another one: all threads may be waiting, then.
    """

    multithread = True
    multiprocess = False

    def __init__(self, max_workers: int = THREADS) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, not {max_workers!r}")
        self.futures = Remembered()
        self._most = max_workers
        self._jobs: queue.SimpleQueue[Optional[Job]] = queue.SimpleQueue()  # None: the end
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []  # guarded by _lock
        self._unfinished: set[WSGIFuture] = set()  # guarded by _lock
        self._closed = False  # guarded by _lock

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WSGIFuture:
        """Have ``fn(*args, **kwargs)`` called in another thread. Raise RuntimeError after `shutdown`."""
        future = WSGIFuture(self.futures)
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if len(self._unfinished) >= len(self._threads) < self._most:
                self._start_thread_locked()
            self._unfinished.add(future)
            future.add_done_callback(self._finished)
            self._jobs.put((future, fn, args, kwargs))  # under the lock: behind shutdown's None nobody would take it
        return future

    def finish(self, timeout: float, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Wait for at most *timeout* seconds until all jobs are done; return whether they are.

        Give up earlier once *hurry* says so.
        """
        end = time.monotonic() + timeout
        while True:
            with self._lock:
                unfinished = set(self._unfinished)
            left = end - time.monotonic()
            if not unfinished or left <= 0 or hurry():
                return not unfinished
            wait_for(unfinished, min(STEP, left))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, drop those that wait if *cancel_futures*, and *wait* until the others are done."""
        with self._lock:
            threads = list(self._threads)
            if not self._closed:
                self._closed = True
                for _ in threads:
                    self._jobs.put(None)
            dropped = list(self._unfinished) if cancel_futures else []
        for future in dropped:
            future.cancel()  # does nothing to one that runs
        if wait:
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join()

    # ------------------------------------------------------------------ inside

    def _start_thread_locked(self) -> None:
        name = f"rocket-future-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads on this host
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _finished(self, future: Future[Any]) -> None:
        with self._lock:
            self._unfinished.discard(future)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            _do(*job)
            del job  # its arguments and its result may be large, and the next job may be long in coming


def _do(future: WSGIFuture, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as exc:
        future.set_exception(exc)
        del future  # no cycle through the traceback
    else:
        future.set_result(result)


class FuturesMiddleware:
    """Put ``wsgiorg.executor`` and ``wsgiorg.futures`` into the environ of *app*, on any server."""

    def __init__(self, app: WSGIApplication, threads: int = THREADS, executor: Optional[WSGIExecutor] = None) -> None:
        self.app = app
        self.executor = WSGIExecutor(threads) if executor is None else executor

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgiorg.executor"] = self.executor
        environ["wsgiorg.futures"] = self.executor.futures
        return self.app(environ, start_response)
