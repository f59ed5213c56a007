"""Servers, crowds and measurements of real processes."""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import psutil
import pytest
from core_helpers import PATIENCE, until

from rocket import Server
from rocket.bench import measure, wrk
from rocket.bench.crowd import Crowd
from rocket.bench.limits import SPARE, raise_open_files, room
from rocket.bench.load import LoadError, LoadSpec, environment, run_load
from rocket.bench.processes import Served, ServerFailed, free_port, rocket_command
from rocket.bench.rounds import stopped_by_signals
from rocket.bench.sample import Sample, _per_request, take
from rocket.bench.start import ENDING, start


@pytest.fixture(scope="module")
def served():
    with Served(rocket_command("hello", "--max-threads", "2")) as server:
        yield server


def test_server_serves_until_the_block_is_left():
    with Served(rocket_command("hello")) as server:
        assert run_load(LoadSpec(port=server.port, seconds=1.0, warmup=0.0)).requests > 0
        process = psutil.Process(server.pid)
        assert server.limit > 0
    until(lambda: is_gone(process))


def test_server_without_a_word_of_its_own_is_waited_for():
    port = free_port()
    with Served([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], port) as server:
        socket.create_connection(("127.0.0.1", server.port), 20).close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([sys.executable, "-c", "raise SystemExit('no, not today')"], "no, not today"),
        ([sys.executable, "-c", ""], "without a word"),
        (["/does/not/exist"], "No such file"),
        (rocket_command("nothing"), "bench_apps"),
    ],
    ids=["complains", "silent", "missing", "no such application"],
)
def test_server_that_does_not_start_is_said_with_its_own_words(command, words):
    with pytest.raises(ServerFailed, match=words):
        Served(command)


def test_what_the_server_started_ends_with_it():
    code = (
        "import subprocess, sys, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        "print('listening on http://127.0.0.1:9/\\n1 to 2 threads, policy x', file=sys.stderr, flush=True)\n"
        "child.wait()"
    )
    with Served([sys.executable, "-c", code]) as server:
        (child,) = psutil.Process(server.pid).children()
    until(lambda: is_gone(child))


