"""The connection monitor. Races are forced by a monitor that lets other things happen while it is called."""

import random
import socket
import threading

import pytest
from core_helpers import PATIENCE, thread

from rocket.connection import NEVER, Connection
from rocket.monitors import MONITORS
from rocket.reactor import TICK, Reactor

READ, WRITE = 1, 4
HERE = {name: monitor for name, monitor in MONITORS.items() if monitor.unavailable() is None}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class FakeMonitor:
    """Reports what `fire` was told, if it is armed; calls `meanwhile` once, in the middle of the next arm."""

    def __init__(self, concurrent=True):
        self.concurrent = concurrent
        self.armed = {}
        self.fired = []
        self.timeouts = []
        self.wakeups = 0
        self.meanwhile = None
        self.refusal = None
        self.calls = []

    def fire(self, connection):
        self.fired.append(connection.fd)

    def arm(self, fd, events):
        self.calls.append(("arm", fd))
        if self.refusal is not None:
            raise self.refusal
        self.armed[fd] = events
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def disarm(self, fd):
        self.calls.append(("disarm", fd))
        self.armed.pop(fd, None)

    def poll(self, timeout):
        self.timeouts.append(timeout)
        fired, self.fired = self.fired, []
        return [(fd, events) for fd in fired if (events := self.armed.pop(fd, None))]

    def wakeup(self):
        self.wakeups += 1

    def close(self):
        self.refusal = OSError("closed")


class Late(list):
    """An on_expire that notes the connection, and says that it is not ready."""

    ready = False

    def __call__(self, connection):
        self.append(connection)
        return self.ready


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["concurrent", "not-concurrent"])
def monitor(request):
    return FakeMonitor(request.param == "concurrent")


@pytest.fixture
def late():
    return Late()


@pytest.fixture
def failed():
    return []


@pytest.fixture
def reactor(monitor, late, failed, clock):
    return Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)


def make_connection_at(fd, make_connection):
    """Return a connection with that descriptor, the lowest that is free but for what others have just closed."""
    return next(each for each in (make_connection()[0] for _ in range(50)) if each.fd == fd)


# ---------------------------------------------------------------------- events


def test_ready_connection_is_returned_once(reactor, monitor, make_connection):
    connection, _ = make_connection()
    reactor.park(connection, READ, NEVER)
    reactor.poll(block=False)
    monitor.fire(connection)
    assert reactor.poll(block=False) == [connection]
    monitor.fire(connection)
    assert reactor.poll(block=False) == []
    assert len(reactor) == 0


def test_connections_come_in_order_of_readiness(reactor, monitor, make_connection):
    first, second, third = (make_connection()[0] for _ in range(3))
    for connection in (third, first, second):
        reactor.park(connection, READ, NEVER)
    reactor.poll(block=False)
    for connection in (first, second, third):
        monitor.fire(connection)
    assert reactor.poll(block=False) == [first, second, third]


def test_ready_connection_knows_since_when(reactor, monitor, make_connection, clock):
    connection, _ = make_connection()
    reactor.park(connection, READ, NEVER)
    reactor.poll(block=False)
    clock.now += 5
    monitor.fire(connection)
    reactor.poll(block=False)
    assert connection.since == clock.now


def test_event_between_arming_and_parking_is_not_lost(late, failed, clock, make_connection):
    monitor = FakeMonitor()
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    connection, _ = make_connection()

    def leader_polls():
        monitor.fire(connection)
        assert reactor.poll(block=False) == []

    monitor.meanwhile = leader_polls
    reactor.park(connection, READ, NEVER)
    assert monitor.wakeups == 1
    assert reactor.poll(block=True) == [connection]
    assert len(reactor) == 0


def test_connection_that_is_just_being_parked_is_not_swept_out(late, failed, clock, make_connection):
    # Else it would be closed, its number used again, and the arming still to come be another connection's.
    monitor = FakeMonitor()
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    connection, _ = make_connection()

    def leader_sweeps():
        reactor.sweep(lambda connection: True)
        reactor.poll(block=False)
        assert late == []

    monitor.meanwhile = leader_sweeps
    reactor.park(connection, READ, NEVER)
    calls = list(monitor.calls)
    reactor.sweep(lambda connection: True)
    reactor.poll(block=False)
    assert late == [connection]
    assert monitor.calls == [*calls, ("disarm", connection.fd)]


def test_event_of_nobody_s_is_ignored(reactor, monitor, make_connection):
    connection, _ = make_connection()
    monitor.armed[connection.fd] = READ
    monitor.fire(connection)
    assert reactor.poll(block=False) == []
    reactor.park(connection, READ, NEVER)
    reactor.poll(block=False)  # at most it is looked at once too often
    reactor.poll(block=False)


