"""Where it listens, with real clients, real proxies, and supervisors: curl, nginx, systemd's tools."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from e2e_server import APPS, PATIENCE, command, rocket, until

from rocket.bench.processes import free_port

LINUX = sys.platform.startswith("linux")
ROOT = os.geteuid() == 0
# Opens a socket, hands it over as systemd does (sd_listen_fds(3)), and becomes the command.
LAUNCHER = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", 0))
if sock.fileno() == 3:
    os.set_inheritable(3, True)
else:
    os.dup2(sock.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.argv[1], sys.argv[1:])
"""
NGINX = """
daemon off; master_process {master}; pid {folder}/pid; error_log stderr error; {user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    upstream site {{ server unix:{socket}; keepalive 8; }}
    server {{
        listen unix:{folder}/front;
        location / {{ proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_activate = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not installed"
)


def curl(*arguments, cwd=None):
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*binds, cwd, before=()):
    """Start it with *binds*, which it cannot have; return its last line."""
    given = command("serve", *(part for bind in binds for part in ("--bind", bind)), cwd=cwd)
    given["args"] = [*before, *given["args"]]
    done = subprocess.run(**given, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


class Supervisor:
    """What systemd is to a service: hears what it says, and sets the variables that ask for it."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"rocket-e2e-{os.getpid()}-{threading.get_ident()}"
        self.sock.bind("\0" + name)
        self.sock.settimeout(PATIENCE)
        self.variables = {"NOTIFY_SOCKET": "@" + name}

    def hear(self):
        return self.sock.recv(4096).decode().split("\n")

    def is_left_alone(self, seconds):
        """Whether nothing comes for that long, besides what is waiting already."""
        self.sock.setblocking(False)
        try:
            while True:
                self.hear()
        except BlockingIOError:
            pass
        self.sock.settimeout(seconds)
        try:
            self.hear()
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(PATIENCE)
        return False

    def hear_next(self, what):
        """Return the next message that begins with *what*; "WATCHDOG=1" before it does not count."""
        while True:
            message = self.hear()
            if message[0] == what:
                return message
            assert message == ["WATCHDOG=1"]


@pytest.fixture
def supervisor():
    if not LINUX:
        pytest.skip("abstract sockets are Linux's")
    made = Supervisor()
    yield made
    made.sock.close()


# ---------------------------------------------------------------------- clients


@needs_curl
def test_curl_over_a_unix_socket_and_tcp_at_once(serve, tmp_path):
    server = serve("trouble", "--bind", "unix:s.sock?mode=600", "--bind", "unix:t.sock")
    for name in ("s.sock", "t.sock"):
        assert curl("--unix-socket", name, "http://site/hello", cwd=tmp_path) == "hello\n"
    body = "x" * 500_000
    (tmp_path / "body").write_text(body)
    times = curl(
        "--unix-socket", "s.sock", "--data-binary", "@body", "http://site/hello", "http://site/hello",
        "-w", "%{num_connects}\n", cwd=tmp_path,
    )  # fmt: skip
    assert times == "hello\n1\nhello\n0\n"  # kept alive
    assert curl(server.url + "/hello") == "hello\n"
    assert server.stop() == 0
    assert sorted(os.listdir(tmp_path)) == ["body"]


@needs_curl
@pytest.mark.skipif(not LINUX, reason="abstract sockets are Linux's")
def test_curl_over_an_abstract_socket(serve):
    name = f"rocket-e2e-{os.getpid()}"
    serve("trouble", bind=f"unix:@{name}")
    assert curl("--abstract-unix-socket", name, "http://site/hello") == "hello\n"


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_in_front_of_a_unix_socket(serve, tmp_path):
    serve("trouble", bind="unix:s.sock?mode=600")
    # nginx takes no relative path for its own socket; a folder of pytest's may have too long a name.
    folder = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        os.symlink(tmp_path, f"{folder}/site")
        user = "user root;" if ROOT else ""
        (tmp_path / "nginx.conf").write_text(
            NGINX.format(folder=folder, socket=f"{folder}/site/s.sock", user=user, master="off")
        )
        log = open(tmp_path / "nginx.log", "w+")  # noqa: SIM115 (closed below)
        proxy = subprocess.Popen(["nginx", "-c", str(tmp_path / "nginx.conf"), "-p", folder], stderr=log)
        try:
            until(lambda: os.path.exists(f"{folder}/front") or proxy.poll() is not None, "nginx listens")
            assert proxy.poll() is None, (tmp_path / "nginx.log").read_text()
            for _ in range(20):
                assert curl("--unix-socket", f"{folder}/front", "http://site/hello") == "hello\n"
            (tmp_path / "body").write_bytes(b"x" * 3_000_00)
            answer = curl("--unix-socket", f"{folder}/front", "--data-binary", f"@{tmp_path}/body", "http://site/hello")
            assert answer == "hello\n"
            assert (tmp_path / "nginx.log").read_text() == ""
        finally:
            proxy.terminate()
            proxy.wait(PATIENCE)
            log.close()
    finally:
        shutil.rmtree(folder)