def is_gone(process):
    """Whether it has ended, though nobody may have asked for its exit code yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_server_ends_when_we_are_killed():
    code = (
        "import sys; from rocket.bench.processes import Served, rocket_command\n"
        "server = Served(rocket_command('hello')); print(server.port, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    with socket.create_connection(("127.0.0.1", int(parent.stdout.readline())), 20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1000)
        parent.kill()
        parent.communicate()
        sock.settimeout(20)
        assert sock.recv(1000) == b""  # the server is gone


def test_options_of_the_server_do_not_come_from_our_environment(monkeypatch):
    monkeypatch.setenv("ROCKET_MAX_THREADS", "none at all")
    with Served(rocket_command("hello")) as server:
        assert server.port


def test_folder_that_we_are_in_is_on_the_servers_path(tmp_path, monkeypatch):
    (tmp_path / "own_monitor.py").write_text("from rocket.monitors.poll import PollMonitor as Own\n")
    monkeypatch.chdir(tmp_path)
    with Served(rocket_command("hello", "--monitor", "own_monitor:Own")) as server:
        assert server.port


# --- Crowds ----------------------------------------------------------------------------------------------------------


def test_idle_clients_are_connected_and_counted():
    with Server(_hello, bind="127.0.0.1:0") as server, Crowd(server.addresses[0][1], 120) as crowd:
        assert crowd.still_open() == 120
        until(lambda: server.stats["parked"] == 120)
        server.stop()
        until(lambda: crowd.still_open() == 0)


def test_no_clients_are_no_process():
    with Crowd(1, 0) as crowd:
        assert crowd.still_open() == 0


def test_slow_clients_never_finish_a_request(served):
    with Crowd(served.port, 5, "slow") as crowd:
        assert crowd.still_open() == 5
        assert run_load(LoadSpec(port=served.port, seconds=0.1, warmup=0.0)).failed == 0


def test_computing_clients_keep_that_many_handlers_at_work():
    """The next request comes with the answer to the last one, and a connection that is closed is made anew."""
    asked, most, at_work = threading.Semaphore(0), [], []

    def application(environ, start_response):
        assert environ["PATH_INFO"] == "/compute"
        at_work.append(environ)
        most.append(len(at_work))
        asked.release()
        at_work.remove(environ)
        return _hello(environ, start_response)

    with Server(application, bind="127.0.0.1:0", max_requests_per_connection=3) as server:
        with Crowd(server.addresses[0][1], 2, "computing") as crowd:
            assert crowd.still_open() == 2
            for _ in range(20):
                assert asked.acquire(timeout=PATIENCE)
        assert max(most) <= 2


def test_crowd_that_is_refused_is_said():
    with pytest.raises(LoadError, match="the idle clients"):
        Crowd(free_port(), 3)


def test_clients_of_a_server_that_keeps_nothing_cannot_be_idle():
    server = Server(_hello, bind="127.0.0.1:0", max_requests_per_connection=1)
    with server, pytest.raises(LoadError, match="keeps no connections"):
        Crowd(server.addresses[0][1], 3)


def _hello(_environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


# --- What it costs ---------------------------------------------------------------------------------------------------


def test_cpu_time_and_memory_of_a_process_are_those_of_its_children_too():
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', %r]).wait()"
    inner = "x = b'x' * 50_000_000\nwhile True: pass"
    before = measure.cpu_seconds(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", code % inner])
    try:
        until(lambda: measure.cpu_seconds(child.pid) >= 0.3 and measure.resident_bytes(child.pid) > 50_000_000)
        assert measure.cpu_seconds(os.getpid()) >= before + 0.3
    finally:
        for process in [*psutil.Process(child.pid).children(), child]:
            process.kill()
        child.wait()


def test_process_that_is_gone_costs_nothing():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert measure.cpu_seconds(child.pid) == measure.resident_bytes(child.pid) == 0


@pytest.mark.parametrize("tool", ["perf", "strace"])
def test_system_calls_are_counted(served, tool):
    if measure.call_counter() is None or (tool == "perf" != measure.call_counter()) or not shutil.which(tool):
        pytest.skip(f"{tool} cannot count here")
    with measure.counted_calls(served.pid, tool) as calls:
        found = run_load(LoadSpec(port=served.port, connections=4, seconds=1.0, warmup=0.0))
    if tool == "strace" and not calls.total:
        pytest.skip("strace may not attach here")
    assert calls.total >= 2 * found.requests > 0  # a recv, a send and a share of a poll
    if tool == "strace":
        assert calls.names["sendto"] > 0


def test_cpu_time_that_the_clock_has_not_seen_is_unknown():
    cost = measure.Cost(os.getpid())
    assert math.isnan(_per_request(cost, 100))
    cost.seconds = 0.5
    assert _per_request(cost, 100) == 0.005
    assert math.isnan(_per_request(cost, 0))


@pytest.mark.parametrize(
    ("others", "taken", "kept"),
    [([0.1], 1, 0.1), ([0.9, 0.1], 2, 0.1), ([0.5, 0.9, 0.7], 3, 0.5), ([float("nan")], 1, None)],
    ids=["quiet", "disturbed once", "always disturbed", "nobody knows"],
)
def test_sample_that_others_disturbed_is_taken_again(others, taken, kept):
    left = list(others)

    def once(_spec, _pid, _by_wrk):
        return Sample(1.0, 0.1, 0.2, 1e-5, {}, 0.5, left.pop(0))

    found = take(LoadSpec(port=1), 1, once=once)
    assert len(others) - len(left) == taken
    assert kept is None or found.other_cpu == kept


def test_machine_is_described():
    facts = measure.machine()
    assert facts["cpus"] >= 1
    line = measure.describe(facts)
    assert facts["python"] in line
    assert facts["cpu"] in line


# --- Limits, wrk -----------------------------------------------------------------------------------------------------


def test_limit_on_open_files_is_raised_as_far_as_it_goes_and_else_it_is_said():
    code = (
        "import resource; from rocket.bench.limits import raise_open_files, room, SPARE\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))\n"
        "print(raise_open_files(200), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
        "import os; os.geteuid = lambda: 1\n"
        "print(raise_open_files(1000)); print(room())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    ).stdout.splitlines()
    assert out[0] == f"None {200 + SPARE}"
    assert out[1] == f"1,000 connections need {1000 + SPARE:,} open files, and the hard limit (ulimit -Hn) is 300"
    assert int(out[2]) == 300 - SPARE
    assert raise_open_files(1) is None
    assert room() > 1


WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 4 connections
  Latency Distribution
     50%   65.00us
     75%   80.00us
     90%    1.20ms
     99%    2.51s
  1000 requests in 1.10s, 1.00MB read
  Socket errors: connect 0, read 3, write 0, timeout 2
  Non-2xx or 3xx responses: 100
Requests/sec:   1000.00
"""