def test_change_wakes_a_poll_in_progress_only(late, failed, clock, make_connection):
    monitor = FakeMonitor(concurrent=False)
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    reactor.park(make_connection()[0], READ, NEVER)
    assert monitor.wakeups == 0
    fake_poll = monitor.poll

    def poll(timeout):
        reactor.park(make_connection()[0], READ, NEVER)
        return fake_poll(timeout)

    monitor.poll = poll
    reactor.poll(block=True)
    assert monitor.wakeups == 1
    assert len(reactor) == 2


def test_reused_descriptor_keeps_its_arming(late, failed, clock, make_connection):
    monitor = FakeMonitor(concurrent=False)
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    old, _ = make_connection()
    reactor.forget(old)
    fd = old.fd
    old.close()
    new = make_connection_at(fd, make_connection)
    reactor.park(new, READ, NEVER)
    reactor.poll(block=False)
    monitor.fire(new)
    assert reactor.poll(block=False) == [new]


def test_forgetting_a_closed_connection_leaves_its_successor_alone(reactor, monitor, make_connection):
    old, _ = make_connection()
    reactor.forget(old)
    old.close()
    new = make_connection_at(old.fd, make_connection)
    reactor.park(new, READ, NEVER)
    reactor.forget(old)
    reactor.poll(block=False)
    assert new.fd in monitor.armed


# ---------------------------------------------------------------------- deadlines


def test_late_connection_is_let_go(reactor, clock, late, make_connection):
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now + 1)
    assert reactor.poll(block=False) == []
    assert late == []
    clock.now += 1 + TICK
    assert reactor.poll(block=False) == []
    assert late == [connection]
    clock.now += 100
    reactor.poll(block=False)
    assert late == [connection]


def test_connections_expire_in_order_of_their_deadlines(reactor, clock, late, make_connection):
    connections = [make_connection()[0] for _ in range(5)]
    for i, connection in random.Random(4).sample(list(enumerate(connections)), 5):
        reactor.park(connection, READ, clock.now + 1 + i)
    for _ in range(6):
        clock.now += 1
        reactor.poll(block=False)
    clock.now += TICK
    reactor.poll(block=False)
    assert late == connections


def test_deadline_that_is_over_when_it_is_parked(reactor, clock, late, make_connection):
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now - 50)
    reactor.poll(block=True)
    assert late == [connection]


def test_event_comes_before_the_deadline_of_the_same_poll(reactor, monitor, clock, late, make_connection):
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now + 1)
    reactor.poll(block=False)
    clock.now += 10
    monitor.fire(connection)
    assert reactor.poll(block=False) == [connection]
    assert late == []


def test_what_had_just_arrived_is_served(reactor, clock, late, make_connection):
    late.ready = True
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now + 1)
    reactor.poll(block=False)
    clock.now += 2
    assert reactor.poll(block=False) == [connection]
    assert len(reactor) == 0


def test_expired_connection_is_not_armed_any_more(reactor, monitor, clock, late, make_connection):
    # It would be reported while it waits for something else.
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now + 1)
    reactor.poll(block=False)
    clock.now += 2
    reactor.poll(block=False)
    assert connection.fd not in monitor.armed


def test_later_deadline_costs_nothing_and_holds(reactor, clock, late, make_connection):
    connection, _ = make_connection()
    for _ in range(20):
        reactor.park(connection, READ, clock.now + 10)
        reactor.poll(block=False)
        reactor._parked.pop(connection.fd)  # an event
        clock.now += 1
    reactor.park(connection, READ, clock.now + 10)
    assert len(reactor._wheel) <= 3
    clock.now += 9
    reactor.poll(block=False)
    assert late == []
    clock.now += 1 + TICK
    reactor.poll(block=False)
    assert late == [connection]


def test_earlier_deadline_holds(reactor, clock, late, make_connection):
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now + 75)
    reactor.poll(block=False)
    reactor._parked.pop(connection.fd)
    reactor.park(connection, READ, clock.now + 2)
    reactor.poll(block=False)
    clock.now += 2 + TICK
    reactor.poll(block=False)
    assert late == [connection]


def test_no_deadline_after_one(reactor, clock, late, make_connection):
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now + 1)
    reactor.poll(block=False)
    reactor._parked.pop(connection.fd)
    reactor.park(connection, READ, NEVER)
    clock.now += 10
    assert reactor.poll(block=False) == []
    assert late == []
    reactor.poll(block=False)
    reactor._parked.pop(connection.fd)
    reactor.park(connection, READ, clock.now + 1)
    clock.now += 2
    reactor.poll(block=False)
    reactor.poll(block=False)
    assert late == [connection]


