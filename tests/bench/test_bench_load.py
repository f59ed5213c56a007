"""The load generator, against Rocket and against servers that misbehave."""

import contextlib
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from rocket import Server
from rocket.bench.load import Load, LoadError, LoadResult, LoadSpec, environment, run_load
from rocket.errors import ConfigError
from rocket.tls import make_self_signed

SHORT = {"seconds": 0.3, "warmup": 0.0}


def hello(environ, start_response):
    body = environ["wsgi.input"].read() or b"Hello, World!"
    if environ["PATH_INFO"] == "/broken":
        raise ValueError("broken")
    start_response("200 OK", [("Content-Length", str(len(body)))] if environ["PATH_INFO"] != "/chunked" else [])
    return [body, b""]


@pytest.fixture(scope="module")
def port():
    with Server(hello, bind="127.0.0.1:0", max_threads=2) as server:
        yield server.addresses[0][1]


def load(enough=lambda found: found.requests, **how):
    """Return what a short load finds, or a longer one if that was not *enough*: the machine was at something else."""
    for seconds in (0.3, 3.0, 30.0):
        found = run_load(LoadSpec(**{"seconds": seconds, "warmup": 0.0, **how}))
        if enough(found):
            break
    return found


@contextlib.contextmanager
def answering(serve):
    """Call *serve* with each connection, in a thread for all; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def run():
            while True:
                connection, _ = listener.accept()
                if done.is_set():
                    connection.close()
                    return
                with connection:
                    serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        where = listener.getsockname()
        try:
            yield where[1]
        finally:
            done.set()
            socket.create_connection(where).close()
            thread.join()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"connections": 1},
        {"keep_alive": False},
        {"rate": 200.0},
        {"rate": 200.0, "keep_alive": False},
        {"method": "HEAD"},
        {"paths": ("/", "/chunked")},
        {"method": "POST", "body_size": 1_000_000, "connections": 2},
        {"host": "localhost"},
    ],
    ids=str,
)
def test_every_answer_is_counted_once_and_none_is_an_error(port, how):
    found = load(**{"port": port, "connections": 4, **how})
    assert found.errors == {}
    assert found.requests == len(found.latencies) > 0
    assert 0 < found.quantile(0.5) <= found.quantile(0.99) <= found.quantile(1)


@pytest.fixture(scope="module")
def secure_port():
    with Server(hello, bind="127.0.0.1:0", max_threads=2, self_signed=True) as server:
        yield server.addresses[0][1]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"keep_alive": False},
        {"rate": 100.0},
        {"rate": 100.0, "keep_alive": False},
        {"method": "HEAD"},
        {"paths": ("/", "/chunked")},
        {"method": "POST", "body_size": 1_000_000, "connections": 2},
    ],
    ids=str,
)
def test_under_tls_every_answer_is_counted_once_and_none_is_an_error(secure_port, how):
    found = load(**{"port": secure_port, "connections": 4, "tls": True, **how})
    assert found.errors == {}
    assert found.requests == len(found.latencies) > 0
    assert found.tls.startswith("TLSv1.")


@pytest.mark.parametrize("keep_alive", [True, False])
def test_each_connection_is_a_full_handshake(keep_alive):
    reused = []  # of each handshake, as the server sees it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    make_self_signed(context.load_cert_chain)

    def serve(connection):
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            reused.append(secure.session_reused)
            while secure.recv(65536):
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                if not keep_alive:
                    return

    with answering(serve) as port:
        found = run_load(LoadSpec(port=port, connections=1, tls=True, keep_alive=keep_alive, seconds=1.0, warmup=0.0))
    assert found.requests > 1
    assert set(reused) == {False}
    if keep_alive:
        assert len(reused) == 2  # the trial, and the connection
    else:
        assert len(reused) > found.requests


def test_server_without_tls_is_said(port):
    with pytest.raises(LoadError, match=r"no TLS handshake with 127\.0\.0\.1:\d+: "):
        run_load(LoadSpec(port=port, tls=True, **SHORT))


def test_handshake_that_fails_later_is_an_error_and_no_answer():
    """The first connection is the trial; what is cut off after it fails in its handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    make_self_signed(context.load_cert_chain)
    first = []

    def serve(connection):
        if first:
            connection.recv(10)
            return
        first.append(1)
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    with answering(serve) as port:
        found = run_load(LoadSpec(port=port, connections=1, tls=True, seconds=1.0, warmup=0.0))
    assert found.requests == 0
    assert set(found.errors) == {"handshake"}


