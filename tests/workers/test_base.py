"""Turns: what a worker reads, and what becomes of the connection."""

import logging
import threading
import time

import pytest
from workers_helpers import GET, HEAD, READ, WRITE, LoggedTurns, answering, parse, post

from rocket.connection import LOOK
from rocket.errors import BadRequest, ConnectionLost
from rocket.http1 import Limits
from rocket.workers import After, Worker
from rocket.workers.tasks import DrainTask

OK = answering([b"ok"], ("Content-Length", "2"))


def soon(seconds):
    return pytest.approx(time.monotonic() + seconds, abs=5)


# ---- reading a head ----


def test_a_request_that_comes_byte_by_byte_is_answered_once_it_is_whole(stand):
    tested = stand(OK)
    for at in range(len(GET)):
        assert tested.received() == b""
        tested.send(GET[at : at + 1])
        assert tested.turn() == "read"
    assert parse(tested.received()).body == b"ok"


def test_the_deadline_of_a_head_does_not_move_with_its_bytes(stand):
    tested = stand(OK, head_timeout=40)
    for at in range(3):
        tested.send(GET[at : at + 1])
        tested.turn()
    assert tested.deadlines[0] == soon(40)
    assert len(set(tested.deadlines)) == 1


def test_the_next_head_has_a_deadline_of_its_own(stand):
    tested = stand(OK, head_timeout=40, keep_alive=500)
    tested.ask(GET)
    tested.send(b"G")
    tested.turn()
    assert tested.deadlines == [soon(500), soon(40)]


def test_a_broken_head_is_answered_and_the_client_can_read_it(stand, tell_errors):
    tested = stand(OK)
    answer = tested.ask(b"NONSENSE\r\n\r\n" + b"x" * 1000)
    assert (answer.status, answer.headers["Connection"]) == (400, "close")
    assert tested.did == ["read"]  # it lingers
    tested.theirs.close()
    assert tested.turn() == "close"
    assert not tell_errors()


def test_limits_are_kept(stand):
    assert stand(OK, limits=Limits(request_line=20)).ask(b"GET /" + b"x" * 30).status == 414
    assert stand(OK, limits=Limits(body_size=2)).ask(post(b"abc")).status == 413


def test_half_a_head_and_then_nothing_is_closed_without_an_answer(stand):
    tested = stand(OK)
    tested.send(GET[:10])
    tested.turn()
    tested.theirs.shutdown(1)
    assert tested.turn() == "close"
    assert tested.received() == b""


def test_an_event_without_a_byte_changes_nothing(stand):
    tested = stand(OK)
    tested.connection.deadline = 1234.0
    assert tested.turn() == "read"
    assert tested.deadlines == [1234.0]


# ---- deadlines ----


def test_half_a_head_is_408_when_its_time_is_over(stand):
    tested = stand(OK)
    tested.send(GET[:10])
    tested.turn()
    assert not tested.expire()
    assert parse(tested.received()).status == 408


def test_an_idle_connection_is_closed_when_its_time_is_over(stand):
    tested = stand(OK)
    assert not tested.expire()
    assert tested.did == ["close"]


def test_empty_lines_are_no_request_that_is_late(stand):
    # An answer that nobody has asked for would be taken for that to the next request.
    tested = stand(OK)
    tested.ask(GET)
    tested.send(b"\r\n\r\n")
    assert tested.turn() == "read"
    assert not tested.expire()
    assert tested.received() == b""
    assert tested.did[-1] == "close"


def test_a_request_that_comes_behind_empty_lines_in_the_last_moment_is_served(stand):
    tested = stand(OK)
    tested.send(b"\r\n")
    tested.turn()
    tested.send(GET)
    assert tested.expire()
    assert tested.turn() == "read"
    assert parse(tested.received()).body == b"ok"


def test_a_request_that_comes_in_the_last_moment_is_served(stand):
    tested = stand(OK)
    tested.send(GET)
    assert tested.expire()
    assert tested.turn() == "read"
    assert parse(tested.received()).body == b"ok"


def test_who_waits_too_long_for_a_worker_gets_503(stand):
    tested = stand(OK)
    tested.send(GET)
    tested.worker.turn_away(tested.connection)
    answer = parse(tested.received())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert tested.did == ["read"]


@pytest.mark.parametrize(("before", "now"), [(HEAD, GET), (GET, HEAD), (HEAD, b"\r\n" + GET), (GET, b"\r\n" + HEAD)])
def test_a_503_has_a_body_if_this_request_wants_one_whatever_the_last_one_was(stand, before, now):
    tested = stand(OK)
    tested.ask(before)
    tested.send(now)
    tested.worker.turn_away(tested.connection)
    answer = parse(tested.received())
    assert answer.status == 503
    assert len(answer.body) == (0 if HEAD in now else int(answer.headers["Content-Length"]))


