"""System calls that keep the GIL: that they do what the usual ones do, and that they keep it."""

import errno
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from core_helpers import PATIENCE

from rocket import gil
from rocket.connection import Connection
from rocket.gil import SwitchInterval
from rocket.monitors.base import READ
from rocket.monitors.epoll import EpollMonitor

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


def fill(sock):
    """Send until it would wait; return what the last call took. Its peer does not read."""
    sent = 0
    for _ in range(100_000):
        try:
            sent = gil.send(sock, bytes(gil.SEND_BYTES))
        except BlockingIOError:
            return sent
    pytest.fail("it takes everything")


def test_a_full_socket_takes_what_it_can(pair):
    ours, _ = pair
    assert 0 < fill(ours) <= gil.SEND_BYTES


def test_nothing_waits_also_if_somebody_has_made_the_socket_block(pair):
    ours, _ = pair
    os.set_blocking(ours.fileno(), True)
    with pytest.raises(BlockingIOError):
        gil.recv(ours, 10)
    fill(ours)


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


def test_pipes_are_written_and_read():
    reading, writing = os.pipe()
    try:
        gil.write(writing, b"!!")
        assert gil.read(reading, 1) == b"!"
        assert gil.read(reading, 512) == b"!"
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            gil.read(reading, 512)
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


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
def test_files_that_are_mounted_over_proc_are_told_from_the_kernels(monkeypatch, tmp_path):
    """As lxcfs does, a program that may take its time."""
    gil.is_kernels.cache_clear()
    assert gil.is_kernels("/proc/self/cgroup")
    assert gil.is_kernels("/sys/fs/cgroup/cpu.max")
    real = os.stat
    monkeypatch.setattr(
        gil.os, "stat", lambda path, **more: real(tmp_path if path == "/proc/meminfo" else path, **more)
    )
    assert not gil.is_kernels("/proc/meminfo")
    assert not gil.is_kernels("/proc/no/such/file")


def test_a_shortage_is_not_taken_for_a_system_without_the_calls(monkeypatch):
    def short(*_):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(gil, "_works", None)
    with monkeypatch.context() as shortage:
        shortage.setattr(gil.socket, "socketpair", short)
        assert not gil.prepare()
    assert gil.prepare()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_system_that_lacks_a_call_is_left_alone(monkeypatch, number):
    def missing(*_):
        raise OSError(number, "no such call")

    monkeypatch.setattr(gil, "_works", None)
    monkeypatch.setattr(gil.Acceptor, "__call__", missing)
    assert not gil.prepare()
    monkeypatch.undo()
    assert gil.prepare()


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


@pytest.mark.skipif(not gil.HAS_ACCEPT4, reason="no accept4 here")
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
                assert sock.gettimeout() == 0
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


closing = []  # monitors of the test


@pytest.fixture(autouse=True)
def close_monitors():
    yield
    while closing:
        closing.pop().close()


@pytest.fixture(autouse=True)
def forget_files():
    yield
    gil.is_kernels.cache_clear()


def keeping_connection(ours, theirs):
    connection = Connection(ours)
    connection.keeps_gil = True
    monitor = EpollMonitor()
    monitor.keep_gil(True)

    def use():
        theirs_too.write(b"x")
        monitor.arm(connection.fd, READ)
        assert [fd for fd, _ in monitor.poll(0)] == [connection.fd]
        assert connection.fill()
        connection.buffer = b""
        monitor.wakeup()
        assert monitor.poll(0) == []

    closing.append(monitor)
    theirs.setblocking(False)
    theirs_too = Connection(theirs)
    theirs_too.keeps_gil = True
    return use


def calls(ours, theirs):
    def use():
        gil.send(theirs, b"x")
        gil.recv(ours, 10)

    return use


@epoll_only
@pytest.mark.skipif(not gil.gil_enabled(), reason="there is no GIL")
@pytest.mark.parametrize("make", [calls, keeping_connection])
def test_the_gil_is_kept(pair, make):
    """With a switch interval of 100 s a thread that wants the GIL gets it only if it is let go."""
    ours, theirs = pair
    ran = threading.Event()
    use = make(ours, theirs)
    use()  # what is made when it is first needed
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
            use()
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
    interval.shorten(0.001, 0.001)
    assert sys.getswitchinterval() == pytest.approx(0.001)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_the_shortest_switch_interval_that_is_wanted_holds(interval):
    interval.shorten(0.002, 0.002)
    interval.shorten(0.001, 0.001)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.002)
    interval.shorten(0.5, 0.5)
    assert sys.getswitchinterval() == pytest.approx(0.002)
    interval.restore(0.002)
    assert sys.getswitchinterval() == pytest.approx(0.005)
    interval.restore(0.5)
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_switch_interval_that_somebody_else_sets_stays(interval):
    interval.shorten(0.001, 0.001)
    sys.setswitchinterval(0.02)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.02)
    interval.shorten(0.001, 0.001)
    interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.02)


@pytest.mark.parametrize("usual", [0.005, 0.000493, 0.002005, 0.05, 1.0])
def test_any_switch_interval_is_restored(interval, usual):
    """CPython cuts off what is less than a microsecond."""
    sys.setswitchinterval(usual)
    usual = sys.getswitchinterval()
    for wanted in (0.000493, 0.000498, 0.001, 0.002005):
        interval.shorten(wanted, wanted)
        assert sys.getswitchinterval() == pytest.approx(min(wanted, usual), abs=1.5e-6)
        interval.restore(wanted)
        assert sys.getswitchinterval() == usual


def test_child_has_the_usual_switch_interval(interval):
    """Whoever has shortened it is not there any more; and it may shorten it itself."""
    interval.shorten(0.001, 0.001)
    with interval._lock:  # by another thread, just then
        interval.abandon()
    assert sys.getswitchinterval() == pytest.approx(0.005)
    interval.shorten(0.002, 0.002)
    assert sys.getswitchinterval() == pytest.approx(0.002)
    interval.restore(0.002)
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_a_process_that_is_forked_meanwhile_has_the_usual_one():
    code = """
import os, sys
from rocket.gil import SWITCH_INTERVAL
sys.setswitchinterval(0.004)
SWITCH_INTERVAL.shorten("me", 0.001)
child = os.fork()
if not child:
    os._exit(0 if abs(sys.getswitchinterval() - 0.004) < 2e-6 else 7)
assert os.waitpid(child, 0)[1] == 0, "the child"
assert abs(sys.getswitchinterval() - 0.001) < 2e-6, "the parent"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def test_to_want_it_twice_and_not_at_all_is_no_mistake(interval):
    interval.shorten("me", 0.001)
    interval.shorten("me", 0.001)
    interval.restore("me")
    assert sys.getswitchinterval() == pytest.approx(0.005)
    interval.restore("me")
