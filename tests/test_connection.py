"""Connections: what is read, what is kept of what the peer does not take, and in which order it goes."""

import errno
import os
import random
import socket
import struct
import sys
import tempfile
from contextlib import contextmanager

import pytest
from core_helpers import PATIENCE, Miser, fill_file, thread, until
from hypothesis import given, settings
from hypothesis import strategies as st

from rocket import connection as connection_module
from rocket.connection import Connection, until_look
from rocket.errors import ConnectionLost, WriteTimeout


class Broken(Miser):
    def send(self, data):
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    sendmsg = send

    def recv(self, size):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def receive_all(sock):
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


@pytest.fixture
def tcp_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), timeout=20)
        ours, _ = listener.accept()
    ours.setblocking(False)
    connection = Connection(ours)
    with theirs:
        yield connection, theirs
    connection.close()


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as file:
        yield file


# ---------------------------------------------------------------------- reading


def test_fill_tells_whether_something_came(make_connection):
    connection, peer = make_connection()
    assert not connection.fill()
    peer.send(b"abc")
    assert connection.fill()
    peer.send(b"def")
    assert connection.fill()
    assert connection.buffer == b"abcdef"
    assert not connection.eof


def test_fill_finds_the_end(make_connection):
    connection, peer = make_connection()
    peer.close()
    assert not connection.fill()
    assert connection.eof


def test_read_waits_for_the_whole(make_connection):
    connection, peer = make_connection()
    peer.send(b"abc")
    assert connection.read(5) is None
    peer.send(b"defg")
    assert connection.read(5) == b"abcde"
    assert connection.read(2) == b"fg"
    assert connection.read(1) is None
    peer.send(b"x")
    peer.close()
    assert connection.read(3) == b"x"
    assert connection.read(3) == b""


def test_read_of_all_that_has_come(make_connection):
    connection, peer = make_connection()
    assert connection.read() is None
    peer.send(b"abc")
    assert connection.read() == b"abc"
    peer.close()
    assert connection.read() == b""


def test_readline_returns_lines(make_connection):
    connection, peer = make_connection()
    peer.send(b"one\ntw")
    assert connection.readline() == b"one\n"
    assert connection.readline() is None
    peer.send(b"o\nthree")
    peer.close()
    assert connection.readline() == b"two\n"
    assert connection.readline() == b"three"
    assert connection.readline() == b""


def test_readline_stops_at_the_limit(make_connection):
    connection, peer = make_connection()
    peer.send(b"abcdefgh\n")
    assert connection.readline(4) == b"abcd"
    assert connection.readline(4) == b"efgh"
    assert connection.readline(4) == b"\n"


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60)), limit=st.integers(1, 20))
def test_lines_do_not_depend_on_how_they_arrive(data, cuts, limit):
    data = data.replace(b"\x00", b"\n")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        connection = Connection(ours)
        lines = []
        edges = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
        for start, end in zip(edges, edges[1:]):
            theirs.send(data[start:end])
            while (line := connection.readline(limit)) is not None:
                lines.append(line)
        theirs.close()
        while line := connection.readline(limit):
            lines.append(line)
    assert b"".join(lines) == data
    assert all(len(line) == limit or line.endswith(b"\n") for line in lines[:-1])
    assert not any(b"\n" in line[:-1] for line in lines)


def test_reset_is_connection_lost():
    with pytest.raises(ConnectionLost):
        Connection(Broken()).fill()


# ---------------------------------------------------------------------- writing


def test_what_is_written_arrives(make_connection):
    connection, peer = make_connection()
    assert connection.write(b"one")
    assert connection.write_parts([b"two", b"", b"three"])
    assert not connection.unsent
    assert peer.recv(100) == b"onetwothree"


