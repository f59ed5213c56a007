import json, os, signal, socket, subprocess, sys, threading, time
import psutil
import pytest
from faults_client import GET, HEAD, Crowd, Normal, ask, connect, read_all, request, reset
from faults_server import APPS, MB, command, until

def listens(address):
    try:
        s = socket.create_connection(address, 1); s.close(); return True
    except OSError: return False

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sig(serve, number):
    server = serve("--threads", "8", "--graceful-timeout", "3")
    server.warm_up()
    with connect(server.address) as idle, connect(server.address) as half, connect(server.address) as flight, connect(server.address) as body:
        idle.sendall(GET); idle.recv(1000)
        half.sendall(HEAD)
        body.sendall(request("/upload", "Content-Length: 100", method="POST"))
        flight.sendall(request("/sleep?s=1"))
        until(lambda: server.state()["server"]["busy"] >= 2, "busy")
        t = time.monotonic()
        server.signal(number)
        while listens(server.address): pass
        print("listener closed", time.monotonic() - t)
        print(read_all(idle), "idle", time.monotonic() - t)
        print(read_all(half), "half", time.monotonic() - t)
        print(read_all(body), "body", time.monotonic() - t)
        print(read_all(flight), time.monotonic() - t)
        print(server.process.wait(10), time.monotonic() - t)

@pytest.mark.parametrize("twice", [False, True])
def test_sig_stuck(serve, twice):
    server = serve("--threads", "8", "--graceful-timeout", "2")
    with connect(server.address) as flight:
        flight.sendall(request("/sleep?s=100"))
        until(lambda: server.state()["server"]["busy"] >= 2, "busy")
        t = time.monotonic()
        server.signal(15)
        server.line("finishing")
        if twice: server.signal(15)
        print(server.process.wait(10), time.monotonic() - t)
        print(server.log)

def test_startstop(tmp_path):
    code = """
import os, threading, urllib.request, gc, json, time
from rocket import Server
def app(e, s):
    s("200 OK", [("Content-Length", "2")]); return [b"ok"]
def held():
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(gc.get_objects())
for i in range(100):
    with Server(app, bind="127.0.0.1:0") as server:
        assert urllib.request.urlopen(server.url).read() == b"ok"
    if i in (4, 99): print(held())
print(int(open("/proc/self/statm").read().split()[1])*4096)
"""
    print(subprocess.run([sys.executable, "-c", code], cwd="/work/main", capture_output=True, text=True))

def test_stop_handler(tmp_path):
    code = """
import os, threading, urllib.request, time
from rocket import Server
def app(e, s):
    server.stop(); s("200 OK", [("Content-Length", "2")]); return [b"ok"]
server = Server(app, bind="127.0.0.1:0")
server.start()
t = time.monotonic()
print(urllib.request.urlopen(server.url).read())
while server.running: pass
print(time.monotonic() - t, threading.active_count())
"""
    print(subprocess.run([sys.executable, "-c", code], cwd="/work/main", capture_output=True, text=True))

def test_port_taken(serve, tmp_path):
    server = serve()
    t = time.monotonic()
    done = subprocess.run(**command("serve", "--bind", "%s:%s" % server.address, cwd=tmp_path), capture_output=True, text=True)
    print(done.returncode, done.stderr, time.monotonic() - t)

def test_kill9(serve, tmp_path):
    server = serve()
    with Normal(server.address) as n, Crowd(server.address, 100, first=GET) as c:
        time.sleep(0.5)
        server.process.kill(); server.process.wait()
        t = time.monotonic()
        again = serve(bind="%s:%s" % server.address)
        print(ask(again.address), time.monotonic() - t)
    server.process.returncode = 0

@pytest.mark.parametrize("how", ["full", "pipe", "closed"])
def test_stderr(tmp_path, how):
    probe = socket.socket(); probe.bind(("127.0.0.1", 0)); port = probe.getsockname()[1]; probe.close()
    given = command("serve", "--app-dir", str(APPS), "--bind", f"127.0.0.1:{port}", "faults_app", "--threads", "4", "--log-level", "debug", cwd=tmp_path)
    addr = ("127.0.0.1", port)
    pre = None
    if how == "full":
        given["stderr"] = open("/dev/full", "w")
    elif how == "pipe":
        given["stderr"] = subprocess.PIPE
    else:
        given["args"] = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *given["args"]]
    p = subprocess.Popen(**given)
    try:
        until(lambda: listens(addr), "listening", 5)
        for i in range(500):
            with connect(addr) as sock:
                sock.settimeout(3)
                sock.sendall(request(f"/fail?error=BaseException&where=call", "Connection: close"))
                data = read_all(sock)
                assert data.startswith(b"HTTP/1.1 500") and data.count(b"HTTP/") == 1, data
        print([os.readlink(f"/proc/{p.pid}/fd/{n}") for n in (0, 1, 2)])
        print("ok", i)
        t = time.monotonic()
        p.terminate(); print(p.wait(5), time.monotonic() - t)
    finally:
        p.kill(); p.wait()

def test_log_app(tmp_path):
    pass

@pytest.mark.parametrize("jump", ["+86400", "-86400"])
def test_clock(serve, tmp_path, jump):
    f = tmp_path / "time"
    f.write_text("+0")
    server = serve("--threads", "4", LD_PRELOAD="/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", FAKETIME_TIMESTAMP_FILE=str(f), FAKETIME_NO_CACHE="1", DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_FAKE_MONOTONIC="1")
    server.warm_up()
    socks = [connect(server.address) for _ in range(50)]
    for i, s in enumerate(socks):
        s.sendall(GET); print(s.recv(1000)) if not i else s.recv(1000)
    f.write_text(jump)
    for i, s in enumerate(socks):
        s.sendall(GET); print(s.recv(1000)) if not i else s.recv(1000)
    time.sleep(1)
    for i, s in enumerate(socks):
        s.sendall(GET); assert b"hello" in s.recv(1000)
        s.close()

def test_early(serve):
    server = serve("--threads", "4")
    ok = 0
    for i in range(100):
        s = connect(server.address)
        try:
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 10000000\r\n\r\n")
            try:
                for _ in range(50): s.sendall(b"x" * 16384)
            except OSError: pass
            data = b""
            try:
                while True:
                    b = s.recv(10000)
                    if not b: break
                    data += b
            except OSError as e: pass
            ok += data.startswith(b"HTTP/1.1 400")
        finally: s.close()
    print("ok", ok)
    ok = 0
    for i in range(100):
        s = connect(server.address)
        s.sendall(request("/upload", "Content-Length: 99999999999", method="POST"))
        try:
            for _ in range(50): s.sendall(b"x" * 16384)
        except OSError: pass
        data = read_all(s)
        ok += data.startswith(b"HTTP/1.1 413")
        s.close()
    print("413", ok)

def test_cut(serve):
    server = serve("--threads", "4")
    for i in range(50):
        s = connect(server.address); s.sendall(request("/upload", "Content-Length: 100", method="POST") + b"x" * 50); s.shutdown(1); print(read_all(s)); s.close()
        s = connect(server.address); s.sendall(request("/upload", "Transfer-Encoding: chunked", method="POST") + b"5\r\nabc"); s.close()
    print(server.state())