def test_who_is_gone_after_waiting_too_long_is_not_answered(stand):
    tested = stand(OK)
    tested.theirs.shutdown(1)
    tested.worker.turn_away(tested.connection)
    assert tested.received() == b""
    assert tested.did == ["close"]


# ---- what becomes of the connection ----


class Scripted(Worker):
    """Writes and does what *app*, a list of (bytes, After), says."""

    def serve(self, connection):
        data, after = self.app.pop(0)
        connection.write(data)
        return after


@pytest.mark.parametrize(
    ("after", "did"),
    [
        (After.NEXT, "read"),
        (After.READ_MORE, "read"),
        (After.WRITE_MORE, "write"),
        (After.CLOSE, "close"),
        (After.LINGER, "read"),
        (After.DETACH, "detach"),
    ],
)
def test_each_after_does_as_it_says(stand, after, did):
    assert stand([(b"", after)], worker=Scripted).turn() == did


@pytest.mark.parametrize(
    ("after", "did"), [(After.NEXT, "read"), (After.READ_MORE, "read"), (After.CLOSE, "close"), (After.LINGER, "read")]
)
def test_what_the_peer_does_not_take_goes_first(slow_reader, after, did):
    tested = slow_reader([(b"x" * 100000, after), (b"next", After.CLOSE)], worker=Scripted)
    tested.connection.deadline = 1234.0
    assert tested.turn() == "write"
    assert tested.deadlines == [soon(LOOK)]
    assert tested.read_all() == b"x" * 100000
    assert tested.did[-1] == did
    if after is After.READ_MORE:
        assert tested.deadlines[-1] == 1234.0
        assert tested.connection.task is None
        assert tested.turn() == "close"
        assert tested.received() == b"next"


def test_a_peer_that_does_not_take_its_answer_is_closed(slow_reader, tell_errors):
    patient = slow_reader([(b"x" * 100000, After.NEXT)], worker=Scripted, write_timeout=100)
    patient.turn()
    assert not patient.expire()
    assert patient.did[-1] == "write"  # it may be slow only
    tested = slow_reader([(b"x" * 100000, After.NEXT)], worker=Scripted, write_timeout=0.02)
    tested.turn()
    for _ in range(1_000_000):
        if tested.connection.closed:
            break
        assert not tested.expire()
    assert tested.did[-1] == "close"
    assert not tell_errors()


def test_a_peer_is_looked_at_when_its_time_is_over(slow_reader):
    tested = slow_reader([(b"x" * 100000, After.NEXT)], worker=Scripted, write_timeout=30)
    tested.turn()
    tested.connection.output.moved_at -= 29
    tested.connection.output.unacknowledged = None  # what it has acknowledged meanwhile is another matter
    assert not tested.expire()
    assert tested.deadlines[-1] == soon(1)
    tested.connection.output.moved_at -= 1
    assert not tested.expire()
    assert tested.did[-1] == "close"


def test_a_connection_is_closed_gently_while_the_peer_sends(stand):
    tested = stand([(b"bye", After.CLOSE)], worker=Scripted)
    tested.send(b"more")
    assert tested.turn() == "read"
    assert tested.theirs.recv(10) == b"bye"
    assert tested.theirs.recv(10) == b""
    tested.theirs.close()
    assert tested.turn() == "close"


def test_lingering_ends_in_time_and_after_enough_bytes(stand):
    tested = stand([(b"", After.LINGER)], worker=Scripted, lingering_time=3)
    tested.turn()
    assert tested.deadlines == [soon(3)]
    assert not tested.expire()
    assert tested.did == ["read", "close"]

    flooded = stand([(b"", After.LINGER)], worker=Scripted)
    flooded.turn()
    turns = 0
    while flooded.did[-1] != "close":
        flooded.send(b"x" * 100000)
        flooded.turn()
        turns += 1
    assert turns < 20


def test_a_request_behind_an_answer_takes_its_turn_behind_the_others(stand):
    tested = stand(OK)
    tested.send(GET + GET)
    assert tested.turn() == "submit"
    assert tested.turn() == "read"


def test_a_half_closed_client_gets_all_answers_and_then_the_end(stand):
    tested = stand(OK)
    tested.send(GET + GET)
    tested.theirs.shutdown(1)
    tested.turn()
    tested.turn()
    while tested.did[-1] == "read":
        tested.turn()
    assert tested.did[-1] == "close"
    assert tested.received().count(b"200 OK") == 2


def test_a_worker_that_delays_parking_serves_the_next_request_without_parking(stand):
    tested = stand(OK, park_delay=5)
    tested.send(GET)
    more = threading.Timer(0.01, tested.send, [GET])
    more.start()
    assert tested.turn() == "submit"
    more.join()