def test_what_the_peer_does_not_take_is_kept(make_connection):
    connection, peer = make_connection()
    data = random.Random(1).randbytes(3 << 20)
    assert not connection.write(data)
    assert connection.unsent
    assert not connection.write(b"the end")
    got = b""
    while len(got) < len(data) + 7:
        connection.flush()
        got += peer.recv(1 << 20)
    assert got == data + b"the end"
    assert connection.flush()
    assert not connection.unsent


def test_reset_while_writing_is_connection_lost():
    for write in (
        lambda connection: connection.write(b"x"),
        lambda connection: connection.write_parts([b"x", b"y"]),
        lambda connection: (connection.output.add(b"x"), connection.flush()),
        lambda connection: connection.shutdown(),
    ):
        sock = Broken()
        sock.shutdown = sock.send
        with pytest.raises(ConnectionLost):
            write(Connection(sock))


@settings(deadline=None)
@given(
    blocks=st.lists(st.one_of(st.binary(max_size=40), st.lists(st.binary(max_size=20), min_size=1, max_size=3))),
    appetite=st.lists(st.one_of(st.none(), st.integers(1, 30)), max_size=60),
    memory=st.integers(0, 60),
    spool=st.sampled_from([0, 1, 50, 1000]),
    flushes=st.randoms(use_true_random=False),
)
def test_bytes_go_in_order_however_little_the_peer_takes(blocks, appetite, memory, spool, flushes):
    sock = Miser(appetite)
    connection = Connection(sock, secure=True, output_limits=(memory, spool))  # secure: no sendfile(2) to a fake
    for block in blocks:
        if isinstance(block, list):
            connection.write_parts(block)
        else:
            connection.write(block)
        if flushes.random() < 0.3:
            connection.flush()
    while not connection.flush():
        pass
    assert sock.taken == b"".join(b"".join(block) if isinstance(block, list) else block for block in blocks)
    connection.close()


# ---------------------------------------------------------------------- files


def test_file_goes_by_sendfile(make_connection, file):
    connection, peer = make_connection()
    data = fill_file(file, random.Random(2).randbytes(3 << 20))
    done = []
    connection.write(b"head")
    assert not connection.write_file(file, 100, len(data) - 200, lambda: done.append(1))
    connection.write(b"tail")
    assert done == []
    got = b""
    while len(got) < len(data) - 200 + 8:
        connection.flush()
        got += peer.recv(1 << 20)
    assert got == b"head" + data[100:-100] + b"tail"
    assert connection.flush()
    assert done == [1]


@pytest.mark.parametrize("head", [b"head", b"h" * (1 << 20)], ids=["short", "more than the socket takes"])
def test_a_head_goes_before_its_file(make_connection, file, head):
    connection, peer = make_connection()
    fill_file(file, b"x" * 100)
    done = []
    connection.write_file(file, 0, 50, lambda: done.append(1), head)
    connection.write_file(file, 50, 50, lambda: done.append(2), b"second")
    got = b""
    while len(got) < len(head) + 106:
        connection.flush()
        got += peer.recv(1 << 20)
    assert got == head + b"x" * 50 + b"second" + b"x" * 50
    assert done == [1, 2]


