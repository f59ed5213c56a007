"""Listeners: what they hand on, and what they do when there is no room."""

import errno
import os
import socket
import threading

import pytest
from core_helpers import PATIENCE, thread, until

from rocket import listener as listener_module
from rocket.binds import parse_bind
from rocket.listener import Listener
from rocket.sockets import open_sockets

OPTIONS = {"backlog": 64, "dual_stack": True, "defer_accept": False}
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


class Door:
    """A listening socket that fails as `errors` says (None: not this time), then accepts. Else it is real."""

    def __init__(self, sock, *errors):
        self.sock = sock
        self.errors = list(errors)
        self.tries = 0

    def accept(self):
        self.tries += 1
        number = self.errors.pop(0) if self.errors else None
        if number is not None:
            raise OSError(number, os.strerror(number))
        return self.sock.accept()

    def __getattr__(self, name):
        return getattr(self.sock, name)


class Guests:
    """Takes the connections in; says whether it is full, and makes room when asked."""

    def __init__(self, room=1000):
        self.room = room
        self.connections = []
        self.came = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)

    def come(self, connection):
        self.connections.append(connection)
        self.came.release()

    def full(self):
        return len(self.connections) >= self.room

    def make_room(self):
        self.asked.release()


@pytest.fixture
def serve():
    """What starts a listener for guests, on a free port."""
    started = []

    def serve(guests, *errors, bind="127.0.0.1:0"):
        (place,) = open_sockets(parse_bind(bind), **OPTIONS)
        place.sock = Door(place.sock, *errors)
        made = Listener(place, on_connection=guests.come, full=guests.full, on_shortage=guests.make_room)
        started.append((made, guests))
        made.start()
        return made

    yield serve
    for made, guests in started:
        made.stop()
        for connection in guests.connections:
            connection.close()


def knock(listener):
    return socket.create_connection(listener.place.address, timeout=PATIENCE)


# ---------------------------------------------------------------------- accepting


def test_connections_are_handed_on(serve):
    guests = Guests()
    listener = serve(guests)
    with knock(listener) as client:
        assert guests.came.acquire(timeout=PATIENCE)
        (connection,) = guests.connections
        host, port = client.getsockname()
        assert connection.peer == (host, str(port))
        assert connection.endpoint == ("127.0.0.1", str(listener.place.address.port))
        assert not connection.sock.getblocking()
        assert listener.accepted == 1


@needs_ipv6
def test_ipv4_client_of_a_dual_stack_socket_has_an_ipv4_address(serve):
    guests = Guests()
    listener = serve(guests, bind="[::]:0")
    with socket.create_connection(("127.0.0.1", listener.place.address.port), timeout=PATIENCE):
        assert guests.came.acquire(timeout=PATIENCE)
        assert guests.connections[0].peer[0] == "127.0.0.1"


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN])
def test_one_client_s_trouble_is_no_other_s(serve, error):
    guests = Guests()
    listener = serve(guests, error, error)
    with knock(listener):
        assert guests.came.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_shortage_pauses_asks_for_room_and_goes_on(serve, caplog, error):
    guests = Guests()
    listener = serve(guests, error, error)
    with knock(listener):
        assert guests.came.acquire(timeout=PATIENCE)
        assert guests.asked.acquire(timeout=PATIENCE)
        assert guests.asked.acquire(timeout=PATIENCE)
        assert listener.sock.tries <= 4
    assert len(caplog.records) == 1
    assert os.strerror(error) in caplog.text


def test_shortage_that_nobody_waits_for_is_none(serve, caplog):
    # Linux says EMFILE before it looks whether anybody waits.
    guests = Guests()
    listener = serve(guests, None, errno.EMFILE)
    for _ in range(2):
        with knock(listener):
            assert guests.came.acquire(timeout=PATIENCE)
    assert not guests.asked.acquire(blocking=False)
    assert caplog.records == []


def test_unknown_error_does_not_spin(serve):
    guests = Guests()
    listener = serve(guests, *[errno.EIO] * 2)
    with knock(listener):
        assert guests.came.acquire(timeout=PATIENCE)
        assert listener.sock.tries <= 4


def test_failing_receiver_does_not_end_the_listener(serve, caplog):
    guests = Guests()
    listener = serve(guests)
    come, listener._on_connection = listener._on_connection, lambda connection: connection.close() or 1 // 0
    with knock(listener):
        until(lambda: "cannot accept" in caplog.text)
    listener._on_connection = come
    with knock(listener):
        assert guests.came.acquire(timeout=PATIENCE)


def test_full_server_makes_room_only_if_somebody_waits(serve):
    guests = Guests(room=1)
    listener = serve(guests)
    with knock(listener):
        assert guests.came.acquire(timeout=PATIENCE)
        assert not guests.asked.acquire(timeout=3 * listener_module.PAUSE)
        with knock(listener):
            assert guests.asked.acquire(timeout=PATIENCE)
            guests.room = 2
            assert guests.came.acquire(timeout=PATIENCE)


# ---------------------------------------------------------------------- stopping


def test_stop_refuses_new_clients(serve):
    listener = serve(Guests())
    listener.stop()
    with pytest.raises(ConnectionRefusedError):
        knock(listener)
    listener.stop()


def test_stop_before_start_closes_the_socket():
    (place,) = open_sockets(parse_bind("127.0.0.1:0"), **OPTIONS)
    guests = Guests()
    listener = Listener(place, on_connection=guests.come, full=guests.full, on_shortage=guests.make_room)
    listener.stop()
    assert place.sock.fileno() == -1


def test_stop_between_the_start_of_the_thread_and_its_first_step():
    (place,) = open_sockets(parse_bind("127.0.0.1:0"), **OPTIONS)
    guests = Guests()
    listener = Listener(place, on_connection=guests.come, full=guests.full, on_shortage=guests.make_room)
    gate, failed = threading.Event(), []

    def late():
        try:
            assert gate.wait(PATIENCE)
            listener._run()
        except BaseException as exc:
            failed.append(exc)

    listener._thread = threading.Thread(target=late)
    listener.start()
    listener.stop()
    gate.set()
    listener._thread.join(PATIENCE)
    assert failed == []
    assert place.sock.fileno() == -1


def test_stop_while_paused(serve):
    guests = Guests(room=0)
    listener = serve(guests)
    with knock(listener):
        assert guests.asked.acquire(timeout=PATIENCE)
        listener.stop()


def test_stop_in_the_middle_of_a_flood(serve):
    guests = Guests(room=1 << 30)
    listener = serve(guests)
    end = threading.Event()

    def flood():
        while not end.is_set():
            try:
                knock(listener).close()
            except OSError:
                return

    with thread(flood), thread(flood):
        for _ in range(20):
            assert guests.came.acquire(timeout=PATIENCE)
        listener.stop()
        end.set()
    assert not listener._thread.is_alive()


def test_stop_by_many_at_once_closes_once(serve):
    listener = serve(Guests())
    barrier = threading.Barrier(4)

    def stop():
        barrier.wait(PATIENCE)
        listener.stop()
        assert listener.sock.fileno() == -1

    with thread(stop), thread(stop), thread(stop), thread(stop):
        pass
