"""What surrounds the server fails: the clock jumps, standard error is full, blocked or closed."""

import os
import socket
import subprocess
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import psutil
import pytest
from e2e_client import Client
from e2e_server import command, listens_on, until
from faults_client import PATIENCE, read_all, request, tell
from faults_server import APPS

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
DAY = 86400


@pytest.mark.skipif(FAKETIME is None, reason="no libfaketime")
@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_of_the_clock_drops_nobody_and_shows_in_the_next_date(serve, tmp_path, jump):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    server = serve(
        "--threads",
        "4",
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    clients = [Client(server.address) for _ in range(50)]
    try:
        assert abs(_ahead(clients[0])) < 5
        for client in clients[1:]:
            client.ask("/hello")
        clock.write_text(f"{jump:+}")
        # More than once if need be: two threads that read libfaketime's file at the same time disturb each other.
        for client in clients:
            until(lambda client=client: abs(_ahead(client) - jump) < 5, "the clock has jumped")
        clock.write_text("+0")
        for client in clients:
            until(lambda client=client: abs(_ahead(client)) < 5, "it is as before")
    finally:
        for client in clients:
            client.close()


def _ahead(client):
    """Return how far ahead of ours the server's clock is, in seconds."""
    return parsedate_to_datetime(client.ask("/hello").fields["date"]).timestamp() - time.time()


# ---------------------------------------------------------------------- standard error


@pytest.fixture
def serve_printing(tmp_path):
    """Start a server with a standard error of the test's own; return its process and its address."""
    started = []

    def start(*shell, **files):
        given = command("serve", "--app-dir", str(APPS), "--bind", "127.0.0.1:0", "faults_app", "-t", "4", cwd=tmp_path)
        given["args"] = [*shell, *given["args"]]
        process = subprocess.Popen(**{**given, **files})
        started.append(process)
        return process, ("127.0.0.1", until(lambda: listens_on(process.pid), "it listens").pop())

    yield start
    for process in started:
        process.kill()
        process.wait()


def _fail_and_log(address, count):
    """Have *count* tracebacks and megabytes logged; each request is answered, with one answer."""
    for path, status in (("/fail?error=BaseException&where=call", 500), ("/log?lines=10", 200)):
        for _ in range(count):
            with tell(address, request(path, "Connection: close")) as client:
                answer = read_all(client)
            assert int(answer.split()[1]) == status
            assert answer.count(b"HTTP/1.1") == 1


def _ends(process, patience=PATIENCE):
    process.terminate()
    return process.wait(patience)


def test_a_full_disk_for_the_log_costs_no_request(serve_printing):
    with open("/dev/full", "w") as full:
        process, address = serve_printing(stderr=full)
    _fail_and_log(address, 200)
    assert _ends(process) == 0


def test_a_log_that_nobody_reads_costs_no_request(serve_printing):
    read, write = os.pipe()
    process, address = serve_printing(stderr=write)
    os.close(write)
    _fail_and_log(address, 300)  # 3 MB, and the pipe takes 64 KB
    assert psutil.Process(process.pid).memory_info().rss < 200 << 20
    assert _ends(process) == 0
    os.close(read)


def test_a_log_that_is_read_again_tells_how_much_was_dropped(serve_printing):
    read, write = os.pipe()
    process, address = serve_printing(stderr=write)
    os.close(write)
    _fail_and_log(address, 300)
    with open(read, errors="replace") as pipe:
        assert any("messages dropped" in line for line in iter(pipe.readline, ""))
        process.terminate()
        assert pipe.read().rstrip().endswith("stopped")
    assert process.wait(PATIENCE) == 0


def test_a_log_whose_reader_is_gone_costs_no_request(serve_printing):
    read, write = os.pipe()
    process, address = serve_printing(stderr=write)
    os.close(write)
    os.close(read)
    _fail_and_log(address, 50)
    assert _ends(process) == 0


def test_with_standard_descriptors_closed_nothing_is_printed_to_clients(serve_printing):
    process, address = serve_printing("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", stderr=subprocess.DEVNULL)
    assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)] == 3 * ["/dev/null"]
    _fail_and_log(address, 50)
    with socket.create_connection(address) as idle:
        _fail_and_log(address, 50)
        idle.settimeout(0.2)
        with pytest.raises(OSError, match="timed out"):
            idle.recv(1)
    assert _ends(process) == 0
