"""Bodies that the application reads while they arrive."""

import io
import threading

import pytest
from workers_helpers import GET, LoggedTurns, answering, parse, post, post_chunks

from rocket import http1
from rocket.connection import Connection
from rocket.errors import ApplicationError, BadRequest, ConnectionLost, ReadTimeout
from rocket.workers import Options
from rocket.workers.stream import GRACE, UNREAD_BYTES, Incoming, StreamedBody

CONTINUE = http1.CONTINUE


def head(length):
    return http1.Head("POST", "/", 1, 0, length, True, False)


@pytest.fixture
def arriving(make_connection):
    """What makes a body that arrives, and its peer's socket."""

    def make(length=http1.CHUNKED, collected=b"", **options):
        connection, theirs = make_connection()
        options = Options(**{"body_timeout": 20, **options})
        body = StreamedBody(Incoming(head(length), options), connection, options, io.BytesIO(collected))
        return body, theirs, connection

    return make


# ---- Incoming ----


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("length", "wire"), [(6, b"abcdefREST"), (http1.CHUNKED, b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\nREST")]
)
def test_a_body_is_the_same_in_any_pieces(length, wire, size):
    incoming = Incoming(head(length), Options())
    body, at = b"", 0
    while not incoming.done:
        body += incoming.feed(wire[at : at + size])
        at += size
    assert body == b"abcdef"
    assert incoming.rest + wire[at:] == b"REST"


# ---- reading ----


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda body: body.read(), b"a\nbc\nd"),
        (lambda body: body.read(-1), b"a\nbc\nd"),
        (lambda body: body.read(3), b"a\nb"),
        (lambda body: body.read(0), b""),
        (lambda body: body.readline(), b"a\n"),
        (lambda body: body.readline(1), b"a"),
        (lambda body: body.readlines(), [b"a\n", b"bc\n", b"d"]),
        (lambda body: body.readlines(1), [b"a\n"]),
        (list, [b"a\n", b"bc\n", b"d"]),
        (lambda body: (body.readline(), body.read(1), next(body), body.read()), (b"a\n", b"b", b"c\n", b"d")),
        (lambda body: (body.read(100), body.read(), body.readline(), list(body)), (b"a\nbc\nd", b"", b"", [])),
    ],
)
@pytest.mark.parametrize("collected", [b"", b"a", b"a\nbc\nd"])
def test_all_ways_of_reading(arriving, read, what, collected):
    rest = b"a\nbc\nd"[len(collected) :]
    body, theirs, _ = arriving(len(rest), collected)
    theirs.sendall(rest)
    assert read(body) == what


def test_a_line_is_read_without_waiting_for_more(arriving):
    body, theirs, _ = arriving(100)
    theirs.sendall(b"a line\nand")
    assert body.readline() == b"a line\n"
    assert body.read1(2) == b"an"


def test_reading_waits_for_the_peer(arriving):
    body, theirs, _ = arriving(6)
    theirs.sendall(b"abc")
    sender = threading.Timer(0.02, theirs.sendall, [b"def"])
    sender.start()
    assert body.read() == b"abcdef"
    sender.join()


def test_what_comes_behind_the_body_stays_in_the_connection(arriving):
    body, theirs, connection = arriving()
    theirs.sendall(b"3\r\nabc\r\n0\r\n\r\nGET")
    assert body.read() == b"abc"
    assert connection.buffer == b"GET"


def test_what_is_written_goes_while_a_body_is_waited_for(arriving):
    body, theirs, connection = arriving(3)
    big = b"x" * 1000000

    def peer():
        left = len(big)
        while left:
            left -= len(theirs.recv(1 << 16))
        theirs.sendall(b"abc")

    reader = threading.Thread(target=peer)
    connection.write(big)
    assert connection.unsent
    reader.start()
    assert body.read() == b"abc"
    reader.join()


# ---- errors ----


def fails_again_and_again(body, error):
    for read in (body.read, body.readline, body.read1, lambda: body.read(2), lambda: next(body)):
        with pytest.raises(error):
            read()
    return True


