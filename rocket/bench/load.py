"""Load for a server, from a process of its own: what to send, how to start it, what was found.

    result = run_load(LoadSpec(port=8000, connections=64, seconds=2))
    print(result.rate, result.quantile(0.99), result.errors)

Or by hand, JSON in and JSON out: ``python -m rocket.bench.load '{"port": 8000, "connections": 64}'``.

*Closed loop* (no rate): each connection sends its next request once it has the answer, so that a slow server is asked
less. *Open loop* (a rate): requests are due at constant intervals, whatever the server does, and each latency is
counted from when the request was due, so that those that a slow server kept from being sent count, too ("coordinated
omission": Gil Tene, How NOT to Measure Latency; wrk2).

The generator is Python, one process, non-blocking sockets and `selectors`. It takes about two thirds of the CPU that
Rocket takes for a small answer; `LoadResult.generator_cpu` says how busy it was. Near 1 the rate is what the generator
can do, and the server may be faster.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

from rocket.bench.histogram import Histogram
from rocket.bench.start import start
from rocket.errors import ConfigError, RocketError

FULL = 0.95  # of a CPU: from here on the generator is what limits the rate


class LoadError(RocketError):
    """The load could not be made. The message says why."""


@dataclass(frozen=True)
class LoadSpec:
    """What to send, to whom, and for how long.

    Raises ConfigError for what cannot be, when it is made.
    """

    port: int
    host: str = "127.0.0.1"
    connections: int = 64  # at the same time
    seconds: float = 2.0  # that count
    warmup: float = 0.5  # seconds before them, in which nothing is counted
    rate: Optional[float] = None  # requests/s to send; None: as fast as answers come
    from_sent: bool = False  # with a rate: count latency from when the request was sent, not from when it was due
    keep_alive: bool = True  # False: a connection for each request
    tls: bool = False  # whatever the certificate; each connection with a full handshake
    method: str = "GET"
    paths: tuple[str, ...] = ("/",)  # in turn
    headers: tuple[tuple[str, str], ...] = ()
    body_size: int = 0  # bytes
    body: str = ""  # what is sent (in UTF-8), if anything; else *body_size* bytes
    request_timeout: float = 10.0  # seconds; then the request counts as an error, and its connection is closed

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 1 and 65535")
        if self.connections < 1:
            raise ConfigError(f"connections ({self.connections}) must be at least 1")
        for name in ("seconds", "request_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} ({getattr(self, name)}) must be above 0")
        for name in ("warmup", "body_size"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} ({getattr(self, name)}) must not be below 0")
        if self.rate is not None and not self.rate > 0:
            raise ConfigError(f"rate ({self.rate}) must be above 0")
        if not self.paths:
            raise ConfigError("paths is empty")

    def requests(self) -> list[bytes]:
        """Return what is sent, a request for each path."""
        fields = {"Host": f"{self.host}:{self.port}"}
        if not self.keep_alive:
            fields["Connection"] = "close"
        body = self.body.encode() or b"x" * self.body_size
        if body:
            fields["Content-Length"] = str(len(body))
        fields.update(dict(self.headers))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return [f"{self.method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body for path in self.paths]

    @classmethod
    def from_json(cls, text: str) -> LoadSpec:
        """Return what *text*, an object with these names, describes. Raises ConfigError."""
        try:
            given = json.loads(text)
        except ValueError as exc:
            raise ConfigError(f"the load is not JSON: {exc}") from None
        if not isinstance(given, dict):
            raise ConfigError(f"the load is not an object with names: {text[:40]}")
        unknown = set(given) - {each.name for each in fields(cls)}
        if unknown:
            raise ConfigError(f"a load has no {', '.join(sorted(unknown))}")
        if "paths" in given:
            given["paths"] = tuple(given["paths"])
        if "headers" in given:
            given["headers"] = tuple((name, value) for name, value in given["headers"])
        try:
            return cls(**given)
        except TypeError as exc:
            raise ConfigError(f"the load cannot be read: {exc}") from None


@dataclass
class LoadResult:
    """What came of it. Counts are of what was answered, or failed, in the seconds that count."""

    seconds: float  # that were measured
    requests: int  # answered with 2xx or 3xx
    errors: dict[str, int]  # kind: count. connect, handshake, reset, closed, timeout, unreadable, "status 503", ...
    bytes_received: int
    latencies: Histogram = field(repr=False)
    generator_cpu: float  # of one CPU
    sent: int = 0  # open loop: in the seconds that count; answers to some that were sent just before are counted, too
    unsent: int = 0  # open loop: due, and not sent at the end, because no connection was free
    tls: str = ""  # what was agreed on: "TLSv1.3 TLS_AES_256_GCM_SHA384"

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def generator_is_full(self) -> bool:
        """Whether the rate is what the generator can do, so that the server may be faster."""
        return self.generator_cpu >= FULL

    def quantile(self, share: float) -> float:
        """Return the latency that *share* of the requests did not exceed, in seconds; nan without requests."""
        return self.latencies.quantile(share)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON: everything, and the usual quantiles."""
        made = {**asdict(self), "rate": self.rate, "latencies": dict(self.latencies.counts)}
        quantiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
        made.update({name: _none_for_nan(self.quantile(share)) for name, share in quantiles.items()})
        return made

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> LoadResult:
        """Return what `as_dict` has made a dict of."""
        counts = {int(number): count for number, count in given["latencies"].items()}
        own = {each.name: given[each.name] for each in fields(cls) if each.name != "latencies"}
        return cls(latencies=Histogram(counts), **own)


