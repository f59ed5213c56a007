"""Peers that send slowly, vanish half-way, or take nothing: they hold no thread, and are cut in time."""

import time

import pytest
from e2e_client import Client
from e2e_server import until
from faults_client import GET, HALF, PATIENCE, Crowd, Normal, allowed, ask, read_all, request, tell
from faults_server import ESTABLISHED, LISTEN, MB, tcp_states

POST = request("/upload", "Content-Length: 100000", method="POST")
CHUNKED = request("/upload", "Transfer-Encoding: chunked", method="POST") + b"ff\r\n"


@pytest.mark.parametrize(("count", "timeout"), [(200, 3), pytest.param(1000, 10, marks=pytest.mark.slow)])
def test_slow_heads_delay_nobody_and_are_cut_in_time(serve, count, timeout):
    server = serve("--threads", "8", "--head-timeout", str(timeout))
    with Normal(server.address) as normal, Crowd(server.address, count, first=HALF + b"Slow: ", more=b"x") as crowd:
        assert crowd.wait()
    assert normal.at(0.99) < allowed(0.25)
    assert timeout - 1 < min(crowd.ages) <= max(crowd.ages) < allowed(timeout + 1)
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in crowd.answers)


@pytest.mark.parametrize(
    ("first", "more"),
    [(HALF + b"Slow: ", b"x"), (POST + b"x", b""), (CHUNKED + b"x", b""), (request("/big?mb=8"), b"")],
    ids=["heads", "bodies", "chunks", "readers"],
)
def test_as_many_slow_peers_as_there_may_be_connections_shut_nobody_out(serve, first, more):
    server = serve(
        *("--threads", "2", "--max-connections", "20", "--head-timeout", "600", "--body-timeout", "600"),
        *("--min-body-rate", "0", "--write-timeout", "600"),
    )
    with Crowd(server.address, 60, first=first, more=more, reads=more != b"", receive_buffer=4096):
        assert [ask(server.address).status for _ in range(5)] == 5 * [200]


@pytest.mark.parametrize("first", [POST + b"x", CHUNKED + b"x"], ids=["length", "chunked"])
def test_silent_bodies_are_cut_as_early_as_slow_ones(serve, first):
    """min_body_rate counts those that send nothing, too: 240 bytes a second, after 5 s of grace."""
    server = serve("--threads", "8", "--body-timeout", "600")
    with Crowd(server.address, 50, first=first) as crowd:
        assert crowd.wait()
    assert max(crowd.ages) < allowed(10)
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in crowd.answers)


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (POST, 200),
        pytest.param(POST, 1000, marks=pytest.mark.slow),
        pytest.param(CHUNKED, 1000, marks=pytest.mark.slow),
    ],
    ids=["length-200", "length-1000", "chunked-1000"],
)
def test_slow_bodies_delay_nobody_and_are_cut(serve, first, count):
    server = serve("--threads", "8")
    server.warm_up()
    rss = server.rss
    with Normal(server.address) as normal, Crowd(server.address, count, first=first, more=b"x") as crowd:
        assert crowd.wait()
        grown = server.rss - rss
    assert normal.at(0.99) < allowed(0.25)
    assert grown / count < 64 << 10
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in crowd.answers)


@pytest.mark.parametrize("first", [b"", b"G", HALF, POST, CHUNKED], ids=["silent", "byte", "head", "length", "chunk"])
def test_silent_clients_as_many_as_threads_and_more_do_not_delay_the_next(serve, first):
    server = serve("--threads", "4", "--no-defer-accept")
    with Crowd(server.address, 12, first=first), Normal(server.address) as normal:
        until(lambda: len(normal.times) > 20, "a normal client is served")
    assert normal.at(0.9) < allowed(0.5)


def test_three_requests_in_one_segment_get_three_answers(serve):
    client = tell(serve("--threads", "1").address, 3 * GET)
    assert [client.answer().body for _ in range(3)] == 3 * [b"hello\n"]
    client.close()


