import json
import os
import threading
import time
import subprocess
import signal

import pytest
from concurrent.futures import ThreadPoolExecutor
from faults_client import GET, HEAD, Crowd, Normal, ask, connect, read_all, request, reset
from faults_server import MB, until


def capacity(server, threads=8):
    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(lambda _: ask(server.address, "/sleep?s=0.5")[0], range(threads)))
    assert answers == [200] * threads
    return time.monotonic() - began


@pytest.mark.parametrize("error", ["BaseException", "KeyboardInterrupt", "SystemExit", "GeneratorExit", "StopIteration", "MemoryError", "RecursionError"])
def test_bad_app(serve, error):
    server = serve("--threads", "8", "--scaling", "fixed:8")
    server.expects_errors = True
    server.warm_up()
    out = {}
    for where in ("call", "started", "iter", "first", "second", "close", "exit"):
        for _ in range(9):
            with connect(server.address) as sock:
                sock.sendall(request(f"/fail?error={error}&where={where}"))
                sock.settimeout(2)
                data = b""
                try:
                    while True:
                        b = sock.recv(10000)
                        if not b: break
                        data += b
                        if b.endswith(b"0\r\n\r\n"): break
                except OSError as e:
                    data += repr(e).encode()
        out[where] = data[:15], data[-20:]
    print(error, out)
    assert ask(server.address, "/deep")[0] == 500
    c = capacity(server)
    print("capacity", c, server.handle.num_threads())
    assert c < 1.2


@pytest.mark.parametrize("which", ["leader", "sleepers", "all"])
def test_killed(serve, which):
    server = serve("--threads", "8", "--scaling", "fixed:8")
    server.expects_errors = True
    server.warm_up()
    threads = server.handle.num_threads()
    for _ in range(3):
        print(ask(server.address, f"/kill?which={which}"))
        t = time.monotonic()
        print("capacity", capacity(server), time.monotonic() - t, server.handle.num_threads(), threads)
        print("capacity", capacity(server), server.handle.num_threads(), threads)
    print(server.log[-1500:])
    print(server.state())


def test_stuck(serve):
    server = serve("--threads", "4", "--queue-timeout", "1", "--max-queue", "50")
    server.warm_up()
    head = request("/sleep?s=6")
    with Crowd(server.address, 4, first=head) as stuck:
        t = time.monotonic()
        with Crowd(server.address, 100, first=GET) as crowd:
            time.sleep(3)
            print(len(crowd.answers), crowd.ages[:3], set(crowd.answers))
            print(server.log)
            crowd.wait(10)
    print(server.log)
    print(set(crowd.answers))


def test_cloexec(serve):
    server = serve("--threads", "4")
    print(ask(server.address, "/cloexec"))
    print(ask(server.address, "/fork"))
    print(ask(server.address, "/popen"))
    t = time.monotonic()
    with connect(server.address) as sock:
        sock.sendall(request("/popen"))
        pid = int(sock.recv(1000).split()[-1])
        print(os.listdir(f"/proc/{pid}/fd"), [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")])
    host, port = server.address
    t = time.monotonic()
    assert server.stop() == 0
    print("stopped", time.monotonic() - t)
    again = serve("--threads", "4", bind=f"{host}:{port}")
    assert ask(again.address)[0] == 200
    os.kill(pid, 9)


def test_fork_that_returns(serve):
    server = serve("--threads", "4")
    server.expects_errors = True
    server.warm_up()
    with connect(server.address) as idle:
        idle.sendall(GET); idle.recv(1000)
        with connect(server.address) as sock:
            sock.sendall(request("/fork?how=exit"))
            sock.settimeout(3)
            data = b""
            try:
                while True:
                    b = sock.recv(1000)
                    if not b: break
                    data += b
            except OSError as e: print(e)
            print(data)
        idle.sendall(GET); print(idle.recv(1000))
        for _ in range(50): assert ask(server.address)[0] == 200
    import psutil
    print(server.handle.children(recursive=True))
    print(server.log)
    for c in server.handle.children(): c.kill()


def test_no_threads(serve):
    server = serve("--threads", "2:40", "--scaling", "queue")
    server.expects_errors = True
    server.warm_up()
    ask(server.address, "/limit")
    t = time.monotonic()
    with Crowd(server.address, 40, first=request("/sleep?s=0.2")) as crowd:
        time.sleep(6)
        print(len(crowd.answers), [a[:20] for a in list(crowd._open.values())])
    print(server.handle.num_threads())
    print(server.log[-3000:])
    ask(server.address, "/unlimit")