# ---------------------------------------------------------------------- what is left behind, and what is in the way


def test_unix_socket_of_a_killed_server_is_taken_over(serve, tmp_path):
    serve("trouble", bind="unix:s.sock").kill()
    assert os.listdir(tmp_path) == ["s.sock"]
    server = serve("trouble", bind="unix:s.sock")
    server.line("removed the socket .*s.sock: nobody listened on it any more")
    assert server.stop() == 0
    assert os.listdir(tmp_path) == []


def test_unix_socket_of_a_running_server_is_exit_1_and_stays(serve, tmp_path):
    server = serve("trouble", "--bind", "unix:s.sock")
    assert refused("unix:s.sock", cwd=tmp_path) == "Error: cannot bind unix:s.sock: a server listens there"
    assert os.listdir(tmp_path) == ["s.sock"]
    assert server.stop() == 0


def test_what_cannot_be_bound_is_exit_1_and_a_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    there_is = "there is a file of that name, which is no socket"
    assert refused("unix:file", cwd=tmp_path) == f"Error: cannot bind unix:file: {there_is}"
    assert (tmp_path / "file").read_text() == "mine"
    assert refused("unix:no/s", cwd=tmp_path).endswith("no: No such file or directory")
    assert "the path has 130 bytes" in refused("unix:" + "x" * 130, cwd=tmp_path)
    assert refused("unix:s?owner=nobody-at-all", cwd=tmp_path).endswith("there is no user 'nobody-at-all'")
    assert refused("fd://77", cwd=tmp_path) == "Error: cannot bind fd://77: no descriptor 77 was inherited"
    assert "LISTEN_FDS are not both set" in refused("systemd:", cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file"]


@pytest.mark.skipif(not ROOT or shutil.which("setpriv") is None, reason="only root can become another user")
def test_what_another_user_may_not_bind_is_exit_1_and_a_line(tmp_path):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*nobody, sys.executable, "-c", "import rocket, click"], cwd="/", env=command(cwd="/")["env"],
                      capture_output=True, check=False).returncode:  # fmt: skip
        pytest.skip("nobody may not run this Python")
    os.chmod(tmp_path, 0o755)
    assert refused("127.0.0.1:80", cwd="/", before=nobody) == "Error: cannot bind 127.0.0.1:80: Permission denied"
    assert refused("unix:/s", cwd="/", before=nobody) == "Error: cannot bind unix:/s: Permission denied"
    assert refused("unix:/tmp/rocket-e2e-s?owner=root", cwd="/", before=nobody).startswith(
        "Error: cannot bind unix:/tmp/rocket-e2e-s?owner=root: cannot give it to another owner or group: "
    )
    assert not os.path.exists("/tmp/rocket-e2e-s")