def test_what_wrk_writes_is_read():
    found = wrk.read(WRK)
    assert (found.requests, found.rate, found.p50, found.p99) == (900, 900.0, pytest.approx(65e-6), 2.51)
    assert found.errors == {"reset": 3, "timeout": 2, "status 4xx or 5xx": 100}
    with pytest.raises(LoadError, match="not what wrk writes"):
        wrk.read("unable to connect")


@pytest.mark.skipif(not wrk.available(), reason="needs wrk")
def test_wrk_makes_the_load(served):
    calls = []
    spec = LoadSpec(port=served.port, connections=2, paths=("/a", '/"b"'), headers=(("X-A", "b\\c"),), warmup=0.0)
    found = wrk.run_wrk(spec, lambda: calls.append("begin"), lambda: calls.append("end"))
    assert found.requests > 0
    assert not found.errors
    assert calls == ["begin", "end"]


@pytest.mark.skipif(not wrk.available(), reason="needs wrk")
def test_wrk_that_fails_is_said():
    with pytest.raises(LoadError, match="wrk"):
        wrk.run_wrk(LoadSpec(port=free_port(), warmup=0.0), lambda: None, lambda: None)


def test_a_server_ends_though_nobody_was_there_to_be_told_of_it(tmp_path):
    """As if who started it had been killed in between: both pipes are closed before the server runs."""
    script = tmp_path / "server.py"
    script.write_text("import time; time.sleep(600)")
    keeper = subprocess.Popen(
        [sys.executable, "-m", "rocket.bench.processes", sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    keeper.stdin.close()
    keeper.stdout.close()
    keeper.wait(PATIENCE)

    def left():
        return [each.pid for each in psutil.process_iter(["cmdline"]) if str(script) in (each.info["cmdline"] or [])]

    until(lambda: not left())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_a_process_starts_leaves_none_behind(number):
    """It comes from the new process before it is there: Popen waits for that, in the parent."""
    reading, writing = os.pipe()

    def tell_and_interrupt():
        os.write(writing, str(os.getpid()).encode())
        os.kill(os.getppid(), number)

    with stopped_by_signals(), pytest.raises(KeyboardInterrupt):
        start(["cat"], preexec_fn=tell_and_interrupt)
    pid = int(os.read(reading, 100))
    os.close(reading)
    os.close(writing)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # it is gone, and was waited for


def test_handlers_are_as_before_when_a_process_was_started():
    before = [signal.getsignal(number) for number in ENDING]
    process = start(["cat"])
    assert [signal.getsignal(number) for number in ENDING] == before
    assert process.communicate("still there")[0] == "still there"
