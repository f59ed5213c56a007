"""System calls that keep the GIL: that they do what the usual ones do, and that they keep it."""

import errno
import os
import select
import socket
import sys
import threading
from pathlib import Path

import pytest
from core_helpers import PATIENCE

from rocket import gil
from rocket.gil import SwitchInterval

pytestmark = pytest.mark.skipif(not gil.prepare(), reason="ctypes, or the C library's calls, are not to be had here")

epoll_only = pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll")


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_what_is_sent_is_received(pair):
    ours, theirs = pair
    assert gil.send(theirs, b"a\0b") == 3
    assert gil.recv(ours, 65536) == b"a\0b"


def test_no_more_is_received_than_was_asked_for(pair):
    ours, theirs = pair
    theirs.sendall(b"abcdef")
    assert gil.recv(ours, 4) == b"abcd"
    assert gil.recv(ours, 4) == b"ef"


def test_end_of_the_stream_is_no_bytes(pair):
    ours, theirs = pair
    theirs.close()
    assert gil.recv(ours, 10) == b""


def test_errors_are_those_of_sockets(pair):
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        gil.recv(ours, 10)
    theirs.close()
    with pytest.raises(BrokenPipeError):
        gil.send(ours, b"x")
    ours.close()
    for call in (lambda: gil.recv(ours, 10), lambda: gil.send(ours, b"x")):
        with pytest.raises(OSError) as failure:  # noqa: PT011 (its number is looked at)
            call()
        assert failure.value.errno == errno.EBADF


def test_a_full_socket_takes_what_it_can(pair):
    ours, _ = pair
    sent = 1
    try:
        while sent:
            sent = gil.send(ours, bytes(gil.SEND_BYTES))
            assert 0 < sent <= gil.SEND_BYTES
    except BlockingIOError:
        sent = 0
    assert not sent


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc"), b"abc" * gil.SEND_BYTES])
def test_what_is_not_short_bytes_goes_the_usual_way(pair, data):
    ours, theirs = pair
    theirs.settimeout(PATIENCE)
    sent = gil.send(ours, data)
    assert sent > 0
    assert theirs.recv(3) == b"abc"


def test_close_closes_once(pair):
    ours, theirs = pair
    fd = ours.fileno()
    gil.close(ours)
    assert ours.fileno() == -1
    with pytest.raises(OSError):  # noqa: PT011 (EBADF: nobody else opens files here)
        os.fstat(fd)
    gil.close(ours)
    assert theirs.recv(1) == b""


