"""How it ends: signals, requests in flight, and what an operator reads."""

import signal

import pytest

from rocket.bench.processes import free_port

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def holding(serve, connect):
    """Start a server and a request whose handler blocks until SIGUSR1; return both."""

    def start(*arguments):
        server = serve("trouble", "--threads", "2", *arguments)
        client = connect(server)
        client.get("/hold")
        server.line("^holding$")
        return server, client

    return start


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_server_stops_at_once(serve, connect, number):
    server = serve()
    idle = connect(server)
    assert idle.ask("/hello").status == 200
    server.signal(number)
    assert idle.rest() == b""  # not a reset
    assert server.wait() == 0
    assert server.log.endswith("stopped")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_the_request_in_flight_finish(holding, connect, number):
    server, client = holding()
    idle = connect(server)
    assert idle.ask("/hello").status == 200
    server.signal(number)
    server.line("finishing what is in progress")
    assert idle.rest() == b""
    with pytest.raises(OSError, match="refused"):
        connect(server)
    server.signal(signal.SIGUSR1)
    answer = client.answer()
    assert (answer.status, answer.body, client.rest()) == (200, b"hello\n", b"")
    assert server.wait() == 0
    assert "cut off" not in server.log


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_stops_now_and_names_what_was_cut_off(holding, number):
    server, client = holding("--graceful-timeout", "600")
    server.signal(number)
    server.line("finishing what is in progress")
    server.signal(number)
    assert server.wait() == 0
    assert client.rest() == b""
    assert server.log.count("cut off: rocket-worker-") == 1
    assert "in hold" in server.log  # its stack


def test_two_signals_at_once_stop_now(holding):
    server, client = holding("--graceful-timeout", "600")
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert client.rest() == b""


def test_the_patience_of_the_first_signal_ends(holding):
    server, client = holding("--graceful-timeout", "0.1")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert client.rest() == b""
    assert "in hold" in server.log


def test_a_slow_reader_gets_the_rest_of_its_answer(serve, connect, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"rocket" * 2_000_000)
    server = serve("trouble", "--graceful-timeout", "20", E2E_FILE=str(path))
    client = connect(server, receive_buffer=65536)
    client.get("/file")
    assert client.file.peek(1)
    server.signal(signal.SIGTERM)
    server.line("finishing what is in progress")
    assert client.answer().body == path.read_bytes()
    assert server.wait() == 0


def test_the_port_is_free_again_at_once(serve, connect):
    bind = f"127.0.0.1:{free_port()}"
    first = serve("trouble", bind=bind)
    client = connect(first)
    assert client.ask("/hello").status == 200
    first.signal(signal.SIGTERM)  # it closes first, so that its side is in TIME_WAIT
    assert first.wait() == 0
    second = serve("trouble", bind=bind)
    assert connect(second).ask("/hello").status == 200