def test_a_worker_delays_parking_no_longer_than_it_is_told(stand):
    assert stand(OK, park_delay=0.001).ask(GET).body == b"ok"


@pytest.mark.parametrize("after", [None, "close", 3])
def test_what_is_no_after_is_told_and_the_connection_closed(stand, tell_errors, after):
    tested = stand([(b"", after)], worker=Scripted)
    tested.connection.buffer = b"would be served for ever"
    assert tested.turn() == "close"
    assert len(tell_errors()) == 1


def test_an_idle_connection_holds_nothing(stand):
    tested = stand(OK, body_buffer=2)
    tested.ask(post(b"abcdef"))
    connection = tested.connection
    assert (connection.buffer, connection.task, connection.unsent) == (b"", None, False)


# ---- nothing is raised ----


class Failing(Worker):
    """Raises *app*, wherever it can."""

    def serve(self, connection):
        raise self.app

    def refuse(self, connection, status, message):
        raise self.app


class Refusing(Failing):
    def serve(self, connection):
        raise BadRequest("no")


@pytest.mark.parametrize("worker", [Failing, Refusing])
@pytest.mark.parametrize("exc", [RuntimeError("oh"), SystemExit(1), KeyboardInterrupt(), RecursionError()])
def test_whatever_fails_the_connection_is_closed_and_nothing_raised(stand, tell_errors, worker, exc):
    tested = stand(exc, worker=worker)
    assert tested.turn() == "close"
    assert len(tell_errors()) == 1

    late = stand(exc, worker=worker)
    late.connection.buffer = b"half"
    assert not late.expire()
    late = stand(exc, worker=worker)
    late.worker.turn_away(late.connection)
    assert late.did == ["close"]


def test_a_lost_connection_is_a_debug_line(stand, caplog):
    caplog.set_level(logging.DEBUG, "rocket")
    tested = stand(ConnectionLost("gone"), worker=Failing)
    assert tested.turn() == "close"
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_a_worker_that_does_not_say_how_to_respond_says_so(stand, tell_errors):
    tested = stand(None, worker=Worker)
    tested.send(GET)
    assert tested.turn() == "close"
    assert len(tell_errors()) == 1


def test_a_broken_answer_is_not_sent_on(slow_reader, tell_errors):
    turns = LoggedTurns([b"x" * 100000, RuntimeError("oh")])
    tested = slow_reader(answering(lambda: turns))
    tested.send(GET)
    assert tested.turn() == "close"
    assert not tested.connection.unsent
    assert len(tell_errors()) == 1


# ---- another protocol ----


class LineWorker(Worker):
    """A line for a line."""

    def serve(self, connection):
        line = connection.readline(10)
        if line is None:
            connection.deadline = 77.0
            return After.READ_MORE
        if not line:
            return After.CLOSE
        if not line.endswith(b"\n"):
            raise BadRequest("too long")
        connection.write(self.app(line))
        return After.NEXT

    def refuse(self, connection, status, message):
        connection.write(f"ERROR {status} {message}\n".encode())
        return After.LINGER


def test_another_protocol_is_served(stand):
    tested = stand(bytes.upper, worker=LineWorker)
    tested.send(b"one\ntwo\nthr")
    assert [tested.turn() for _ in range(3)] == ["submit", "submit", "read"]
    assert tested.deadlines == [77.0]
    tested.send(b"ee\n")
    assert tested.turn() == "read"
    assert tested.received() == b"ONE\nTWO\nTHREE\n"
    tested.theirs.shutdown(1)
    assert tested.turn() == "close"


def test_another_protocol_says_in_its_own_words_what_it_refuses(stand):
    tested = stand(bytes.upper, worker=LineWorker)
    tested.send(b"much too long a line")
    tested.turn()
    assert tested.received() == b"ERROR 400 too long\n"
    assert isinstance(tested.connection.task, DrainTask)

    late = stand(bytes.upper, worker=LineWorker)
    late.worker.turn_away(late.connection)
    assert late.received().startswith(b"ERROR 503")


def test_another_protocol_waits_for_a_reader_before_it_reads_on(slow_reader):
    tested = slow_reader(lambda line: b"x" * 100000, worker=LineWorker)
    tested.send(b"a\nb\n")
    assert tested.turn() == "write"
    assert tested.did == ["write"]
    assert len(tested.read_all()) == 100000
    assert tested.did[-1] == "submit"


def test_the_numbers_of_events_are_the_monitors():
    from rocket import monitors
    from rocket.workers import base

    assert (base.READ, base.WRITE) == (READ, WRITE) == (monitors.READ, monitors.WRITE)
