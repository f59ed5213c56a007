"""A server that has nothing to do does nothing."""

import shutil
import subprocess
import time

import pytest

QUIET_SECONDS = 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


def calls_while_idle(server, tmp_path):
    """Return the system calls that *server* makes in `QUIET_SECONDS`."""
    trace = tmp_path / "trace"
    pid = str(server.process.pid)
    started = time.monotonic()
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", str(trace), "-p", pid], stderr=subprocess.PIPE, text=True)
    try:
        tracer.wait(QUIET_SECONDS)
    except subprocess.TimeoutExpired:
        tracer.terminate()
        tracer.wait(10)
    error = tracer.stderr.read()
    tracer.stderr.close()
    if "not permitted" in error:
        pytest.skip(error)
    assert time.monotonic() - started >= QUIET_SECONDS, error
    # What was in progress when we came is shown as "<unfinished ...>" or "resuming", and ends when we go.
    return [line for line in trace.read_text().splitlines() if " = " in line and "ERESTART" not in line]


@pytest.mark.parametrize("monitor", ["auto", "poll", "select", "selectors"])
def test_an_idle_server_makes_no_system_calls(serve, tmp_path, monitor):
    server = serve("--monitor", monitor, "--bind", "unix:s")
    server.rest()
    assert calls_while_idle(server, tmp_path) == []


def test_a_server_makes_no_system_calls_once_a_burst_is_over(serve, connect, tmp_path):
    server = serve("trouble", "--threads", "1:8", "--thread-idle-timeout", "0.1", "--keep-alive", "1")
    server.stats()
    before = server.holds()
    clients = [connect(server) for _ in range(30)]
    for _ in range(5):
        for client in clients:
            client.get("/slow")
        assert {client.answer().status for client in clients} == {200}
    server.line(r"pool 1 -> \d: ")
    server.line(r"pool \d -> 1: ")
    server.settle(before)
    server.rest(3)
    assert calls_while_idle(server, tmp_path) == []
    stats = server.stats()
    assert (stats["threads"], stats["goal"], stats["connections"]) == (1, 1, 1)


def test_idle_connections_cost_no_system_calls(serve, connect, tmp_path):
    server = serve("trouble", "--threads", "2", "--keep-alive", "600")
    clients = [connect(server) for _ in range(50)]
    assert {client.ask("/hello").status for client in clients} == {200}
    server.rest(3)
    assert calls_while_idle(server, tmp_path) == []
    assert {client.ask("/hello").status for client in clients} == {200}