def test_a_head_is_not_sent_to_who_has_reset_the_connection(file):
    with tcp_pair() as (ours, theirs):
        connection = Connection(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with pytest.raises(ConnectionLost):
            connection.write_file(file, 0, 1, lambda: None, b"head")
        connection.close()


@pytest.mark.skipif(not hasattr(socket, "MSG_MORE") or not hasattr(socket, "TCP_INFO"), reason="Linux")
def test_a_head_and_its_file_go_in_one_segment(file):
    """The head alone would wake the peer for nothing."""
    fill_file(file, b"x" * 100)
    with tcp_pair() as (ours, theirs):
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(ours)
        for _ in range(20):
            connection.write_file(file, 0, 100, lambda: None, b"head")
            assert theirs.recv(1000) == b"head" + b"x" * 100
        info = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        assert struct.unpack_from("I", info, 156) == (20,)  # tcpi_data_segs_out
        connection.close()


def test_what_sendfile_cannot_read_is_read(make_connection, file, monkeypatch):
    connection, peer = make_connection()
    fill_file(file, b"x" * 1000)
    monkeypatch.setattr(os, "sendfile", raising(OSError(errno.EINVAL, "not mappable")))
    assert connection.write_file(file, 0, 1000, lambda: None, b"head")
    assert peer.recv(2000)[-1000:] == b"x" * 1000


def test_a_file_that_cannot_be_read_is_told(make_connection, file, monkeypatch, caplog):
    connection, _ = make_connection()
    fill_file(file, b"x" * 1000)
    for name in ("sendfile", "pread"):
        monkeypatch.setattr(os, name, raising(OSError(errno.EIO, "broken disk")))
    with pytest.raises(ConnectionLost, match="broken disk"):
        connection.write_file(file, 0, 1000, lambda: None)
    assert "cannot be read: [Errno 5] broken disk; cut off, 1000 bytes are missing" in caplog.text


def raising(exc):
    def call(*_):
        raise exc

    return call


@contextmanager
def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname(), 20)
        ours, _ = server.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_file_that_has_become_shorter_cuts_the_answer(make_connection, file):
    connection, peer = make_connection()
    fill_file(file, b"x" * 1000)
    done = []
    with pytest.raises(ConnectionLost, match="500 bytes early"):
        connection.write_file(file, 0, 1500, lambda: done.append(1))
    connection.close()
    assert done == [1]
    assert receive_all(peer) == b"x" * 1000


def test_file_is_let_go_when_the_connection_is_closed(make_connection, file):
    connection, _ = make_connection()
    fill_file(file, b"x" * (3 << 20))
    done = []
    connection.write_file(file, 0, 3 << 20, lambda: done.append(1))
    connection.close()
    connection.close()
    assert done == [1]