def test_bucket_that_is_due_while_its_connection_is_being_parked(late, failed, clock, make_connection):
    # The poller does not find it parked and takes it out of the wheel; who parks it puts it in again.
    monitor = FakeMonitor()
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    connection, _ = make_connection()
    reactor.park(connection, READ, clock.now + 1)
    reactor._parked.pop(connection.fd)  # it is being served

    def leader_polls():
        clock.now += 2
        reactor.poll(block=False)

    monitor.meanwhile = leader_polls
    reactor.park(connection, READ, clock.now + 5)
    clock.now += 3 + TICK
    reactor.poll(block=False)
    assert late == [connection]


def test_parking_that_comes_to_its_end_late_leaves_an_earlier_deadline_alone(late, failed, clock, make_connection):
    # It is ready, served and parked again while who parked it first is still about to put it into the wheel.
    class Slow(float):
        def __truediv__(self, other):
            monitor.fire(connection)
            assert reactor.poll(block=False) == [connection]
            reactor.park(connection, READ, clock.now + 1)
            return float(self) / other

    monitor = FakeMonitor()
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    connection, _ = make_connection()
    reactor.park(connection, READ, Slow(clock.now + 75))
    clock.now += 1 + 2 * TICK
    reactor.poll(block=False)
    assert late == [connection]


def test_parked_connections_are_counted_while_others_park(late, failed, clock, make_connection):
    reactor = Reactor(FakeMonitor(concurrent=False), on_expire=late, on_fail=failed.append, clock=clock)
    connection, _ = make_connection()

    def park_and_poll():
        for _ in range(100):
            for _ in range(300):
                reactor.park(connection, READ, NEVER)
            reactor.poll(block=False)

    with thread(park_and_poll) as parking:
        while parking.is_alive():
            assert len(reactor) <= 301
    assert len(reactor) == 1


def test_poll_waits_for_the_first_deadline(reactor, monitor, clock, make_connection):
    for seconds in (30, 10, 20):
        reactor.park(make_connection()[0], READ, clock.now + seconds)
    reactor.poll(block=True)
    assert 10 <= monitor.timeouts[-1] <= 10 + TICK
    assert monitor.wakeups == 0


def test_earlier_deadline_wakes_a_poll_in_progress(late, failed, clock, make_connection):
    monitor = FakeMonitor()
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    fake_poll = monitor.poll

    def poll(timeout):
        if timeout is None:
            reactor.park(make_connection()[0], READ, clock.now + 5)
            assert monitor.wakeups == 1
        return fake_poll(timeout)

    monitor.poll = poll
    reactor.poll(block=True)
    reactor.poll(block=True)
    assert 5 <= monitor.timeouts[-1] <= 5 + TICK


def test_without_connections_the_poll_waits_for_ever(reactor, monitor, clock, make_connection):
    connections = [make_connection()[0] for _ in range(50)]
    for i, connection in enumerate(connections):
        reactor.park(connection, READ, clock.now + 1 + i)
    reactor.poll(block=False)
    for connection in connections:
        reactor._parked.pop(connection.fd)
        reactor.forget(connection)
        connection.close()
    clock.now += 2
    reactor.poll(block=False)
    reactor.poll(block=True)
    assert monitor.timeouts[-1] is None


# ---------------------------------------------------------------------- sweeps


def test_sweep_takes_the_oldest_first(reactor, late, make_connection):
    connections = [make_connection()[0] for _ in range(6)]
    for connection in reversed(connections):
        reactor.park(connection, READ, NEVER)
    reactor.sweep(lambda connection: connection is not connections[5], 2)
    reactor.poll(block=True)
    assert late == [connections[4], connections[3]]
    assert len(reactor) == 4


def test_sweep_wakes_the_poll(reactor, monitor):
    reactor.sweep(lambda connection: True)
    assert monitor.wakeups == 1


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize("error", [OSError("ENOSPC"), ValueError("full")])
def test_refused_connection_is_given_back(reactor, monitor, failed, make_connection, error):
    monitor.refusal = error
    connection, _ = make_connection()
    reactor.park(connection, READ, 1001.0)
    reactor.poll(block=False)
    assert failed == [connection]
    assert len(reactor) == 0
    assert connection.bucket is None


