"""Peers that send slowly, or take nothing: they hold no thread, and are cut in time."""

import socket
import time

import pytest
from faults_client import GET, HEAD, Crowd, Normal, ask, connect, read_all, request, reset
from faults_server import MB, until

slow = pytest.mark.slow


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=slow)])
def test_slow_heads_delay_nobody_and_are_cut_in_time(serve, count):
    timeout = 4 if count < 1000 else 10
    server = serve("--threads", "8", "--head-timeout", str(timeout))
    with Crowd(server.address, count, first=HEAD + b"X-Slow: ", more=b"x") as crowd, Normal(server.address) as normal:
        assert crowd.wait(timeout + 10)
    assert normal.share_within(0.25) >= 0.99
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in crowd.answers)
    # With the lingering close, which may wait for the peer.
    assert timeout - 1 <= min(crowd.ages)
    print("ages", min(crowd.ages), max(crowd.ages), "p99", normal.percentile(0.99), len(normal.times))


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=slow)])
def test_slow_bodies_delay_nobody(serve, count):
    server = serve("--threads", "8")
    head = request("/upload", "Content-Length: 100000", method="POST")
    with Crowd(server.address, count, first=head, more=b"x") as crowd, Normal(server.address) as normal:
        assert crowd.wait(20)
    assert normal.share_within(0.25) >= 0.99
    print("ages", min(crowd.ages), max(crowd.ages), "p99", normal.percentile(0.99), len(normal.times), set(crowd.answers))
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in crowd.answers)


@pytest.mark.parametrize("mb", [8])
def test_clients_that_never_read(serve, mb):
    server = serve("--threads", "8", "--write-timeout", "3")
    server.warm_up()
    before = server.rss, server.fds
    with Normal(server.address) as normal:
        with Crowd(server.address, 40, first=request("/big?mb=8"), receive_buffer=4096, reads=False) as crowd:
            until(lambda: server.state()["begun"] == 40, "all answers have begun")
            print("rss", (server.rss - before[0]) / MB)
            until(lambda: server.state()["closed"] == 40, "all iterators are closed")
            t = time.monotonic()
            until(lambda: server.fds <= before[1] + 2, "descriptors back")
            print("back after", time.monotonic() - t)
    print("max", max(normal.times))
    assert max(normal.times) < 1