def test_a_peer_that_goes_away_is_no_end_of_the_body(arriving):
    body, theirs, _ = arriving(6)
    theirs.sendall(b"abc")
    theirs.close()
    assert fails_again_and_again(body, ConnectionLost)


def test_a_body_that_does_not_come_in_time_has_no_hole_later(arriving):
    body, theirs, _ = arriving(6, body_timeout=0.01)
    theirs.sendall(b"abc")
    with pytest.raises(ReadTimeout):
        body.read()
    theirs.sendall(b"def")
    assert fails_again_and_again(body, ReadTimeout)


class Silent(Connection):
    """A connection whose peer says nothing for as long as it is waited for."""

    waited = None

    def wait(self, *, writable, timeout):
        self.waited = timeout
        return False


@pytest.mark.parametrize(
    ("rate", "message", "patience"),
    [(0, "nothing of the body came for 30 s", 30), (240, "240 bytes/s", GRACE + 3 / 240), (1, "240 bytes/s", 8)],
)
def test_a_body_is_waited_for_as_long_as_its_rate_allows(make_connection, rate, message, patience):
    made, theirs = make_connection()
    connection = Silent(made.sock)
    options = Options(min_body_rate=rate)
    body = StreamedBody(Incoming(head(6), options), connection, options, io.BytesIO())
    theirs.sendall(b"abc")
    with pytest.raises(ReadTimeout, match=message.replace("240 b", f"{rate} b")):
        body.read()
    assert connection.waited == pytest.approx(patience)


def test_a_broken_chunk_is_broken_whatever_comes_behind_it(arriving):
    body, theirs, _ = arriving()
    theirs.sendall(b"3\r\nabcXX")
    with pytest.raises(BadRequest):
        body.read()
    theirs.sendall(b"0\r\n\r\n" + GET)
    assert fails_again_and_again(body, BadRequest)


def test_a_body_cannot_be_read_after_the_request(stand):
    kept = []

    def app(environ, start_response):
        kept.append(environ["wsgi.input"])
        return answering([b"abc"])(environ, start_response)

    tested = stand(app, stream=True)
    tested.ask(post(b"x" * 2000000, length=2000010)[:100])
    tested.theirs.sendall(GET)
    assert fails_again_and_again(kept[0], ApplicationError)


# ---- requests whose body arrives ----


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def ignore(environ, start_response):
    return answering([b"ok"], ("Content-Length", "2"))(environ, start_response)