def _none_for_nan(value: float) -> Optional[float]:
    return None if math.isnan(value) else value  # JSON has no nan


class Load:
    """A load that runs. Use it as a context manager: leaving the block ends its process in any case.

    The process also ends by itself if this one does, however that comes: it looks at a pipe.
    """

    def __init__(self, spec: LoadSpec, *, python: str = sys.executable) -> None:
        self.spec = spec
        self._process = start(
            [python, "-m", "rocket.bench.load", "--child", json.dumps(asdict(spec))],
            env=environment(),
            start_new_session=True,  # Ctrl-C is for us: we end it in our own order
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, event: str) -> dict[str, Any]:
        """Wait for "begin" (the warm-up is over), "end" (it is not counted any more) or "result".

        Raises LoadError if the generator says that it cannot, or ends without a word.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == "error":
                raise LoadError(found["why"])
            if found["event"] == event:
                return found
        raise LoadError(f"the load generator ended with {self._process.wait()} and without a result")

    def result(self) -> LoadResult:
        """Wait for what was found. Raises LoadError."""
        return LoadResult.from_dict(self.wait_until("result"))

    def stop(self) -> None:
        """End it, if it has not ended. Any number of times."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.kill()  # it keeps nothing that would be lost
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def run_load(
    spec: LoadSpec,
    *,
    on_begin: Callable[[], object] = lambda: None,
    on_end: Callable[[], object] = lambda: None,
    python: str = sys.executable,
) -> LoadResult:
    """Make the load and return what was found.

    *on_begin* and *on_end* are called when the seconds that count begin and end: to read the server's CPU time, for
    example. Raises LoadError if it cannot be made: nobody answers, too few descriptors.
    """
    with Load(spec, python=python) as load:
        load.wait_until("begin")
        on_begin()
        load.wait_until("end")
        on_end()
        return load.result()


def environment() -> dict[str, str]:
    """Return the environment for a child, in whatever folder, that is to import the same rocket, installed or not."""
    made = dict(os.environ)
    paths = [os.path.abspath(path) for path in made.get("PYTHONPATH", "").split(os.pathsep) if path]
    root = str(Path(__file__).resolve().parent.parent.parent)
    if Path(root).name not in {"site-packages", "dist-packages"}:
        paths.insert(0, root)
    if paths:
        made["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return made


if __name__ == "__main__":
    from rocket.bench.generator import main

    sys.exit(main(sys.argv[1:]))