def test_failing_end_of_a_file_does_not_spoil_the_close(make_connection, file, caplog):
    connection, _ = make_connection()
    fill_file(file, b"x" * (3 << 20))
    done = []
    connection.write_file(file, 0, 3 << 20, lambda: 1 // 0)
    connection.write_file(file, 0, 1, lambda: done.append(1))
    connection.close()
    assert done == [1]
    assert "ZeroDivisionError" in caplog.text


# ---------------------------------------------------------------------- waiting and ending


def test_wait_tells_whether_the_peer_moved(make_connection):
    connection, peer = make_connection()
    assert not connection.wait(writable=False, timeout=0.0)
    assert connection.wait(writable=True, timeout=0.0)
    peer.send(b"x")
    assert connection.wait(writable=False, timeout=20)


def test_drain_output_waits_until_all_was_taken(make_connection):
    connection, peer = make_connection()
    data = b"x" * (8 << 20)
    connection.write(data)
    got = []
    with thread(lambda: got.append(receive_all(peer))):
        connection.drain_output(20)
        connection.close()
    assert got == [data]


def test_drain_output_gives_up_on_who_takes_nothing(make_connection):
    connection, _ = make_connection()
    connection.write(b"x" * (8 << 20))
    with pytest.raises(WriteTimeout, match=r"0\.01 s"):
        connection.drain_output(0.01)


def test_close_is_idempotent_and_drops_what_is_kept(make_connection):
    connection, _ = make_connection()
    connection.write(b"x" * (8 << 20))
    connection.close()
    connection.close()
    assert connection.closed
    assert not connection.unsent
    assert "closed" in repr(connection)


def test_request_in_the_log_has_no_control_characters(make_connection):
    """Else a client could begin lines of the log, or speak to the terminal that shows it."""
    connection, _ = make_connection()
    connection.request = "GET /\x85FAKE\x9b31m\u2028\xe9"
    assert "GET /\\x85FAKE\\x9b31m\\u2028\\xe9>" in repr(connection)


@pytest.mark.parametrize("until_close", [False, True])
def test_connection_is_cut_off_while_another_thread_waits_at_it(tcp_connection, until_close):
    """The peer hears of it at once; who waits wakes up; nobody gets the descriptor's number."""
    connection, peer = tcp_connection
    connection.write(b"half an answer")
    connection.until_close = until_close
    fd, ended = connection.fd, []

    def wait():
        connection.wait(writable=False, timeout=2 * PATIENCE)
        with pytest.raises(ConnectionLost):
            connection.write(b"more")
        ended.append(True)

    with thread(wait):
        until(lambda: _is_in("wait"))
        connection.cut_off()
        if until_close and sys.platform.startswith("linux"):
            with pytest.raises(ConnectionResetError):
                receive_all(peer)
        else:
            assert receive_all(peer) == b"half an answer"
        until(lambda: ended)
    assert connection.fd == connection.sock.fileno() == fd
    connection.close()
    with open(os.devnull, "rb") as file:  # it may have got the number
        connection.cut_off()
        assert file.read() == b""


def _is_in(function):
    """Whether a thread is in *function* of a connection."""
    frames = [frame.f_code for frame in sys._current_frames().values()]
    return any((code.co_name, code.co_filename) == (function, connection_module.__file__) for code in frames)


@pytest.mark.parametrize("end", ["close", "cut_off"])
def test_who_cuts_off_and_who_closes_wait_for_each_other(tcp_connection, monkeypatch, end):
    """Else what is cut off might be a stranger by then."""
    connection, peer = tcp_connection
    monkeypatch.setattr(connection_module, "LOST", PATIENCE)
    connection._ending.acquire()
    with thread(getattr(connection, end)):
        try:
            until(lambda: _is_in("_end" if end == "close" else end))
            assert not connection.closed
            os.fstat(connection.fd)
        finally:
            connection._ending.release()
    assert receive_all(peer) == b""


@pytest.mark.parametrize("end", ["close", "cut_off", "detach"])
def test_a_lock_that_a_dead_thread_has_taken_with_it_stops_nobody(make_connection, monkeypatch, end):
    """Python 3.9 may raise what was set from outside between the end of a block and the lock's release."""
    monkeypatch.setattr(connection_module, "LOST", 0.01)
    connection, peer = make_connection()
    connection._ending.acquire()
    getattr(connection, end)()
    if end != "detach":
        assert receive_all(peer) == b""


def test_answer_that_only_the_end_would_end_is_reset_if_some_of_it_was_not_sent(tcp_connection):
    connection, peer = tcp_connection
    connection.until_close = True
    connection.write(b"x" * (16 << 20))
    connection.close()
    with pytest.raises(ConnectionResetError):
        receive_all(peer)


def test_unix_socket_is_cut_off_without_a_reset(make_connection):
    connection, peer = make_connection()
    connection.write(b"half")
    connection.until_close = True
    connection.cut_off()
    assert receive_all(peer) == b"half"


def test_looks_at_a_slow_peer_are_within_its_time():
    assert until_look(30) == 2.0
    assert until_look(30, 29.5) == 0.5
    assert until_look(1) == 0.25
    assert until_look(1, 5) == 0.0


def test_who_is_given_up_stands_still_until_it_takes_something(make_connection):
    connection, peer = make_connection()
    connection.give_up_on_reader()  # there is nothing to read
    connection.write(b"x" * (8 << 20))
    connection.give_up_on_reader()
    assert connection.stands_still() > 1e9
    peer.recv(1 << 20)
    assert not connection.flush()
    assert connection.stands_still() < 1e9


def test_detached_socket_stays_open(make_connection):
    connection, peer = make_connection()
    sock = connection.detach()
    connection.close()
    sock.send(b"still here")
    assert peer.recv(100) == b"still here"
    sock.close()


def test_shutdown_ends_our_direction_only(make_connection):
    connection, peer = make_connection()
    connection.shutdown()
    assert peer.recv(10) == b""
    peer.send(b"x")
    assert connection.fill()
