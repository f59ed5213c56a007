"""Too many: idle connections, clients for the open-file limit, resets, pipelined requests, busy clients."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import ExitStack

import pytest
from e2e_client import Client
from e2e_server import until
from faults_client import GET, HALF, Crowd, Normal, allowed, ask, request, tell
from faults_server import MB, MONITOR


@pytest.mark.skipif(MONITOR in {"select", "poll"}, reason="select and poll look at all descriptors each time")
@pytest.mark.parametrize("first", [b"", GET, HALF], ids=["silent", "used", "half"])
@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_idle_connections_cost_little_memory_and_no_cpu(serve, count, first):
    server = serve("--threads", "8", "--no-defer-accept", "--head-timeout", "60")
    server.warm_up()
    before, rss = server.holds(), server.rss
    with Crowd(server.address, count, first=first, reads=False):
        until(lambda: server.connections == count, "all are accepted")
        assert (server.rss - rss) / count < (2048 if first is not HALF else 4096)
        with Normal(server.address) as normal:
            until(lambda: len(normal.times) > 100, "a normal client is served")
            server.idles(0.25)  # of which the normal client's requests are most
        assert normal.at(0.99) < allowed(0.05)
        if first is not HALF:  # heads have a deadline to be looked at
            server.rest()
        server.idles(0.02)
    server.recovers(before)


def test_silent_connections_that_the_system_holds_back_delay_nobody(serve):
    server = serve("--threads", "2")
    with Crowd(server.address, 1000, reads=False), Normal(server.address) as normal:
        until(lambda: len(normal.times) > 100, "a normal client is served")
    assert normal.at(0.99) < allowed(0.25)


@pytest.mark.parametrize("first", [HALF, GET], ids=["half", "used"])
def test_more_clients_than_descriptors_cost_no_cpu_and_no_log(serve, first):
    server = serve("--threads", "4", FAULTS_NOFILE="64")
    server.warm_up()
    lines, began = len(server.log.splitlines()), time.monotonic()
    with Crowd(server.address, 200, first=first) as crowd:
        if first is GET:  # the oldest idle ones make room for the others
            until(lambda: sum(map(bool, crowd.got)) + len(crowd.answers) >= 200, "all are served")
        server.idles(0.1, 2)
        assert len(server.log.splitlines()) - lines <= 2 * (time.monotonic() - began)
        assert server.fds <= 64
    began = time.monotonic()
    assert ask(server.address).status == 200
    assert time.monotonic() - began < allowed(1)


def test_a_server_whose_application_takes_all_descriptors_closes_idle_connections_and_recovers(serve):
    server = serve("--threads", "4", FAULTS_NOFILE="64")
    server.warm_up()
    lines, start = len(server.log.splitlines()), time.monotonic()
    with Client(server.address) as idle:
        assert idle.ask("/hello").status == 200
        with Client(server.address) as hoarder:
            assert hoarder.ask("/hoard").status == 200
            assert ask(server.address).status == 200  # in place of the idle one
            assert idle.rest() == b""
            with Crowd(server.address, 20, first=HALF):
                server.idles(0.1)
            os.kill(server.process.pid, signal.SIGUSR1)  # the application gives them back
            began = time.monotonic()
            assert ask(server.address).status == 200
            assert time.monotonic() - began < allowed(1)
    assert len(server.log.splitlines()) - lines <= max(2, (time.monotonic() - start) / 2)


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
@pytest.mark.parametrize("error", ["ECONNABORTED", "EPROTO", "ENOBUFS", "EMFILE", "ENETDOWN"])
def test_a_failing_accept_costs_no_client(serve, tmp_path, error):
    server = serve("--threads", "2")
    server.warm_up()
    what = ["-e", "trace=accept4", "-e", f"inject=accept4:error={error}:when=3+5"]
    pid = server.process.pid
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-o", str(tmp_path / "trace"), *what], stderr=subprocess.PIPE, text=True
    )
    try:
        if "attached" not in tracer.stderr.readline():
            pytest.skip("strace may not attach here")
        for _ in range(15):
            assert ask(server.address).status == 200
    finally:
        tracer.terminate()
        tracer.communicate()
    assert "INJECTED" in (tmp_path / "trace").read_text()
    assert ask(server.address).status == 200


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_storm_of_resets_leaves_nothing_behind(serve, count):
    server = serve("--threads", "4")
    server.warm_up()
    before, rss = server.holds(), server.rss
    lines = server.log
    for _ in range(count // 4):
        Client(server.address).reset()
        tell(server.address, HALF).reset()
        tell(server.address, request("/big?mb=2")).reset()
        client = tell(server.address, request("/big?mb=2"))
        client.file.read(1)
        client.reset()
    server.recovers(before)
    assert server.rss - rss < 4 * MB
    assert server.log == lines
    server.has_closed_all_answers()


@pytest.mark.parametrize("count", [300_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_pipelined_requests_whose_answers_nobody_reads_are_not_read_ahead(serve, count):
    server = serve("--threads", "4", "--max-requests-per-connection", "0", "--write-timeout", "2")
    server.warm_up()
    before, rss = server.holds(), server.rss
    client = Client(server.address, receive_buffer=4096)
    sender = threading.Thread(target=_send, args=(client, count), daemon=True)
    with Normal(server.address) as normal:
        sender.start()
        until(lambda: server.state()["server"]["parked"] == 1, "it waits for the client to read")
        assert server.rss - rss < 10 * MB
        sender.join()  # cut off by the write timeout
        until(lambda: len(normal.times) > 50, "a normal client is served")
    client.close()
    assert normal.at(0.99) < allowed(0.1)
    server.recovers(before)


def _send(client, count):
    """Send *count* requests, or as many as are taken."""
    try:
        for _ in range(count // 1000):
            client.send(1000 * GET)
    except OSError:
        pass


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_client_that_pipelines_and_reads_starves_nobody(serve, count):
    server = serve("--threads", "4", "--max-requests-per-connection", "0")
    with Client(server.address) as client, Normal(server.address) as normal:
        sender = threading.Thread(target=_send, args=(client, count), daemon=True)
        sender.start()
        for _ in range(count):
            assert client.answer().body == b"hello\n"
        sender.join()
    assert normal.at(0.99) < allowed(0.25)


def test_busy_keep_alive_clients_do_not_starve_new_ones(serve):
    server = serve("--threads", "4")
    with ExitStack() as busy:
        for _ in range(8):
            busy.enter_context(Busy(server.address))
        with Normal(server.address) as normal:
            until(lambda: len(normal.times) > 200, "a normal client is served")
    assert max(normal.times) < allowed(1.5)
    assert normal.at(0.9) < allowed(0.25)


class Busy:
    """A client that asks as fast as it can over one connection."""

    def __init__(self, address):
        self._client = Client(address)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *exc):
        self._stopping = True
        self._thread.join()
        self._client.close()

    def _run(self):
        while not self._stopping:
            answer = self._client.ask("/hello")
            if answer.fields.get("connection") == "close":
                address = self._client.sock.getpeername()
                self._client.close()
                self._client = Client(address)


def test_no_deadline_is_computed_from_the_wall_clock():
    from e2e_server import ROOT

    for path in sorted((ROOT / "rocket").rglob("*.py")):
        for line in path.read_text().splitlines():
            if re.search(r"\btime\.time\(\)", line):
                assert re.search(r"http_date\(|int\(time\.time\(\)\)", line), f"{path.name}: {line}"