def test_wrong_bind_is_exit_2_and_says_what_is_wrong(tmp_path):
    for bind, said in (
        ("unix:/s?mode=rw", "mode must be three octal digits"),
        ("unix:/s?mdoe=600", "did you mean 'mode'?"),
        ("fd://", "a descriptor is a number"),
        ("tls://:0?cert=/nowhere", "/nowhere"),
        ("tls://:0", "'tls://:0' has no certificate"),
    ):
        done = rocket("serve", "--bind", bind, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


# ---------------------------------------------------------------------- several processes


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT here")
def test_two_processes_share_a_port_and_both_serve(serve, connect):
    one = serve("trouble", "--server-header", "one", bind="tcp://127.0.0.1:0?reuseport=1")
    host, port = one.address
    other = serve("trouble", "--server-header", "other", bind=f"{host}:{port}?reuseport=1")
    served = set()

    def ask():
        with connect(one) as client:
            served.add(client.ask("/hello").fields["server"])
        return len(served) == 2

    until(ask, "both have served")
    assert one.stop() == 0
    ask()
    assert other.stop() == 0


def test_clients_do_not_notice_when_another_process_takes_an_inherited_socket_over(serve):
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        fd, port = sock.fileno(), sock.getsockname()[1]
        end, failures, answers = threading.Event(), [], []

        def ask():
            while not end.is_set():
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                try:
                    client.request("GET", "/hello", headers={"Connection": "close"})
                    answers.append(client.getresponse().read())
                except Exception as exc:
                    failures.append(exc)
                finally:
                    client.close()

        old = serve("trouble", bind=f"fd://{fd}", pass_fds=[fd])
        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for _ in range(3):
                new = serve("trouble", bind=f"fd://{fd}", pass_fds=[fd])
                before = len(answers)
                until(lambda before=before: len(answers) > before + 20, "both serve")
                assert old.stop() == 0
                until(lambda before=before: len(answers) > before + 40, "the new one serves")
                old = new
        finally:
            end.set()
            for client in clients:
                client.join()
    assert failures == []
    assert set(answers) == {b"hello\n"}


# ---------------------------------------------------------------------- supervisors


def test_socket_that_systemd_hands_over_is_served(serve, supervisor):
    server = serve(
        "trouble", bind="systemd:web", before=[sys.executable, "-c", LAUNCHER], **supervisor.variables
    )  # fmt: skip
    ready, status = supervisor.hear()
    assert ready == "READY=1"
    assert status == f"STATUS=serving on {server.url}/"
    assert server.stats()["running"]
    server.line(r"listening on http://127\.0\.0\.1:\d+/ \(from systemd\)")
    assert server.stop() == 0
    assert supervisor.hear() == ["STOPPING=1", "STATUS=finishing what is in progress"]


def test_socket_of_systemd_s_that_no_bind_names_is_mentioned(serve):
    server = serve("trouble", before=[sys.executable, "-c", LAUNCHER])
    server.line(r"WARNING .*only bind='systemd:' listens on them")


@needs_curl
@needs_activate
def test_systemd_socket_activate_starts_it_with_the_first_client(tmp_path):
    port = free_port()
    given = command("serve", "--app-dir", str(APPS), "trouble", "--bind", "systemd:web,systemd:local", cwd=tmp_path)
    given["args"] = [
        "systemd-socket-activate", "-E", f"PYTHONPATH={given['env']['PYTHONPATH']}", "--fdname=web:local",
        "-l", f"127.0.0.1:{port}", "-l", str(tmp_path / "s"), *given["args"],
    ]  # fmt: skip
    process = subprocess.Popen(**given, stderr=subprocess.PIPE, text=True)
    try:
        assert re.match(f"Listening on 127.0.0.1:{port} as 3", process.stderr.readline())
        assert "as 4" in process.stderr.readline()
        assert curl(f"http://127.0.0.1:{port}/hello") == "hello\n"
        assert curl("--unix-socket", "s", "http://site/hello", cwd=tmp_path) == "hello\n"
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in log
        assert "unix:" in log
        assert (tmp_path / "s").exists()  # who made it sees to it
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_watchdog_hears_from_a_healthy_server_and_not_from_one_that_is_stuck(serve, supervisor, connect):
    server = serve(
        "trouble", "--threads", "1", "--graceful-timeout", "0.1", **supervisor.variables, WATCHDOG_USEC="200000"
    )
    assert supervisor.hear()[0] == "READY=1"
    for _ in range(3):
        assert supervisor.hear() == ["WATCHDOG=1"]
    stuck = [connect(server), connect(server)]
    for client in stuck:
        client.get("/hold")
    server.line("not well, and the watchdog is not answered: 1 requests wait, and none is finished")
    assert supervisor.is_left_alone(0.5)
    server.signal(signal.SIGUSR1)  # they go on
    assert [client.answer().status for client in stuck] == [200, 200]
    assert supervisor.hear() == ["WATCHDOG=1"]
    assert server.stop() == 0
    supervisor.hear_next("STOPPING=1")


def test_watchdog_of_another_process_is_not_answered(serve, supervisor):
    server = serve("trouble", **supervisor.variables, WATCHDOG_USEC="1000", WATCHDOG_PID="1")
    assert supervisor.hear()[0] == "READY=1"
    assert server.stop() == 0
    assert supervisor.hear()[0] == "STOPPING=1"
