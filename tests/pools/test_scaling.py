"""Policies and bounds of a running server, exchanged."""

import socket
import threading

import pytest
from core_helpers import PATIENCE, until

from rocket import Server
from rocket.errors import ConfigError
from rocket.pools import AdaptivePolicy, FixedPolicy


def hello(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


@pytest.fixture
def serve():
    servers = []

    def make(app=hello, **options):
        server = Server(app, bind="127.0.0.1:0", **options)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


def ask(server):
    with socket.create_connection(server.addresses[0], PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return answer.partition(b"\r\n\r\n")[2]


def test_policy_of_an_idle_server_is_exchanged(serve):
    server = serve(scaling="queue", min_threads=1, max_threads=8)
    server.scaling = "fixed:5"
    until(lambda: server.stats["goal"] == server.stats["threads"] == 5)
    assert isinstance(server.scaling, FixedPolicy)
    assert server.stats["policy"] == "FixedPolicy"
    assert ask(server) == b"hello"


def test_policy_is_kept_for_the_next_start(serve):
    server = serve(scaling="queue", min_threads=1, max_threads=8)
    server.stop()
    server.scaling = "fixed:3"
    server.resize(1, 4)
    server.start()
    until(lambda: server.stats["threads"] == 3)
    assert server.stats["max_threads"] == server.config.max_threads == 4


def test_policy_that_there_is_not_changes_nothing(serve):
    server = serve(scaling="queue")
    before = server.scaling
    with pytest.raises(ConfigError, match="did you mean 'adaptive'"):
        server.scaling = "adaptve"
    assert server.scaling is before


def test_bounds_of_an_idle_server_are_changed(serve):
    server = serve(scaling="queue", min_threads=1, max_threads=8)
    server.resize(4, 6)
    until(lambda: server.stats["threads"] == 4)
    server.resize(1, 2)
    until(lambda: server.stats["goal"] <= 2)
    assert ask(server) == b"hello"


def test_bounds_may_be_texts_as_everywhere(serve):
    server = serve(scaling="queue", min_threads=1, max_threads=8)
    server.resize("2", "4")
    until(lambda: server.stats["threads"] == 2)
    assert (server.stats["max_threads"], server.config.max_threads) == (4, 4)


def test_bounds_that_contradict_each_other_change_nothing(serve):
    server = serve(min_threads=1, max_threads=8)
    with pytest.raises(ConfigError, match="max_threads"):
        server.resize(9, 3)
    assert server.stats["max_threads"] == 8


def test_stats_tell_what_the_policy_was_told(serve):
    server = serve(scaling="adaptive", min_threads=1)
    server.scaling = AdaptivePolicy()  # is asked at once
    until(lambda: server.stats["readings"])
    readings = server.stats["readings"]
    assert readings["goal"] == 1
    assert 0 < readings["cpus"] <= 4096
    assert isinstance(server.stats["reason"], str)


def test_policy_that_sleeps_leaves_serving_alone(serve):
    """All workers are stuck, so it is the controller who has to let a new one go on."""
    asked, go_on, release = threading.Event(), threading.Event(), threading.Event()

    class Sleeper:
        interval = pulse = 0.001

        def target(self, readings):
            asked.set()
            assert go_on.wait(PATIENCE)
            return 4

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/stuck":
            assert release.wait(PATIENCE)
        return hello(environ, start_response)

    server = serve(app, scaling="fixed", min_threads=3, max_threads=3)
    server.scaling = Sleeper()
    with socket.create_connection(server.addresses[0], PATIENCE) as sock:
        sock.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asked.wait(PATIENCE)
        until(lambda: server.stats["busy"] == 1)
        assert [ask(server) for _ in range(5)] == [b"hello"] * 5
        release.set()
        go_on.set()


def test_hooks_are_passed_on(serve):
    begun, ended = [], []
    server = serve(
        min_threads=2, max_threads=2, on_thread_start=lambda: begun.append(1), on_thread_exit=lambda: ended.append(1)
    )
    until(lambda: len(begun) == 2)
    assert ask(server) == b"hello"
    server.stop()
    assert len(ended) == 2


def test_hook_must_be_callable():
    with pytest.raises(ConfigError, match="on_thread_exit must be something that can be called, not 3"):
        Server(hello, on_thread_exit=3)
