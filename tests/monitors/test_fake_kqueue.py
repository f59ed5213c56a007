"""The emulation of kqueue, held to the real one where the host has it."""

import errno
import os
import select
import socket
import threading

import pytest

from . import fake_kqueue

MODULES = [fake_kqueue, *([select] if hasattr(select, "kqueue") else [])]


@pytest.fixture(params=MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def kq(request):
    return request.param


@pytest.fixture
def queue(kq):
    queue = kq.kqueue()
    yield queue
    queue.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_data_is_the_number_of_readable_bytes(kq, queue, pair):
    ours, theirs = pair
    theirs.send(b"12345")
    (event,) = queue.control([kq.kevent(ours.fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_ADD)], 8, None)
    assert (event.ident, event.filter, event.data) == (ours.fileno(), kq.KQ_FILTER_READ, 5)
    assert not event.flags & kq.KQ_EV_EOF


def test_a_filter_is_level_triggered(kq, queue, pair):
    ours, theirs = pair
    queue.control([kq.kevent(ours.fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_ADD)], 0, 0)
    theirs.send(b"x")
    assert queue.control(None, 8, None)
    assert queue.control(None, 8, None)
    ours.recv(1)
    assert not queue.control(None, 8, 0)


def test_a_oneshot_filter_is_gone_once_reported(kq, queue, pair):
    ours, theirs = pair
    theirs.send(b"x")
    queue.control([kq.kevent(ours.fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_ADD | kq.KQ_EV_ONESHOT)], 0, 0)
    assert queue.control(None, 8, None)
    assert not queue.control(None, 8, 0)
    with pytest.raises(FileNotFoundError):
        queue.control([kq.kevent(ours.fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_DELETE)], 0, 0)


def test_reading_and_writing_are_two_events(kq, queue, pair):
    ours, theirs = pair
    theirs.send(b"x")
    changes = [kq.kevent(ours.fileno(), which, kq.KQ_EV_ADD) for which in (kq.KQ_FILTER_READ, kq.KQ_FILTER_WRITE)]
    queue.control(changes, 0, 0)
    assert {event.filter for event in queue.control(None, 8, None)} == {kq.KQ_FILTER_READ, kq.KQ_FILTER_WRITE}


def test_a_disabled_filter_is_silent_until_it_is_enabled(kq, queue, pair):
    ours, theirs = pair
    theirs.send(b"x")
    queue.control([kq.kevent(ours.fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_ADD | kq.KQ_EV_DISABLE)], 0, 0)
    assert not queue.control(None, 8, 0)
    assert queue.control([kq.kevent(ours.fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_ENABLE)], 8, None)


@pytest.mark.parametrize("leave", [lambda peer: peer.shutdown(socket.SHUT_WR), lambda peer: peer.close()])
def test_the_end_of_the_stream_shows_as_eof(kq, queue, pair, leave):
    ours, theirs = pair
    leave(theirs)
    (event,) = queue.control([kq.kevent(ours.fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_ADD)], 8, None)
    assert event.flags & kq.KQ_EV_EOF


def test_an_error_is_raised_if_there_is_no_room_and_is_an_event_otherwise(kq, queue, pair):
    delete = kq.kevent(pair[0].fileno(), kq.KQ_FILTER_READ, kq.KQ_EV_DELETE)
    with pytest.raises(FileNotFoundError):
        queue.control([delete], 0, 0)
    (event,) = queue.control([delete], 1, None)
    assert event.flags & kq.KQ_EV_ERROR
    assert event.data == errno.ENOENT


def test_the_first_error_ends_the_changes(kq, queue, pair):
    ours, theirs = pair
    theirs.send(b"x")
    changes = [kq.kevent(ours.fileno(), kq.KQ_FILTER_WRITE, kq.KQ_EV_DELETE), kq.kevent(ours.fileno())]
    with pytest.raises(FileNotFoundError):
        queue.control(changes, 0, 0)
    assert not queue.control(None, 8, 0)


def test_a_closed_descriptor_cannot_be_added(kq, queue):
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        queue.control([kq.kevent(reader)], 0, 0)


def test_closing_a_descriptor_removes_its_filters_and_its_number_starts_anew(kq, queue, pair):
    fd = pair[0].fileno()
    queue.control([kq.kevent(fd)], 0, 0)
    hung_up, peer = socket.socketpair()
    peer.close()
    with hung_up:
        os.dup2(hung_up.fileno(), fd)
    assert not queue.control(None, 8, 0)
    with pytest.raises(FileNotFoundError):
        queue.control([kq.kevent(fd, kq.KQ_FILTER_READ, kq.KQ_EV_DELETE)], 0, 0)


def test_what_was_reported_goes_to_the_end(kq, queue):
    first, second = socket.socketpair()
    with first, second:
        first.send(b"x")
        second.send(b"x")
        queue.control([kq.kevent(first.fileno()), kq.kevent(second.fileno())], 0, 0)
        reported = [queue.control(None, 1, None)[0].ident for _ in range(4)]
    assert reported[:2] == reported[2:]
    assert len(set(reported)) == 2


def test_a_change_reaches_a_wait_in_progress(kq, queue, pair):
    ours, theirs = pair
    theirs.send(b"x")
    events = []
    waiter = threading.Thread(target=lambda: events.extend(queue.control(None, 8, 30)))
    waiter.start()
    queue.control([kq.kevent(ours.fileno())], 0, 0)
    waiter.join(30)
    assert [event.ident for event in events] == [ours.fileno()]


def test_wrong_arguments_are_refused_as_by_the_real_one(kq, queue):
    with pytest.raises(ValueError, match="eventlist"):
        queue.control(None, -1, 0)
    with pytest.raises(ValueError, match="timeout"):
        queue.control(None, 1, -1)
    queue.close()
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        queue.control(None, 1, 0)
