"""Drive the application: start it in a process of its own, load it, read its figures before and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Optional

from rocket.bench.load import LoadResult, LoadSpec, environment, run_load
from rocket.errors import RocketError
from rocket.tuning.samples import Sample, Setting, Surroundings

WARMUP = 0.3  # s: the pool grows, caches warm up
LONG = 3600.0  # s: longer than any session
PATIENCE = 5.0  # s: that the target has to end by itself


class TargetFailed(RocketError):
    """The application's process ended, or cannot do what it was asked to. *code* is what it exited with, if it did."""

    def __init__(self, message: str, code: Optional[int] = None) -> None:
        super().__init__(message)
        self.code = code


class Target:
    """The application in a process of its own: `rocket.tuning.target`. A context manager.

    *arguments* are those of `rocket tune-target` but for the pipes. What the application prints goes to a file: it
    would otherwise be mixed with what we print, and a log line for each request fills a terminal.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        theirs_in, self._orders = os.pipe()
        self._answers, theirs_out = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rocket", "tune-target", *arguments, str(theirs_in), str(theirs_out)],
                stdin=subprocess.DEVNULL,
                stdout=self.printed,
                stderr=self.printed,
                pass_fds=(theirs_in, theirs_out),
                env=environment(),
                start_new_session=True,  # Ctrl-C is for us: we end it in our own order
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._from = os.fdopen(self._answers, encoding="utf-8")
        self._to = os.fdopen(self._orders, "w", encoding="utf-8")
        self._running: Optional[dict[str, Any]] = None  # the options of the server that runs
        self.server: dict[str, Any] = {}  # what the last server said when it started: port, monitor, gil, cpus

    def wait(self) -> None:
        """Wait until the application is imported. Raises TargetFailed."""
        self._read()

    def start(self, options: dict[str, Any]) -> int:
        """Serve with *options*, by a new server unless the one that runs has the same. Return the port."""
        if self._running == options:
            return int(self.server["port"])
        self.server = self._order("start", options)
        self._running = options
        return int(self.server["port"])

    def renew(self) -> None:
        """Let the next `start` start a new server in any case: one without the threads of the last."""
        self._running = None

    def figures(self) -> dict[str, Any]:
        """Return the server's sums: see `rocket.tuning.target`."""
        return self._order("figures", {})

    def memory(self) -> dict[str, Any]:
        return self._order("memory", {})

    def check(self) -> None:
        """Raise TargetFailed if the process has ended, or does so within half a second: its sockets close before."""
        try:
            code = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return
        raise TargetFailed(f"the application's process ended with {code} instead of answering")

    def output(self) -> str:
        """Return what the application has printed."""
        self.printed.seek(0)
        return self.printed.read().decode(errors="replace")

    def stop(self) -> None:
        """End the process, at the latest after some seconds. Any number of times."""
        if self.printed.closed:
            return
        try:
            self._to.close()  # its orders end, and so does it
        except BrokenPipeError:
            pass
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()
        self.printed.close()

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _order(self, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            self._to.write(json.dumps({"do": what, "with": arguments}) + "\n")
            self._to.flush()
        except BrokenPipeError:
            pass  # what it said last is the reason
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._from.readline()
        if not line:
            code = self._process.wait()
            raise TargetFailed(f"the application's process ended with {code}", code)
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise TargetFailed(found["error"])
        return found


@dataclass(frozen=True)
class Requests:
    """What is sent."""

    paths: tuple[str, ...]
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    timeout: float = 10.0  # s


class Driver:
    """Measure settings, one at a time. *fixed_options* are those that are not tuned."""

    def __init__(self, target: Target, requests: Requests, fixed_options: dict[str, Any], idle: int = 0) -> None:
        self._target = target
        self._requests = requests
        self._fixed = {**fixed_options, **({"head_timeout": LONG} if idle else {})}
        self._idle = idle

    def measure(
        self,
        setting: Setting,
        connections: int,
        seconds: float,
        rate: Optional[float] = None,
        *,
        afresh: bool = True,
    ) -> Sample:
        """Drive the application with *connections* clients for *seconds*, after a warm-up.

        They send as fast as answers come, or *rate* requests/s. Not *afresh*: by the server that runs, if it has this
        setting. Raises TargetFailed, LoadError.
        """
        if afresh:
            self._target.renew()
        port = self._target.start({**self._fixed, **setting.options()})
        with IdleCrowd(port, self._idle):
            return self._measure(port, setting, connections, seconds, rate)

    def _measure(self, port: int, setting: Setting, connections: int, seconds: float, rate: Optional[float]) -> Sample:
        requests = self._requests
        spec = LoadSpec(
            port=port,
            connections=connections,
            seconds=seconds,
            warmup=WARMUP,
            rate=rate,
            paths=requests.paths,
            method=requests.method,
            headers=requests.headers,
            body=requests.body,
            request_timeout=requests.timeout,
        )
        looks: list[dict[str, Any]] = []
        idle: list[tuple[float, Optional[float]]] = []

        def look() -> None:
            idle.append((time.monotonic(), idle_seconds()))
            looks.append(self._target.figures())

        result = run_load(spec, on_begin=look, on_end=look)
        return make_sample(setting, spec, result, looks[0], {**looks[1], **self._target.memory()}, idle=idle)


def make_sample(
    setting: Setting,
    spec: LoadSpec,
    result: LoadResult,
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    idle: Sequence[tuple[float, Optional[float]]],
) -> Sample:
    """Put together what the clients have seen and what the server says; *idle* has (monotonic s, idle CPU s) twice."""
    dt = max(1e-6, after["now"] - before["now"])
    turns = after["turns"] - before["turns"]
    process = (after["process_cpu"] - before["process_cpu"]) / dt
    workers = process if after["worker_cpu"] is None else (after["worker_cpu"] - before["worker_cpu"]) / dt
    return Sample(
        setting=setting,
        connections=spec.connections,
        seconds=result.seconds,
        requests=result.requests,
        p50=result.quantile(0.5),
        p99=result.quantile(0.99),
        worker_cpu=workers,
        process_cpu=process,
        busy=(after["busy_seconds"] - before["busy_seconds"]) / dt,
        turn=(after["turn_seconds"] - before["turn_seconds"]) / turns if turns else float("nan"),
        threads=after["threads"],
        idle_cpu=_rate_of(*idle),
        generator_cpu=result.generator_cpu,
        rss=after["rss"],
        mem_free=after["mem_free"],
        rate_asked=spec.rate,
        sent=result.sent,
        unsent=result.unsent,
        errors=dict(result.errors),
    )


def idle_seconds() -> Optional[float]:
    """Return the seconds that the host's CPUs have had nothing to do, all together; None if it cannot be known."""
    try:
        import psutil

        times = psutil.cpu_times()
        return float(times.idle) + float(getattr(times, "iowait", 0.0))
    except Exception:  # psutil.Error, or what a platform makes it stumble over
        return None


def _rate_of(before: tuple[float, Optional[float]], after: tuple[float, Optional[float]]) -> Optional[float]:
    if before[1] is None or after[1] is None:
        return None
    return max(0.0, (after[1] - before[1]) / max(1e-6, after[0] - before[0]))


class IdleCrowd:
    """Connections that have begun a request and do not go on: what a monitor has to watch. A context manager.

    They are begun, because a silent one might not even be accepted (TCP_DEFER_ACCEPT); `Driver` sees to it that the
    server does not lose patience.
    """

    def __init__(self, port: int, number: int) -> None:
        import socket

        self._sockets: list[socket.socket] = []
        try:
            for _ in range(number):
                sock = socket.create_connection(("127.0.0.1", port), timeout=10)
                self._sockets.append(sock)
                sock.sendall(b"GET")
        except OSError as exc:
            self.close()
            raise TargetFailed(f"only {len(self._sockets)} of {number} idle connections could be made: {exc}") from exc

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> IdleCrowd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def probe(port: int, requests: Requests) -> list[tuple[str, int, str]]:
    """Ask for each path once; return (path, status, the body's beginning). Raises TargetFailed without an answer."""
    import http.client

    found = []
    for path in requests.paths:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=requests.timeout)
        began = time.monotonic()
        try:
            client.request(requests.method, path, requests.body.encode() or None, dict(requests.headers))
            response = client.getresponse()
            found.append((path, response.status, response.read(300).decode(errors="replace")))
        except (OSError, http.client.HTTPException) as exc:
            took = time.monotonic() - began
            raise TargetFailed(f"{path} was not answered within {took:.1f} s: {type(exc).__name__}: {exc}") from exc
        finally:
            client.close()
    return found


def save_output(target: Target, folder: Path) -> None:
    """Keep what the application has printed."""
    (folder / "application.log").write_text(target.output(), encoding="utf-8")


def surroundings(server: dict[str, Any]) -> Surroundings:
    """Return what the application may use, from what its server says."""
    return Surroundings(
        cpus=float(server["cpus"]), gil=bool(server["gil"]), memory=server["memory"], monitor=str(server["monitor"])
    )