def test_failing_expiry_loses_no_ready_connection(monitor, clock, failed, make_connection):
    def broken(connection):
        raise ZeroDivisionError

    reactor = Reactor(monitor, on_expire=broken, on_fail=failed.append, clock=clock)
    (one, _), (other, _) = make_connection(), make_connection()
    reactor.park(one, READ, clock.now + 1)
    reactor.park(other, READ, NEVER)
    reactor.poll(block=False)
    clock.now += 2
    monitor.fire(other)
    assert reactor.poll(block=False) == [other]
    assert failed == [one]


def test_close_returns_what_is_parked(reactor, monitor, make_connection):
    connections = {make_connection()[0] for _ in range(4)}
    for connection in connections:
        reactor.park(connection, READ, NEVER)
    forgotten, _ = make_connection()
    reactor.forget(forgotten)
    assert set(reactor.close()) == connections
    assert len(reactor) == 0


def test_parking_after_the_end_fails(reactor, failed, make_connection):
    reactor.close()
    connection, _ = make_connection()
    reactor.park(connection, READ, NEVER)
    assert failed == [connection]


def test_parking_during_the_end_fails_or_is_returned(late, failed, clock, make_connection):
    monitor = FakeMonitor()
    reactor = Reactor(monitor, on_expire=late, on_fail=failed.append, clock=clock)
    connection, _ = make_connection()
    returned = []
    monitor.meanwhile = lambda: returned.extend(reactor.close())
    reactor.park(connection, READ, NEVER)
    assert returned + failed == [connection]


# ---------------------------------------------------------------------- with real monitors


@pytest.fixture(params=HERE)
def real(request):
    monitor = HERE[request.param]()
    yield monitor
    monitor.close()


def test_speaking_peer_is_reported_to_a_waiting_poll(real, make_connection):
    reactor = Reactor(real, on_expire=Late(), on_fail=pytest.fail)
    connection, peer = make_connection()
    found = []
    with thread(lambda: found.extend(poll_until_ready(reactor))):
        reactor.park(connection, READ, NEVER)
        peer.send(b"x")
    assert found == [connection]


def test_hung_up_peer_is_reported(real, make_connection):
    reactor = Reactor(real, on_expire=Late(), on_fail=pytest.fail)
    connection, peer = make_connection()
    reactor.park(connection, READ, NEVER)
    peer.close()
    assert reactor.poll(block=True) == [connection]


def test_deadline_ends_a_waiting_poll(real, make_connection):
    late = Late()
    reactor = Reactor(real, on_expire=late, on_fail=pytest.fail)
    connection, _ = make_connection()
    reactor.park(connection, READ, reactor._clock() + 0.05)
    while not late:
        reactor.poll(block=True)
    assert late == [connection]


def poll_until_ready(reactor):
    while True:
        ready = reactor.poll(block=True)
        if ready:
            return ready


def test_each_arming_is_delivered_once_to_one_owner(real, hasty_threads):
    """Threads park, a poller takes; peers speak, go, or say nothing; numbers are used again all the time."""
    count, rounds = 12, 25
    owners = {}  # connection -> who has it; an entry there already means that it has two
    faults = []
    taken = threading.Semaphore(0)
    work = []
    done = threading.Event()

    def own(connection):
        if owners.setdefault(connection, threading.get_ident()) != threading.get_ident() or connection.closed:
            faults.append(connection)
        work.append(connection)
        taken.release()

    def expire(connection):
        own(connection)
        return False

    reactor = Reactor(real, on_expire=expire, on_fail=faults.append)

    def poller():
        while not done.is_set():
            for connection in reactor.poll(block=True):
                own(connection)

    def worker(seed):
        choose = random.Random(seed)
        for _ in range(rounds * count // 3):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            connection = Connection(ours)
            fate = choose.random()
            if fate < 0.3:
                theirs.send(b"x")
            elif fate < 0.5:
                theirs.close()
            reactor.park(connection, READ, reactor._clock() + (0.0 if fate > 0.97 else 60))
            if 0.5 <= fate <= 0.97:
                theirs.send(b"y")
            assert taken.acquire(timeout=PATIENCE), "an arming was lost"
            gone = work.pop()
            del owners[gone]
            reactor.forget(gone)
            gone.close()
            theirs_of.append(theirs)
            if len(theirs_of) > 20:
                theirs_of.pop(0).close()

    theirs_of = []
    with thread(poller):
        with thread(worker, 1), thread(worker, 2), thread(worker, 3):
            pass
        done.set()
        reactor.wakeup()
    for sock in theirs_of:
        sock.close()
    assert faults == []
    assert len(reactor) == 0