def test_threads_that_receive_at_the_same_time_do_not_mix_what_they_get(hasty_threads):
    """The memory that is received in is used again: a switch may come before it is copied."""
    wrong = []

    def run(byte):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for size in range(1, 300):
                gil.send(theirs, byte * size)
                data = gil.recv(ours, 65536)
                if data != byte * size:
                    wrong.append((byte, size, data))

    threads = [threading.Thread(target=run, args=(bytes([65 + i]),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong


def test_write_fills_a_pipe():
    reading, writing = os.pipe()
    try:
        gil.write(writing, b"!")
        assert os.read(reading, 10) == b"!"
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            gil.write(writing, b"!")
    finally:
        os.close(writing)


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="no /proc")
def test_text_of_proc_is_read():
    assert "MemTotal" in gil.read_text("/proc/meminfo")
    assert gil.read_text("/proc/self/cgroup") == Path("/proc/self/cgroup").read_text()
    assert gil.read_text("/proc/no/such/file") == ""
    assert gil.read_text("/proc") == ""


# ---------------------------------------------------------------------- accept

LISTENERS = {"tcp": (socket.AF_INET, ("127.0.0.1", 0)), "tcp6": (socket.AF_INET6, ("::1", 0)), "unix": (None, None)}


@pytest.fixture(params=LISTENERS)
def listening(request, tmp_path):
    family, address = LISTENERS[request.param]
    listener = socket.socket(family or socket.AF_UNIX)
    with listener:
        try:
            listener.bind(address or str(tmp_path / "socket"))
        except OSError as exc:
            pytest.skip(f"no {request.param} here: {exc}")
        listener.listen()
        listener.setblocking(False)
        yield listener


@pytest.mark.skipif(not gil.accepts(), reason="no accept4 here")
class TestAcceptor:
    def test_accepts_as_the_socket_does(self, listening):
        accept = gil.Acceptor(listening)
        with pytest.raises(BlockingIOError):
            accept()
        with socket.socket(listening.family) as client:
            client.connect(listening.getsockname())
            sock, peer = accept()
            with sock:
                assert peer == client.getsockname()[:2] or not peer
                assert not os.get_inheritable(sock.fileno())
                with pytest.raises(BlockingIOError):
                    sock.recv(10)
                client.sendall(b"hello")
                assert sock.family == client.family
                assert select.select([sock], [], [], PATIENCE)[0]
                assert sock.recv(10) == b"hello"

    def test_socket_does_not_wait_whatever_the_default_is(self, listening):
        accept = gil.Acceptor(listening)
        before = socket.getdefaulttimeout()
        with socket.socket(listening.family) as client:
            client.connect(listening.getsockname())
            socket.setdefaulttimeout(PATIENCE)
            try:
                sock, _ = accept()
            finally:
                socket.setdefaulttimeout(before)
        with sock:
            assert sock.gettimeout() == 0


# ---------------------------------------------------------------------- epoll


@epoll_only
def test_epoll_finds_what_is_ready(pair):
    ours, theirs = pair
    with select.epoll() as usual:
        epoll = gil.Epoll(usual)
        epoll.register(ours.fileno(), select.EPOLLIN)
        assert epoll.look() == []
        theirs.send(b"x")
        assert epoll.look() == usual.poll(0) == [(ours.fileno(), select.EPOLLIN)]
        epoll.modify(ours.fileno(), select.EPOLLIN | select.EPOLLOUT)
        assert epoll.look() == usual.poll(0) == [(ours.fileno(), select.EPOLLIN | select.EPOLLOUT)]
        epoll.unregister(ours.fileno())
        assert epoll.look() == usual.poll(0) == []


@epoll_only
def test_errors_are_those_of_epoll(pair):
    ours, _ = pair
    with select.epoll() as usual:
        epoll = gil.Epoll(usual)
        with pytest.raises(FileNotFoundError):
            epoll.modify(ours.fileno(), select.EPOLLIN)
        epoll.register(ours.fileno(), select.EPOLLIN)
        with pytest.raises(FileExistsError):
            epoll.register(ours.fileno(), select.EPOLLIN)
        usual.close()
        with pytest.raises(ValueError, match="closed"):
            epoll.look()


@epoll_only
def test_epoll_finds_many():
    with select.epoll() as usual:
        epoll = gil.Epoll(usual)
        pairs = [socket.socketpair() for _ in range(100)]
        try:
            for ours, _ in pairs:
                epoll.register(ours.fileno(), select.EPOLLOUT)
            assert sorted(epoll.look()) == sorted((ours.fileno(), select.EPOLLOUT) for ours, _ in pairs)
        finally:
            for each in pairs:
                for sock in each:
                    sock.close()


# ---------------------------------------------------------------------- the GIL


@pytest.mark.skipif(not gil.gil_enabled(), reason="there is no GIL")
def test_the_gil_is_kept(pair):
    """With a switch interval of 100 s a thread that wants the GIL gets it only if it is let go."""
    ours, theirs = pair
    ran = threading.Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        thread = threading.Thread(target=ran.set)
        thread.start()  # which waits for its beginning, and lets the GIL go for that
        thread.join()
        ran.clear()
        gate = threading.Lock()
        gate.acquire()
        waiter = threading.Thread(target=lambda: (gate.acquire(), ran.set()))
        waiter.start()
        gate.release()  # from here on it wants the GIL
        for _ in range(1000):
            gil.send(theirs, b"x")
            gil.recv(ours, 10)
            assert not ran.is_set()
        theirs.send(b"x")  # the usual call lets it go
        waiter.join()
        assert ran.is_set()
    finally:
        sys.setswitchinterval(before)


# ---------------------------------------------------------------------- the switch interval


@pytest.fixture
def interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield SwitchInterval()
    sys.setswitchinterval(before)


def test_switch_interval_is_restored(interval):
    interval.shorten(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.001)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_the_shortest_switch_interval_that_is_wanted_holds(interval):
    interval.shorten(0.002)
    interval.shorten(0.001)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.002)
    interval.shorten(0.5)
    assert sys.getswitchinterval() == pytest.approx(0.002)
    interval.restore(0.002)
    assert sys.getswitchinterval() == pytest.approx(0.005)
    interval.restore(0.5)
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_switch_interval_that_somebody_else_sets_stays(interval):
    interval.shorten(0.001)
    sys.setswitchinterval(0.02)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.02)
    interval.shorten(0.001)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.02)
