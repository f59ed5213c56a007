"""Signals, stopping, ports, kill -9: how the process begins and ends."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time

import pytest
from e2e_client import Client
from e2e_server import ROOT, rocket, until
from faults_client import GET, HALF, PATIENCE, Crowd, Normal, allowed, ask, request, tell

from rocket.bench.processes import free_port

POST = request("/upload", "Content-Length: 100", method="POST")


@pytest.fixture
def crowded(serve):
    """A server with a connection of each kind: idle, half a head, half a body, half an answer, one being answered."""
    # The system knows nothing to tell those that it has not handed over yet.
    server = serve("--threads", "8", "--scaling", "fixed:8", "--graceful-timeout", "60", "--no-defer-accept")
    server.warm_up()
    clients = {
        "idle": tell(server.address, GET),
        "silent": Client(server.address),
        "head": tell(server.address, HALF),
        "body": tell(server.address, POST),
        "reading": tell(server.address, request("/big?mb=8", "Connection: close")),
        "waiting": tell(server.address, request("/hold")),
    }
    clients["idle"].answer()
    server.line("holding")
    until(lambda: server.state()["server"]["parked"] == 5, "the others are parked")  # unread bytes make a reset
    yield server, clients
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_a_signal_answers_are_finished_and_all_else_is_cut(crowded, number):
    server, clients = crowded
    began = time.monotonic()
    server.signal(number)
    until(lambda: not _listens(server), "the listener is closed")
    assert time.monotonic() - began < allowed(0.1 + 0.2)  # asking takes time, too
    assert clients["idle"].rest() == b""
    assert clients["silent"].rest() == b""
    for half in ("head", "body"):
        assert clients[half].rest()[:13] in {b"", b"HTTP/1.1 408 ", b"HTTP/1.1 503 "}
    assert time.monotonic() - began < allowed(0.5)
    server.signal(signal.SIGUSR2)
    assert clients["waiting"].answer().body == b"held\n"
    assert len(clients["reading"].rest()) > 8 << 20
    assert server.process.wait(PATIENCE) == 0
    assert time.monotonic() - began < allowed(10)


def _listens(server):
    try:
        Client(server.address).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_a_stuck_handler_does_not_delay_the_end_past_the_graceful_timeout(serve):
    server = serve("--threads", "4", "--graceful-timeout", "2")
    with tell(server.address, request("/sleep?s=60")):
        until(lambda: server.state()["server"]["busy"] >= 2, "the handler is at work")
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert 1.9 < time.monotonic() - began < allowed(10)
    assert "do_sleep" in server.log


def test_a_second_signal_ends_it_at_once(serve):
    server = serve("--threads", "4", "--graceful-timeout", "30")
    with tell(server.address, request("/sleep?s=60")):
        until(lambda: server.state()["server"]["busy"] >= 2, "the handler is at work")
        server.signal(signal.SIGTERM)
        server.line("SIGTERM")
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < allowed(10)


def test_under_load_every_request_that_was_begun_is_answered_before_the_end(serve):
    server = serve("--threads", "8")
    first = request("/sleep?s=0.3", "Connection: close")
    with Crowd(server.address, 50, first=first) as crowd:
        asked = itertools.count(1)
        until(lambda: server.state()["server"]["accepted"] >= 50 + next(asked), "all are accepted")
        server.signal(signal.SIGTERM)
        assert crowd.wait()
    assert all(answer.endswith(b"slept\n") for answer in crowd.answers)
    assert server.process.wait(PATIENCE) == 0


# ---------------------------------------------------------------------- embedded

EMBEDDED = """
import gc, json, os, sys, threading, urllib.request
from rocket import Server

def application(environ, start_response):
    if environ["PATH_INFO"] == "/stop":
        server.stop()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

def held():
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(gc.get_objects())

"""


def _run(code):
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED + code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert not done.stderr
    return json.loads(done.stdout)


def test_a_hundred_servers_in_one_process_leave_nothing_behind():
    early, late = _run("""
figures = []
for i in range(100):
    with Server(application, bind="127.0.0.1:0") as server:
        urllib.request.urlopen(server.url).read()
    if i in (9, 99):
        figures.append(held())
print(json.dumps(figures))
""")
    assert late[:2] == early[:2]
    assert late[2] - early[2] < 1000  # a leak of a server would be many thousands


def test_a_handler_may_stop_the_server():
    body, threads = _run("""
server = Server(application, bind="127.0.0.1:0")
server.start()
done = threading.Thread(target=server.serve_forever)
done.start()
body = urllib.request.urlopen(server.url + "stop").read().decode()
done.join(60)
for thread in threading.enumerate():
    if thread.name == "rocket-stopper":
        thread.join()
print(json.dumps([body, threading.active_count()]))
""")
    assert (body, threads) == ("ok", 1)


# ---------------------------------------------------------------------- ports


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(serve, tmp_path):
    server = serve("--threads", "1")
    host, port = server.address
    began = time.monotonic()
    done = rocket("serve", "--bind", f"{host}:{port}", cwd=tmp_path)
    assert time.monotonic() - began < allowed(10)
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: cannot bind {host}:{port}: Address already in use\n", done.stderr)
    assert ask(server.address).status == 200


def test_after_kill_9_under_load_a_new_server_binds_at_once(serve):
    bind = f"127.0.0.1:{free_port()}"
    server = serve("--threads", "4", bind=bind)
    with Crowd(server.address, 100, first=GET) as crowd:
        until(lambda: all(crowd.got), "all are served")
        server.kill()
        again = serve("--threads", "4", bind=bind)
        assert crowd.wait()
        with Normal(again.address) as normal:
            until(lambda: len(normal.times) > 10, "a normal client is served")
