"""Slow readers of large files: they hold no thread, no memory, and no descriptor when they have gone."""

import os

import psutil
import pytest
from e2e_client import Client
from e2e_server import ServerProcess, until
from faults_client import Crowd, Normal, allowed, ask, request

GB, MB = 1 << 30, 1 << 20


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "hello").write_bytes(b"hello\n")
    with (tmp_path / "www" / "large").open("wb") as file:
        file.truncate(GB)  # sparse: it takes no room on the disk
    return tmp_path / "www"


@pytest.fixture
def serve(folder, tmp_path):
    """Start `rocket files` on the folder. It must end well, and without a traceback."""
    started = []

    def start(*arguments):
        started.append(ServerProcess(*arguments, cwd=tmp_path, files=folder))
        return started[-1]

    yield start
    for server in started:
        server.check()


def accepted(server):
    """How many connections it has accepted. Its descriptors do not tell: files are closed meanwhile."""
    return sum(each.status == psutil.CONN_ESTABLISHED for each in server.handle.net_connections("tcp"))


@pytest.mark.parametrize("threads", ["1", "4"])
def test_ten_slow_readers_of_a_gigabyte_hold_no_thread(serve, threads):
    server = serve("--threads", threads)
    ask(server.address)
    before, rss = server.holds(), server.handle.memory_info().rss
    with Crowd(server.address, 10, first=request("/large"), receive_buffer=4096, reads=False):
        until(lambda: accepted(server) >= 10, "all have connected")
        with Normal(server.address) as normal:
            until(lambda: len(normal.times) > 50, "a normal client is served")
        assert max(normal.times) < allowed(1)
        server.rest()  # nobody is at anything
        assert server.holds()[0] == before[0]
        assert server.handle.memory_info().rss - rss < 5 * MB
        # One that does read gets all of it meanwhile.
        with Client(server.address) as reader:
            reader.get("/large", "GET", "Connection: close")
            count = 0
            while data := reader.sock.recv(MB):
                count += len(data)
        assert GB < count < GB + 1000
    server.settle((before[0], before[1] + 2))
    assert ask(server.address).status == 200


def test_readers_that_take_nothing_are_cut_and_leave_nothing_behind(serve):
    server = serve("--threads", "2", "--write-timeout", "1")
    ask(server.address)
    before = server.holds()
    clients = [Client(server.address, receive_buffer=4096) for _ in range(10)]
    for client in clients:
        client.get("/large")
    for client in clients:
        assert b"200 OK" in client.file.readline()  # and no more
    until(lambda: server.handle.num_fds() <= before[1] + 2, "all are cut")
    for client in clients:
        client.close()
    assert ask(server.address).status == 200


def test_a_file_that_shrinks_below_its_readers_cuts_them_and_nobody_else(serve, folder):
    server = serve("--threads", "2")
    readers = [Client(server.address, receive_buffer=4096) for _ in range(5)]
    for reader in readers:
        reader.get("/large")
        assert b"200 OK" in reader.file.readline()
    os.truncate(folder / "large", 1000)
    for reader in readers:
        with reader:
            assert len(reader.rest()) < 64 * MB
    server.line("a file that is being sent has become shorter")
    assert ask(server.address).status == 200
    assert len(ask(server.address, "/large").body) == 1000


def test_more_slow_readers_than_descriptors_do_not_stop_the_others(serve, folder):
    """Each download of a file of its own costs a descriptor; when there are none left, it is told to come again."""
    for number in range(60):
        with (folder / f"large{number}").open("wb") as file:
            file.truncate(GB)
    server = serve("--threads", "2")
    server.handle.rlimit(psutil.RLIMIT_NOFILE, (100, 100))
    clients = [Client(server.address, receive_buffer=4096) for _ in range(60)]
    statuses = []
    try:
        for number, client in enumerate(clients):
            client.get(f"/large{number}")
        for client in clients[:30]:
            statuses.append(int(client.file.readline().split()[1]))
    finally:
        for client in clients:
            client.close()
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    server.expects_errors = True

    def serves():
        try:
            return ask(server.address).status == 200
        except (OSError, EOFError):
            return False  # its descriptors are not back yet

    until(serves, "it serves")
