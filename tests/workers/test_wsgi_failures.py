"""Applications that fail, and clients that go away."""

import logging

import pytest
from workers_helpers import GET, HEAD, LENGTH_3, LoggedTurns, answering, parse

EXITS = [RuntimeError("oh"), SystemExit(7), KeyboardInterrupt(), GeneratorExit(), StopIteration(), MemoryError()]


def each(values):
    return pytest.mark.parametrize("exc", values, ids=lambda exc: type(exc).__name__)


# ---- errors of the application ----


@each([*EXITS, RecursionError()])
def test_an_error_is_answered_500_logged_once_and_not_told(stand, tell_errors, caplog, exc):
    def app(environ, start_response):
        start_response("200 OK", [("X-Secret", "yes")])
        raise exc

    tested = stand(app)
    answer = tested.ask(GET)
    assert (answer.status, answer.headers["X-Secret"]) == (500, None)
    assert answer.headers["Connection"] == "close"
    assert b"Traceback" not in answer.body
    assert type(exc).__name__.encode() not in answer.body
    assert tested.did == ["close"]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [exc]


@each(EXITS[:4])
def test_an_error_in_the_iterable_cuts_the_answer_and_closes_it_once(stand, tell_errors, exc):
    turns = LoggedTurns([b"abc", exc])
    tested = stand(answering(lambda: turns))
    assert tested.ask(GET).body == b"3\r\nabc\r\n"
    assert turns.closed == 1
    assert tested.did == ["close"]
    assert len(tell_errors()) == 1


@each(EXITS)
def test_an_error_in_close_does_not_spoil_the_answer(stand, tell_errors, exc):
    turns = LoggedTurns([b"abc"], fail=exc)
    tested = stand(answering(lambda: turns))
    assert tested.ask(GET).chunks == b"abc"
    assert turns.closed == 1
    assert tested.did == ["read"]
    assert len(tell_errors()) == 1


def test_an_iterable_that_fails_when_it_is_asked_for_close_does_not_spoil_the_answer(stand, tell_errors):
    class Odd:
        def __iter__(self):
            return iter([b"abc"])

        def __getattr__(self, name):
            raise RuntimeError(name)

    tested = stand(answering(Odd))
    assert tested.ask(GET).chunks == b"abc"
    assert tested.did == ["read"]
    assert len(tell_errors()) == 1


def test_head_gets_500_without_a_body(stand, tell_errors):
    assert stand(answering(None)).ask(HEAD)[::2] == (500, b"")


def test_workers_survive_logging_that_raises(stand):
    class Broken(logging.Filter):
        def filter(self, record):
            raise RuntimeError("no disk")

    logger, broken = logging.getLogger("rocket.worker"), Broken()
    logger.addFilter(broken)
    try:
        tested = stand(answering(lambda: LoggedTurns([b"abc", RuntimeError()], fail=RuntimeError())))
        assert tested.ask(GET).body == b"3\r\nabc\r\n"
        assert stand(None).ask(GET).status == 500
        late = stand(answering([b"ab"], LENGTH_3))
        late.ask(GET)
        assert tested.did == late.did == ["close"]
    finally:
        logger.removeFilter(broken)


def test_workers_survive_exceptions_that_cannot_be_printed(stand, capsys):
    class Worse(Exception):
        def __str__(self):
            return str(self)

    assert stand(answering(lambda: LoggedTurns([Worse()]))).ask(GET).status == 500


# ---- clients that go away ----


def test_a_client_that_goes_away_is_no_error_and_the_iterable_is_closed(stand, tell_errors, caplog):
    caplog.set_level(logging.DEBUG, "rocket")
    turns = LoggedTurns([b"abc"] * 9)
    tested = stand(answering(lambda: turns))
    tested.send(GET)
    tested.theirs.close()
    assert tested.turn() == "close"
    assert turns.closed == 1
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


def test_a_slow_reader_leaves_the_worker_free_up_to_its_buffers(slow_reader):
    turns = LoggedTurns([b"x" * 10000] * 9)
    tested = slow_reader(answering(lambda: turns))
    tested.send(GET)
    assert tested.turn() == "write"
    assert (turns.given, turns.closed) == (9, 1)
    assert len(parse(tested.read_all()).chunks) == 90000
    assert tested.did[-1] == "read"


def test_a_reader_that_takes_nothing_past_the_buffers_is_cut_and_the_iterable_closed(slow_reader, tell_errors):
    turns = LoggedTurns(iter(lambda: b"x" * 10000, None))
    tested = slow_reader(answering(lambda: turns), output_limits=(30000, 30000), write_timeout=0.05)
    tested.send(GET)
    assert tested.turn() == "close"
    assert turns.closed == 1
    assert turns.given < 100
    assert not tell_errors()


def test_a_request_is_not_run_whose_client_has_reset_the_connection_while_it_waited(stand):
    calls = []
    tested = stand(lambda environ, start_response: calls.append(1))
    tested.connection.write(b"unread")
    tested.send(GET)
    tested.theirs.close()  # with something unread: a reset
    tested.connection.since -= 10
    assert tested.turn() == "close"
    assert not calls


def test_a_half_closed_client_is_answered_however_long_it_waited(stand):
    tested = stand(answering([b"abc"]))
    tested.send(GET)
    tested.theirs.shutdown(1)
    tested.connection.since -= 10
    assert tested.turn() == "close"
    assert parse(tested.received()).body == b"abc"
