"""Listeners: what they bind, what they hand on, and what they do when there is no room."""

import errno
import os
import socket
import threading

import pytest
from core_helpers import PATIENCE, thread, until

from rocket import listener as listener_module
from rocket.errors import BindError
from rocket.listener import Address, Listener, open_sockets

OPTIONS = {"backlog": 64, "dual_stack": True, "defer_accept": False}
HAS_IPV6 = socket.has_dualstack_ipv6()
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")


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

    def serve(guests, *errors, host="127.0.0.1"):
        (sock,) = open_sockets(Address(host, 0), **OPTIONS)
        made = Listener(Door(sock, *errors), on_connection=guests.come, full=guests.full, on_shortage=guests.make_room)
        started.append((made, guests))
        made.start()
        return made

    yield serve
    for made, guests in started:
        made.stop()
        for connection in guests.connections:
            connection.close()


def knock(listener):
    return socket.create_connection(listener.address, timeout=PATIENCE)


def close_all(sockets):
    for sock in sockets:
        sock.close()


# ---------------------------------------------------------------------- binding


def test_port_0_is_a_free_one():
    (sock,) = open_sockets(Address("127.0.0.1", 0), **OPTIONS)
    with sock:
        assert sock.getsockname()[1] > 0
        assert not sock.getblocking()
        assert not sock.get_inheritable()


def test_taken_port_is_named():
    (sock,) = open_sockets(Address("127.0.0.1", 0), **OPTIONS)
    port = sock.getsockname()[1]
    with sock, pytest.raises(BindError, match=rf"127\.0\.0\.1:{port}.*[Aa]ddress.*in use") as caught:
        open_sockets(Address("127.0.0.1", port), **OPTIONS)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 80, "203.0.113.1"])
def test_host_that_is_not_ours_is_named(host):
    with pytest.raises(BindError, match=f"cannot bind {host}:0: ."):
        open_sockets(Address(host, 0), **OPTIONS)


def test_failing_bind_leaves_no_descriptor_open():
    (sock,) = open_sockets(Address("127.0.0.1", 0), **OPTIONS)
    with sock:
        lowest = os.dup(0)
        os.close(lowest)
        with pytest.raises(BindError):
            open_sockets(Address("127.0.0.1", sock.getsockname()[1]), **OPTIONS)
        again = os.dup(0)
        os.close(again)
    assert again == lowest


@needs_ipv6
def test_ipv6_address_is_bound():
    (sock,) = open_sockets(Address("::1", 0), **OPTIONS)
    with sock, socket.create_connection(sock.getsockname()[:2], timeout=PATIENCE):
        pass


@needs_ipv6
@pytest.mark.parametrize("host", ["", "::"])
def test_dual_stack_takes_ipv4_and_ipv6_on_one_socket(host):
    (sock,) = open_sockets(Address(host, 0), **OPTIONS)
    with sock:
        port = sock.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), timeout=PATIENCE).close()


@needs_ipv6
def test_without_dual_stack_ipv6_is_ipv6_only():
    (sock,) = open_sockets(Address("::", 0), **{**OPTIONS, "dual_stack": False})
    with sock, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=PATIENCE)


@needs_ipv6
def test_without_dual_stack_all_addresses_are_two_sockets_with_one_port():
    sockets = open_sockets(Address("", 0), **{**OPTIONS, "dual_stack": False})
    try:
        assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        close_all(sockets)


def test_name_with_several_addresses_has_one_port():
    sockets = open_sockets(Address("localhost", 0), **OPTIONS)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        close_all(sockets)


def test_addresses_are_written_as_urls_have_them():
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("127.0.0.1", 80)) == "127.0.0.1:80"


# ---------------------------------------------------------------------- accepting


def test_connections_are_handed_on(serve):
    guests = Guests()
    listener = serve(guests)
    with knock(listener) as client:
        assert guests.came.acquire(timeout=PATIENCE)
        (connection,) = guests.connections
        host, port = client.getsockname()
        assert connection.peer == (host, str(port))
        assert connection.endpoint == ("127.0.0.1", str(listener.address.port))
        assert not connection.sock.getblocking()
        assert listener.accepted == 1


@needs_ipv6
def test_ipv4_client_of_a_dual_stack_socket_has_an_ipv4_address(serve):
    guests = Guests()
    listener = serve(guests, host="::")
    with socket.create_connection(("127.0.0.1", listener.address.port), timeout=PATIENCE):
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
    (sock,) = open_sockets(Address("127.0.0.1", 0), **OPTIONS)
    guests = Guests()
    listener = Listener(sock, on_connection=guests.come, full=guests.full, on_shortage=guests.make_room)
    listener.stop()
    assert sock.fileno() == -1


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