def test_open_loop_sends_what_is_due(port):
    found = run_load(LoadSpec(port=port, connections=8, rate=200.0, seconds=1.0, warmup=0.0))
    due = 200.0 * found.seconds  # which are more on a machine that is late at the end
    assert found.requests + found.unsent == pytest.approx(due, abs=60)
    assert found.sent + found.unsent == pytest.approx(due, abs=60)
    assert abs(found.sent - found.requests) <= 8  # those on their way at both ends


def test_open_loop_counts_from_when_a_request_was_due():
    def wait_and_answer(connection):
        while connection.recv(65536):
            select.select([], [], [], 0.05)  # s: 20 requests/s at most, and 200 are due
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with answering(wait_and_answer) as port:
        open_loop = run_load(LoadSpec(port=port, connections=1, rate=200.0, seconds=1.0, warmup=0.0))
        closed_loop = run_load(LoadSpec(port=port, connections=1, seconds=1.0, warmup=0.0))
    assert open_loop.unsent > 100
    assert open_loop.quantile(1.0) > 3 * closed_loop.quantile(0.5)


def test_errors_are_counted_by_kind(port):
    found = load(lambda found: found.failed and found.requests, port=port, paths=("/", "/broken"), connections=2)
    assert set(found.errors) == {"status 500"}
    assert found.failed > 0
    assert found.requests > 0


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        (lambda connection: connection.recv(1000), "closed"),
        (lambda connection: connection.recv(1), "reset"),
        (lambda connection: (connection.recv(1000), connection.sendall(b"220 smtp ready\r\n")), "unreadable"),
        (lambda connection: connection.recv(1000) and connection.recv(1000), "timeout"),
    ],
    ids=["closed", "reset", "unreadable", "timeout"],
)
def test_server_that_misbehaves_is_an_error_and_no_answer(serve, kind):
    with answering(serve) as port:
        found = load(lambda found: kind in found.errors, port=port, connections=1, request_timeout=0.1)
    assert found.requests == 0
    assert found.errors[kind] > 0


def test_server_that_ends_meanwhile_gives_connect_errors():
    def end(connection):
        connection.recv(1000)
        listener.close()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: end(listener.accept()[0]))
    thread.start()
    found = run_load(LoadSpec(port=listener.getsockname()[1], connections=1, seconds=1.0, warmup=0.0))
    thread.join()
    assert found.errors["connect"] > 0


def test_nobody_there_is_said():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(LoadError, match=r"cannot connect to 127\.0\.0\.1:\d+ \(connection 1 of 64\)"):
            run_load(LoadSpec(port=sock.getsockname()[1]))


def test_callbacks_come_before_and_after_what_counts(port):
    seen = []
    run_load(LoadSpec(port=port, **SHORT), on_begin=lambda: seen.append("begin"), on_end=lambda: seen.append("end"))
    assert seen == ["begin", "end"]


def test_result_survives_json(port):
    found = load(port=port)
    again = LoadResult.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again.as_dict() == found.as_dict()
    assert again.quantile(0.99) == found.quantile(0.99)


def test_stopped_load_is_gone(port):
    with Load(LoadSpec(port=port, seconds=600.0)) as load:
        load.wait_until("begin")
        pid = load.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_load_ends_when_its_parent_does():
    code = (
        "import sys; from rocket.bench.load import Load, LoadSpec\n"
        "load = Load(LoadSpec(port=int(sys.argv[1]), connections=1, seconds=600.0)); sys.stdin.read()"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        command = [sys.executable, "-c", code, str(listener.getsockname()[1])]
        parent = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment())
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            assert connection.recv(1000)
            parent.kill()
            parent.communicate()
            assert connection.recv(1000) == b""  # the generator is gone


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"port": 0}, "port 0"),
        ({"connections": 0}, "connections"),
        ({"seconds": 0}, "seconds"),
        ({"rate": -1.0}, "rate"),
        ({"warmup": -1}, "warmup"),
        ({"paths": ()}, "paths"),
    ],
    ids=str,
)
def test_load_that_cannot_be_is_refused(wrong, word):
    with pytest.raises(ConfigError, match=word):
        LoadSpec(**{"port": 80, **wrong})


@pytest.mark.parametrize("text", ["", "[]", '{"port": "x"}', '{"port": 80, "speed": 3}', "{}"])
def test_text_that_is_no_load_is_refused_on_the_command_line(text):
    done = subprocess.run(
        [sys.executable, "-m", "rocket.bench.load", text],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_by_hand_it_prints_json(port):
    text = json.dumps({"port": port, "seconds": 1.0, "warmup": 0.0, "headers": [["X-A", "b"]], "paths": ["/a"]})
    done = subprocess.run(
        [sys.executable, "-m", "rocket.bench.load", text], capture_output=True, text=True, env=environment(), check=True
    )
    assert json.loads(done.stdout)["p99"] > 0