@pytest.mark.parametrize("timeout", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_clients_that_never_read_hold_neither_threads_nor_memory_and_are_reset(serve, timeout):
    server = serve("--threads", "8", "--write-timeout", str(timeout))
    server.warm_up()
    before, rss = server.holds(), server.rss
    with Normal(server.address) as normal:
        with Crowd(server.address, 40, first=request("/big?mb=8"), receive_buffer=4096, reads=False):
            until(lambda: server.state()["begun"] == 40, "all answers have begun")
            assert server.rss - rss < 150 * MB
            until(lambda: server.state()["closed"] == 40, "all iterators are closed")
            until(lambda: server.fds <= before[1] + 2, "descriptors are back", 1.25 * timeout + PATIENCE)
            # Else the kernel keeps what was not taken, some megabytes each, for minutes.
            until(lambda: set(tcp_states(server.address[1])) <= {ESTABLISHED, LISTEN, "06"}, "reset")
        until(lambda: len(normal.times) > 50, "a normal client is served")
    assert max(normal.times) < allowed(1)
    server.recovers(before)


def test_a_slow_reader_that_makes_progress_is_not_cut(serve):
    server = serve("--threads", "2", "--write-timeout", "1")
    for _ in range(20):
        with Client(server.address, receive_buffer=65536) as client:
            client.get("/big?mb=16", "GET", "Connection: close")
            taken = 0
            began, longest = time.monotonic(), 0.0
            for _ in range(60):  # 400 kB/s: less than what makes a full send buffer writable again, in a second
                taken += len(client.file.read(20000))
                time.sleep(0.05)
                began, longest = (now := time.monotonic()), max(longest, now - began)
            if longest > 0.3:
                continue  # the machine held us up: we were no reader that makes progress
            assert taken + len(client.rest()) > 16 * MB
            return
    pytest.skip("this machine holds a reader up for 0.3 s all the time")


@pytest.mark.parametrize("count", [200, pytest.param(500, marks=pytest.mark.slow)])
def test_clients_that_vanish_in_the_middle_leave_nothing_behind(serve, count):
    server = serve("--threads", "4")
    server.warm_up()
    before = server.holds()
    rss = []
    for _ in range(3):
        for _ in range(count):
            for half in (HALF, POST):
                tell(server.address, half).close()
            client = tell(server.address, request("/big"))
            client.file.read(1)
            client.reset()
        server.recovers(before)
        server.has_closed_all_answers()
        assert server.state()["bodies"] == 0
        rss.append(server.rss)
    assert rss[-1] - rss[0] < 2 * MB, rss


@pytest.mark.parametrize("first", [POST + b"x" * 99999, CHUNKED + b"x" * 255], ids=["length", "chunked"])
def test_a_body_that_was_cut_never_reaches_the_application_as_a_whole_one(serve, first):
    server = serve("--threads", "2")
    server.warm_up()
    before = server.holds()
    for _ in range(20):
        tell(server.address, first).close()
        tell(server.address, first).reset()
    server.recovers(before)
    assert server.state()["bodies"] == 0


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("/upload", "Host: other", "Content-Length: 99999999", method="POST"), 400),
        (request("/upload", "Content-Length: 99999999999", method="POST"), 413),
        (request("/" + "x" * 9000, method="POST"), 414),
        (request("/", "Long: " + "x" * 9000, method="POST"), 431),
    ],
    ids=str,
)
def test_an_early_refusal_arrives_though_the_client_is_still_sending(serve, head, status):
    server = serve("--threads", "2")
    for _ in range(100):
        with tell(server.address, head) as client:
            for _ in range(10):
                try:
                    client.send(b"x" * 16384)
                except OSError:
                    break
            assert int(read_all(client).split()[1]) == status


def test_the_answer_of_an_application_that_ignores_the_body_arrives(serve):
    server = serve("--threads", "2", "--stream")
    for _ in range(100):
        with tell(server.address, request("/ignore", "Content-Length: 10000000", method="POST")) as client:
            for _ in range(10):
                try:
                    client.send(b"x" * 16384)
                except OSError:
                    break
            assert client.answer().body == b"ignored\n"
    assert ask(server.address).status == 200
