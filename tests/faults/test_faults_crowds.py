import os
import re
import signal
import subprocess
import shutil
import time
import socket

import pytest
from faults_client import GET, HEAD, Crowd, Normal, ask, connect, read_all, request, reset
from faults_server import MB, until

slow = pytest.mark.slow


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("count", [1000, pytest.param(10000, marks=slow)])
def test_idle_flood(serve, count, used):
    server = serve("--threads", "8", "--no-defer-accept")
    server.warm_up()
    before = server.rss
    t = time.monotonic()
    with Crowd(server.address, count, first=GET if used else b"", reads=False) as crowd:
        print("connect", time.monotonic() - t)
        until(lambda: server.state()["server"]["connections"] > count, "all accepted")
        print("accepted", time.monotonic() - t)
        per = (server.rss - before) / count
        with Normal(server.address) as normal:
            cpu = server.cpu_share(2)
        print(count, used, "B per conn", per, "p99", normal.percentile(0.99), "cpu with normal", cpu)
        server.rest()
        print("cpu at rest", server.cpu_share(2))
        fds = server.fds
    t = time.monotonic()
    until(lambda: server.state()["server"]["connections"] <= 2, "closed")
    print("closed after", time.monotonic() - t, "rss left", (server.rss - before) / MB)


def test_out_of_descriptors(serve):
    server = serve("--threads", "4", FAULTS_NOFILE="64")
    server.warm_up()
    with Crowd(server.address, 200, first=HEAD, reads=True) as crowd:
        print("share", server.cpu_share(2), "alive", len(crowd))
        print(server.log)
        fds = server.fds
        print("fds", fds)
    t = time.monotonic()
    assert ask(server.address)[0] == 200
    print("served after", time.monotonic() - t)


def test_hoarded_descriptors(serve):
    server = serve("--threads", "4", FAULTS_NOFILE="64")
    server.warm_up()
    with connect(server.address) as idle, connect(server.address) as kept:
        idle.sendall(GET)
        idle.recv(1000)
        kept.sendall(request("/hoard"))
        print(kept.recv(1000))
        t = time.monotonic()
        try:
            with connect(server.address) as sock:
                sock.settimeout(3)
                sock.sendall(GET)
                print("new one:", sock.recv(1000)[:20], time.monotonic() - t)
        except OSError as exc:
            print("new one:", exc)
        print("share", server.cpu_share(2))
        os.kill(server.process.pid, signal.SIGUSR1)
        t = time.monotonic()
        assert ask(server.address)[0] == 200
        print("served after", time.monotonic() - t)
    print(server.log)


def test_accept_errors(serve, tmp_path):
    server = serve("--threads", "2")
    server.warm_up()
    trace = subprocess.Popen(
        ["strace", "-f", "-p", str(server.process.pid), "-o", str(tmp_path / "trace"), "-e", "trace=accept4",
         "-e", "inject=accept4:error=ECONNABORTED:when=3+5"],
        stderr=subprocess.PIPE, text=True)
    print(trace.stderr.readline())
    t = time.monotonic()
    for _ in range(50):
        assert ask(server.address)[0] == 200
    print(time.monotonic() - t)
    trace.terminate()
    trace.wait()
    print((tmp_path / "trace").read_text().count("INJECTED"), server.log)


@pytest.mark.parametrize("count", [600, pytest.param(20000, marks=slow)])
def test_rst_storm(serve, count):
    server = serve("--threads", "4")
    server.warm_up()
    before = server.fds, server.handle.num_threads(), server.rss
    for i in range(count // 3):
        reset(connect(server.address))
        s = connect(server.address); s.sendall(HEAD); reset(s)
        s = connect(server.address); s.sendall(request("/big?mb=2")); s.recv(100); reset(s)
    t = time.monotonic()
    until(lambda: server.fds <= before[0] + 1, "fds")
    print("back", time.monotonic() - t, before, server.fds, server.handle.num_threads(), server.rss - before[2], server.state())
    print(server.log[-2000:])
    assert ask(server.address)[0] == 200


@pytest.mark.parametrize("count", [100000, pytest.param(1000000, marks=slow)])
def test_pipeline(serve, count):
    server = serve("--threads", "4", "--max-requests-per-connection", "0", "--write-timeout", "3")
    server.warm_up()
    before = server.rss
    sock = connect(server.address, 4096)
    sock.settimeout(5)
    t = time.monotonic()
    data = GET * count
    sent = 0
    with Normal(server.address) as normal:
        try:
            while sent < len(data):
                sent += sock.send(data[sent:sent + 1000000])
        except OSError as exc:
            print(repr(exc))
    print("sent", sent, len(data), time.monotonic() - t, "rss", (server.rss - before) / MB, "max", max(normal.times), server.state())


def test_pipeline_read(serve):
    server = serve("--threads", "4", "--max-requests-per-connection", "0")
    server.warm_up()
    sock = connect(server.address)
    sock.setblocking(True)
    import threading
    data = GET * 100000
    threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
    with Normal(server.address) as normal:
        n = 0
        while n < 100000:
            n += sock.recv(1 << 20).count(b"hello\n")  # approx
            if n > 99900: break
    print("max", max(normal.times), normal.median, len(normal.times))


def test_busy_keep_alive(serve):
    server = serve("--threads", "4")
    import contextlib
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(Normal(server.address, pause=0))
        with Normal(server.address) as normal:
            time.sleep(3)
    print("max", max(normal.times), normal.percentile(0.99), normal.median, len(normal.times))


def test_vanish(serve):
    server = serve("--threads", "4", "--head-timeout", "3", "--body-timeout", "3", "--write-timeout", "3")
    server.warm_up()
    before = server.fds, server.handle.num_threads(), server.rss
    for i in range(250):
        s = connect(server.address); s.sendall(HEAD[:20]); s.close()
        s = connect(server.address); s.sendall(request("/upload", "Content-Length: 100", method="POST") + b"xx"); s.close()
        s = connect(server.address); s.sendall(request("/big")); s.recv(1000); reset(s)
    t = time.monotonic()
    until(lambda: server.fds <= before[0] + 1, "fds")
    print("back", time.monotonic() - t, before, server.fds, server.handle.num_threads(), (server.rss - before[2]) / MB, server.state())
    print(server.log[-1000:])