@pytest.mark.parametrize("request_", [post(b"abc"), post_chunks(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")])
@pytest.mark.parametrize("app", [echo, ignore])
def test_a_request_may_follow_a_body_that_has_come_read_or_not(stand, app, request_):
    tested = stand(app, stream=True, body_buffer=0)
    tested.send(request_ + GET)
    assert tested.turn() == "submit"
    assert parse(tested.received()).headers["Connection"] is None
    assert tested.connection.buffer == GET


def test_a_streamed_chunked_body_has_no_length_in_environ(stand):
    def app(environ, start_response):
        assert "CONTENT_LENGTH" not in environ
        assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"
        return echo(environ, start_response)

    assert stand(app, stream=True).ask(post_chunks(b"3\r\nabc\r\n0\r\n\r\n")).body == b"abc"


def test_the_answer_to_a_body_that_has_not_come_whole_says_close_and_lingers(stand):
    tested = stand(ignore, stream=True)
    assert tested.ask(post(b"abc", length=100)).headers["Connection"] == "close"
    assert tested.did == ["read"]  # so that the client, which is sending, can read the answer
    tested.theirs.close()
    assert tested.turn() == "close"


def test_an_error_before_the_body_was_read_can_be_read_by_the_client(stand, tell_errors):
    tested = stand(answering(None), stream=True)
    assert tested.ask(post(b"abc", length=100)).status == 500
    assert tested.did == ["read"]
    assert len(tell_errors()) == 1


def test_no_more_than_a_part_of_an_unread_body_is_taken_in(stand):
    tested = stand(ignore, stream=True)
    tested.connection.buffer = post(b"x" * UNREAD_BYTES, length=10 * UNREAD_BYTES)
    tested.send(b"y")
    assert tested.turn() == "read"
    assert parse(tested.received()).headers["Connection"] == "close"
    assert tested.connection.sock.recv(10) == b"y"


def test_a_broken_body_that_nobody_reads_gets_one_answer(stand):
    tested = stand(ignore, stream=True)
    answer = tested.ask(post_chunks(b"3\r\nabcXX0\r\n\r\n") + GET)
    assert (answer.status, answer.body) == (200, b"ok")
    assert tested.did == ["read"]
    assert tested.connection.buffer == b""


def test_a_broken_body_that_is_read_is_400(stand, tell_errors):
    tested = stand(echo, stream=True)
    assert tested.ask(post_chunks(b"3\r\nabcXX0\r\n\r\n")).status == 400
    assert tested.did == ["read"]
    assert not tell_errors()


def test_a_broken_body_is_the_applications_if_it_catches_the_error(stand):
    def app(environ, start_response):
        with pytest.raises(BadRequest):
            environ["wsgi.input"].read()
        return answering([b"sorry"], status="422 No")(environ, start_response)

    tested = stand(app, stream=True)
    answer = tested.ask(post_chunks(b"3\r\nabcXX0\r\n\r\n") + GET)
    assert (answer.status, answer.headers["Connection"], answer.body) == (422, "close", b"sorry")
    assert tested.did == ["read"]


def test_a_broken_body_cuts_an_answer_that_has_begun(stand, tell_errors):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"abc"
        yield environ["wsgi.input"].read()

    assert stand(app, stream=True).ask(post_chunks(b"XX\r\n")).body == b"3\r\nabc\r\n"
    assert not tell_errors()


def test_a_body_that_does_not_come_is_408(stand, tell_errors):
    tested = stand(echo, stream=True, body_timeout=0.01)
    assert tested.ask(post(b"abc", length=6)).status == 408
    assert tested.did == ["read"]
    assert not tell_errors()


def test_a_client_that_goes_away_in_its_body_is_no_error_and_the_iterable_is_closed(stand, tell_errors):
    class Blocks(LoggedTurns):
        def __next__(self):
            return self.body.read()

    turns = Blocks([])

    def app(environ, start_response):
        turns.body = environ["wsgi.input"]
        start_response("200 OK", [])
        return turns

    tested = stand(app, stream=True)
    tested.send(post(b"abc", length=6))
    tested.theirs.shutdown(1)
    assert tested.turn() == "close"
    assert turns.closed == 1
    assert not tell_errors()


def test_the_application_may_close_its_input(stand):
    def app(environ, start_response):
        environ["wsgi.input"].close()
        return ignore(environ, start_response)

    for options in ({}, {"stream": True}, {"body_buffer": 1}):
        tested = stand(app, **options)
        tested.send(post(b"abc") + GET)
        assert tested.turn() == "submit"


# ---- 100 ----


def test_a_100_comes_when_the_body_is_asked_for(stand):
    tested = stand(echo, stream=True)
    received = []

    def client():
        received.append(tested.theirs.recv(len(CONTINUE)))
        tested.send(b"abc")

    sender = threading.Thread(target=client)
    tested.send(post(b"", "Expect: 100-continue", length=3))
    sender.start()
    assert tested.turn() == "read"
    sender.join()
    assert received == [CONTINUE]
    assert parse(tested.received()).body == b"abc"


def test_no_100_comes_if_the_body_is_not_asked_for(stand):
    tested = stand(ignore, stream=True)
    answer = tested.ask(post(b"", "Expect: 100-continue", length=3))
    assert (answer.status, answer.headers["Connection"]) == (200, "close")


def test_no_100_comes_in_the_middle_of_an_answer(stand):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"abc"
        yield environ["wsgi.input"].read()

    tested = stand(app, stream=True, body_timeout=0.01)
    assert tested.ask(post(b"", "Expect: 100-continue", length=3)).body == b"3\r\nabc\r\n"
