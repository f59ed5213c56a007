"""Bodies that are collected, bodies that stall, and what a parked connection goes on with."""

import io

import pytest
from workers_helpers import GET, HEAD, TimedWorker, answering, parse, post, post_chunks

from rocket import http1
from rocket.errors import ConnectionLost, ReadTimeout
from rocket.http1 import Limits
from rocket.workers.stream import GRACE, StreamedBody
from rocket.workers.tasks import PATIENCE, BodyTask, SpooledBody

KB = 1024


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


OK = answering([b"ok"], ("Content-Length", "2"))


# ---- collecting ----


@pytest.mark.parametrize("body_buffer", [0, 3, 100])
@pytest.mark.parametrize("request_", [post(b"abcdef"), post_chunks(b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n")])
def test_a_body_that_comes_byte_by_byte_is_whole_when_the_application_runs(stand, request_, body_buffer):
    tested = stand(echo, body_buffer=body_buffer)
    for at in range(len(request_)):
        assert tested.received() == b""
        tested.send(request_[at : at + 1])
        assert tested.turn() == "read"
    assert parse(tested.received()).body == b"abcdef"
    assert tested.connection.task is None


def test_a_long_body_goes_to_a_file_and_can_be_read_in_all_ways(stand):
    def app(environ, start_response):
        body = environ["wsgi.input"]
        assert isinstance(body, SpooledBody)
        assert (body.readline(), body.read(2), next(body), body.readlines()) == (b"a\n", b"bc", b"\n", [b"d\n", b"e"])
        assert body.read() == b""
        return OK(environ, start_response)

    assert stand(app, body_buffer=2).ask(post(b"a\nbc\nd\ne")).body == b"ok"


def test_the_body_can_be_sent_back_as_a_file_and_is_closed_then(slow_reader):
    files = []

    def app(environ, start_response):
        files.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](environ["wsgi.input"])

    tested = slow_reader(app, body_buffer=10)
    body = bytes(range(256)) * 400
    tested.send(post(body))
    while tested.did[-1:] != ["write"]:
        tested.turn()
    assert parse(tested.read_all()).chunks == body
    assert files[0].closed


def test_a_turn_that_brings_nothing_of_the_body_gives_no_more_time(stand):
    tested = stand(echo)
    tested.send(post(b"", length=10))
    assert tested.turn() == "read"
    deadline = tested.connection.deadline
    assert tested.turn() == "read"  # as when a part of a TLS record has come
    assert tested.connection.deadline == deadline
    tested.send(b"a")
    assert tested.turn() == "read"
    assert tested.connection.deadline > deadline


def test_a_request_behind_a_body_is_kept(stand):
    tested = stand(echo, body_buffer=2)
    tested.send(post(b"abcdef") + GET)
    assert tested.turn() == "submit"
    assert tested.connection.buffer == GET


def test_a_body_gives_way_to_others_after_some_reads(stand):
    tested = stand(echo)
    tested.send(post(b"", length=1 << 30))
    tested.turn()
    tested.send(b"x" * 100 * KB)
    assert tested.turn() == "read"
    assert isinstance(tested.connection.task, BodyTask)


def test_a_client_that_goes_away_in_its_body_does_not_reach_the_application(stand, tell_errors):
    calls = []
    tested = stand(lambda environ, start_response: calls.append(1))
    tested.send(post(b"abc", length=6))
    tested.turn()
    tested.theirs.shutdown(1)
    assert tested.turn() == "close"
    assert not calls
    assert not tell_errors()


def test_a_broken_chunk_is_400(stand):
    tested = stand(echo)
    tested.send(post_chunks(b"3\r\n"))
    tested.turn()
    assert tested.ask(b"abcd\r\n").status == 400
    assert tested.did == ["read", "read"]


def test_a_chunked_body_that_grows_too_long_is_413(stand):
    assert stand(echo, limits=Limits(body_size=10)).ask(post_chunks(b"b\r\n")).status == 413


def test_a_body_that_cannot_be_kept_is_503(stand, tell_errors):
    class Full(io.BytesIO):
        def writelines(self, lines):
            raise OSError(28, "No space left on device")

    class FullTask(BodyTask):
        __slots__ = ()

        def _add(self, data, body_buffer):
            Full().writelines([data])

    tested = stand(echo)
    tested.send(post(b"", length=6))
    tested.turn()
    full = FullTask(http1.Head("POST", "/", 1, 0, 6, True, False), {}, tested.worker)
    tested.connection.task = full
    assert tested.ask(b"abcdef").status == 503
    assert "No space left" in tell_errors()[0]


# ---- 100 ----


def test_a_100_is_sent_at_once_and_only_if_nothing_of_the_body_is_there(stand):
    tested = stand(echo)
    tested.send(post(b"", "Expect: 100-continue", length=3))
    tested.turn()
    assert tested.received() == http1.CONTINUE
    assert tested.ask(b"abc").body == b"abc"
    assert stand(echo).ask(post(b"abc", "Expect: 100-continue")).status == 200


def test_a_100_that_the_peer_does_not_take_goes_before_its_body_is_waited_for(slow_reader):
    tested = slow_reader(echo)
    filled = 0
    try:
        while True:
            filled += tested.connection.sock.send(b"x")
    except BlockingIOError:
        pass
    tested.send(post(b"", "Expect: 100-continue", length=3))
    assert tested.turn() == "write"
    received = tested.read_all()
    assert received[filled:] == http1.CONTINUE
    assert tested.did[-1] == "read"
    assert tested.ask(b"abc").body == b"abc"


# ---- rates ----


def timed(stand, app=echo, **options):
    return stand(app, worker=TimedWorker, **options)


def test_a_body_is_looked_at_again_when_it_has_stalled(stand):
    tested = timed(stand)
    tested.send(post(b"abc", length=6))
    tested.turn()
    assert tested.deadlines == [tested.worker.now + PATIENCE]


def test_a_body_that_comes_too_slowly_is_408(stand):
    tested = timed(stand, min_body_rate=100)
    tested.send(post(b"", length=10000))
    tested.turn()
    tested.worker.now += GRACE - 1
    tested.send(b"x")
    tested.turn()
    assert tested.received() == b""
    tested.worker.now += 2
    assert tested.ask(b"x").status == 408


def test_without_a_rate_only_silence_is_too_slow(stand):
    tested = timed(stand, min_body_rate=0)
    tested.send(post(b"", length=10000))
    tested.turn()
    tested.worker.now += 100000
    tested.send(b"x")
    assert tested.turn() == "read"
    assert tested.received() == b""


def test_a_body_that_stays_away_is_408_after_its_time(stand):
    tested = timed(stand, body_timeout=30, min_body_rate=0)
    tested.send(post(b"abc", length=6))
    tested.turn()
    assert tested.expire()  # it has stalled: the application might begin
    tested.turn()
    assert tested.deadlines[-1] == tested.worker.now + 30 - PATIENCE
    assert not tested.expire()
    assert parse(tested.received()).status == 408


@pytest.mark.parametrize("came", [0, 1000])
def test_a_silent_body_has_no_more_time_than_a_slow_one(stand, came):
    tested = timed(stand, body_timeout=30, min_body_rate=100)
    began = tested.worker.now
    tested.send(post(came * b"x", length=10_000))
    tested.turn()
    assert tested.expire()  # it has stalled
    tested.turn()
    assert tested.deadlines[-1] == began + GRACE + came / 100
    assert not tested.expire()
    assert parse(tested.received()).status == 408


def test_half_a_body_is_cut_when_the_server_drains(stand):
    tested = timed(stand, early=9)
    tested.send(post(b"abc", length=6))
    tested.turn()
    tested.worker.draining = True
    assert not tested.expire()
    assert parse(tested.received()).status in {408, 503}
    assert tested.ended_early == 0


# ---- beginning early ----


def stalled(stand, app, request_=None, **options):
    """A stand whose request has stalled in its body."""
    tested = timed(stand, app, **{"early": 1, **options})
    tested.send(request_ or post(b"abc", length=6))
    tested.turn()
    assert tested.expire()
    return tested


def test_a_stalled_request_is_begun_and_its_answer_does_not_wait_for_the_body(stand):
    tested = stalled(stand, OK)
    assert tested.turn() == "read"
    answer = parse(tested.received())
    assert (answer.body, answer.headers["Connection"]) == (b"ok", "close")
    assert tested.ended_early == 1


def test_an_application_that_reads_on_waits_for_the_rest(stand):
    def app(environ, start_response):
        assert isinstance(environ["wsgi.input"], StreamedBody)
        tested.send(b"def")  # while the application runs
        return echo(environ, start_response)

    tested = stalled(stand, app)
    assert tested.turn() == "read"
    answer = parse(tested.received())
    assert (answer.body, answer.headers["Connection"]) == (b"abcdef", None)
    assert tested.ended_early == 1


def test_a_rest_that_comes_while_the_application_runs_is_not_a_request(stand):
    def app(environ, start_response):
        tested.send(b"def" + GET)
        return OK(environ, start_response)

    tested = stalled(stand, app)
    assert tested.turn() == "submit"
    assert tested.connection.buffer == GET
    tested.worker.app = OK
    assert tested.turn() == "read"
    assert tested.received().count(b"200 OK") == 2


def test_the_body_of_a_stalled_request_may_be_chunked(stand):
    def app(environ, start_response):
        assert "CONTENT_LENGTH" not in environ
        tested.send(b"def\r\n0\r\n\r\n" + HEAD)
        return echo(environ, start_response)

    tested = stalled(stand, app, post_chunks(b"6\r\nabc"))
    assert tested.turn() == "submit"
    assert parse(tested.received()).body == b"abcdef"
    assert tested.connection.buffer == HEAD


def test_what_was_spooled_of_a_stalled_body_is_read_first(stand):
    def app(environ, start_response):
        tested.send(b"def")
        return echo(environ, start_response)

    tested = stalled(stand, app, body_buffer=2)
    tested.turn()
    assert parse(tested.received()).body == b"abcdef"


@pytest.mark.parametrize("error", [ReadTimeout, ConnectionLost])
def test_an_application_never_sees_a_short_body_as_whole(stand, error):
    def app(environ, start_response):
        if error is ConnectionLost:
            tested.theirs.shutdown(1)
        for _ in range(3):
            with pytest.raises(error):
                environ["wsgi.input"].read()
        return OK(environ, start_response)

    tested = stalled(stand, app, body_timeout=0.02)
    tested.turn()
    assert parse(tested.received()).headers["Connection"] == "close"
    assert tested.ended_early == 1


@pytest.mark.parametrize("exc", [RuntimeError(), SystemExit(), KeyboardInterrupt(), ConnectionLost()])
def test_the_place_is_given_back_however_the_application_ends(stand, tell_errors, exc):
    def app(environ, start_response):
        raise exc

    tested = stalled(stand, app)
    tested.turn()
    assert (tested.early, tested.ended_early) == (0, 1)
    assert tested.did[-1] in {"read", "close"}


def test_no_more_than_a_few_begin_early(stand):
    calls = []
    tested = stalled(stand, lambda environ, start_response: calls.append(1), early=0)
    assert tested.turn() == "read"
    assert not calls
    assert tested.ended_early == 0


def test_a_body_that_goes_on_in_time_is_not_begun_early(stand):
    tested = stalled(stand, echo)
    tested.send(b"d")
    assert tested.turn() == "read"
    assert tested.early == 1
    assert tested.ask(b"ef").body == b"abcdef"
