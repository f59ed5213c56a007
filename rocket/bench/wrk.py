"""The load by wrk instead of our own generator, for those who trust it more. Needs wrk (Debian package `wrk`)."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from rocket.bench.load import LoadError, LoadSpec
from rocket.errors import ConfigError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")


@dataclass
class WrkResult:
    """What wrk found. Seconds."""

    requests: int
    rate: float
    p50: float
    p99: float
    errors: dict[str, int]


def available() -> bool:
    """Whether wrk is there."""
    return shutil.which("wrk") is not None


def check(wanted: bool) -> None:
    """Raise ConfigError if wrk is wanted and not there."""
    if wanted and not available():
        raise ConfigError("wrk is not installed (Debian package wrk); leave --wrk out to do without")


def version() -> str:
    """Return what wrk calls itself: `wrk 4.1.0`."""
    text = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)  # ends with 1
    found = re.search(r"wrk \S+", text.stdout + text.stderr)
    return found[0] if found else "wrk"


def run_wrk(spec: LoadSpec, on_begin: Callable[[], object], on_end: Callable[[], object]) -> WrkResult:
    """Make the load that *spec* describes, closed loop, after a warm-up by a run of its own. Raises LoadError.

    wrk counts whole seconds: 0.5 becomes 1.
    """
    if spec.rate is not None:
        raise LoadError("wrk has no constant rate")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_lua(spec))
        script.flush()
        if spec.warmup:
            _wrk(spec, 1, script.name)
        on_begin()
        text = _wrk(spec, math.ceil(spec.seconds), script.name)
        on_end()
    return read(text)


def _wrk(spec: LoadSpec, seconds: int, script: str) -> str:
    scheme = "https" if spec.tls else "http"
    timeout = f"{math.ceil(spec.request_timeout)}s"
    command = ["wrk", "-t1", f"-c{spec.connections}", f"-d{seconds}", "--latency", "--timeout", timeout, "-s", script]
    try:
        # In our session, so that Ctrl-C reaches it, too; it ends by itself in any case.
        done = subprocess.run(
            [*command, f"{scheme}://{spec.host}:{spec.port}/"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as exc:
        raise LoadError(f"wrk: {exc.strerror}") from exc
    if done.returncode or "Requests/sec" not in done.stdout:
        raise LoadError(f"wrk failed: {(done.stderr or done.stdout).strip()[:200]}")
    return done.stdout


def _lua(spec: LoadSpec) -> str:
    fields = dict(spec.headers)
    if not spec.keep_alive:
        fields["Connection"] = "close"
    paths = ", ".join(_quoted(path) for path in spec.paths)
    headers = ", ".join(f"[{_quoted(name)}] = {_quoted(value)}" for name, value in fields.items())
    body = f'string.rep("x", {spec.body_size})' if spec.body_size else "nil"
    return (
        f"local paths, n = {{{paths}}}, 0\nlocal headers, body = {{{headers}}}, {body}\n"
        "request = function()\n  n = n % #paths + 1\n"
        f"  return wrk.format({_quoted(spec.method)}, paths[n], headers, body)\nend\n"
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read(text: str) -> WrkResult:
    """Return what wrk has written. Raises LoadError if that is not what it writes."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    requests = re.search(r"(\d+) requests in", text)
    if rate is None or requests is None:
        raise LoadError(f"this is not what wrk writes: {text[:80]!r}")
    errors = {}
    if found := _ERRORS.search(text):
        errors = dict(zip(("connect", "reset", "write", "timeout"), map(int, found.groups())))
    if found := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        errors["status 4xx or 5xx"] = int(found[1])
    total = int(requests[1])
    good = total - errors.get("status 4xx or 5xx", 0)
    return WrkResult(
        requests=good,
        rate=float(rate[1]) * good / total if total else 0.0,
        p50=_seconds(text, "50"),
        p99=_seconds(text, "99"),
        errors={kind: count for kind, count in errors.items() if count},
    )


def _seconds(text: str, percent: str) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else math.nan
