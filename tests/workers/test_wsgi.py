"""PEP 3333, as applications and clients see it."""

import gc
import logging
import weakref
from wsgiref.validate import validator

import pytest
from workers_helpers import GET, HEAD, LENGTH_3, MB, OLD_GET, LoggedTurns, answering, parse, post

from rocket.errors import ApplicationError

# ---- start_response and write ----


def test_write_comes_before_the_iterable(stand):
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"")
        write(b"b")
        return [b"c"]

    assert stand(app).ask(GET).chunks == b"abc"


def test_write_raises_past_content_length(stand, tell_errors):
    def app(environ, start_response):
        write = start_response("200 OK", [LENGTH_3])
        with pytest.raises(ApplicationError):
            write(b"abcd")
        return []

    tested = stand(app)
    assert tested.ask(GET).body == b"abc"
    assert tested.did == ["close"]


def test_an_answer_that_was_whole_is_sent_although_the_application_fails_then(stand, slow_reader):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", str(MB))])
        yield b"x" * MB
        raise RuntimeError("too late to matter")

    tested = slow_reader(app)
    tested.send(GET)
    assert tested.turn() == "write"
    assert len(parse(tested.read_all()).body) == MB
    assert tested.did[-1] == "close"


def test_write_is_of_no_use_after_the_end(stand):
    kept = []

    def app(environ, start_response):
        kept.append(start_response("200 OK", []))
        kept.append(environ["wsgi.early_hints"])
        return [b"abc"]

    tested = stand(app)
    tested.ask(GET)
    with pytest.raises(ApplicationError):
        kept[0](b"HTTP/1.1 200 OK\r\n\r\n")
    kept[1]([("Link", "</a>")])
    assert tested.received() == b""


def test_close_cannot_write_behind_the_answer(stand, tell_errors):
    class Blocks(LoggedTurns):
        def close(self):
            self.write(b"HTTP/1.1 200 OK\r\n\r\n")

    def app(environ, start_response):
        blocks = Blocks([b"abc"])
        blocks.write = start_response("200 OK", [])
        return blocks

    assert stand(app).ask(GET).chunks == b"abc"
    assert "close() failed" in tell_errors()[0]


def test_start_response_may_be_called_by_the_first_block(stand):
    def app(environ, start_response):
        yield b""
        start_response("201 Created", [])
        yield b"abc"

    answer = stand(app).ask(GET)
    assert (answer.status, answer.chunks) == (201, b"abc")


def test_headers_are_taken_as_they_were(stand):
    def app(environ, start_response):
        headers = [LENGTH_3]
        start_response("200 OK", headers)
        headers[:] = [("X-Late", "yes")]
        return [b"abc"]

    answer = stand(app).ask(GET)
    assert answer.headers["X-Late"] is None
    assert answer.headers["Content-Length"] == "3"


@pytest.mark.parametrize("body", [[b"abc"], [], [b"a", b"b"], lambda: iter([b"abc"]), lambda: iter([])])
def test_without_start_response_it_is_500(stand, tell_errors, body):
    tested = stand(lambda environ, start_response: body() if callable(body) else body)
    assert tested.ask(GET).status == 500
    assert "start_response()" in tell_errors()[0]


def test_start_response_twice_is_500(stand, tell_errors):
    def app(environ, start_response):
        start_response("200 OK", [])
        start_response("201 Created", [])
        return [b"abc"]

    assert stand(app).ask(GET).status == 500
    assert "twice" in tell_errors()[0]


def test_exc_info_replaces_a_head_that_has_not_gone(stand):
    def app(environ, start_response):
        start_response("200 OK", [("X-First", "yes")])
        exc = RuntimeError()
        start_response("503 Sorry", [], (type(exc), exc, None))
        return [b"abc"]

    answer = stand(app).ask(GET)
    assert (answer.status, answer.headers["X-First"]) == (503, None)


def test_exc_info_is_raised_once_the_head_has_gone(stand, tell_errors):
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"abc")
        exc = RuntimeError("original")
        start_response("503 Sorry", [], (type(exc), exc, None))
        raise AssertionError("not reached")

    tested = stand(app)
    assert tested.ask(GET).body == b"3\r\nabc\r\n"  # without the end: the client notices
    assert tested.did == ["close"]
    assert ["RuntimeError: original" in message for message in tell_errors()] == [True]


@pytest.mark.parametrize("where", [("Na\nme", "v"), ("Name", "v\r\nX: y"), ("Name", "v\0"), ("Na me", "v")])
def test_headers_cannot_be_injected(stand, tell_errors, where):
    def app(environ, start_response):
        for use in (environ["wsgi.early_hints"], lambda headers: start_response("200 OK", headers)):
            with pytest.raises(ApplicationError):
                use([where])
        start_response("200 OK", [])
        return [b"abc"]

    assert stand(app).ask(GET).body == b"abc"


# ---- blocks ----


class Liar(bytes):
    def __len__(self):
        return 1

    def __bytes__(self):
        return b"other"


@pytest.mark.parametrize("body", [[Liar(b"abc")], [Liar(b"ab"), b"c"], (Liar(b"abc"),)])
def test_subclasses_of_bytes_are_sent_as_what_they_hold(stand, body):
    answer = stand(answering(body)).ask(GET)
    assert (answer.headers["Content-Length"], answer.body) == ("3", b"abc")


@pytest.mark.parametrize("block", ["abc", bytearray(b"abc"), memoryview(b"abc"), 5, None])
@pytest.mark.parametrize("make", [lambda block: [block], lambda block: [b"", block], lambda block: iter([block])])
def test_blocks_that_are_not_bytes_are_500(stand, tell_errors, block, make):
    tested = stand(answering(make(block)))
    assert tested.ask(GET).status == 500
    assert f"bytes, not {type(block).__name__}" in tell_errors()[0]


@pytest.mark.parametrize("result", [None, 5, "text", b"bytes"])
def test_results_that_are_no_iterable_of_bytes_are_500(stand, tell_errors, result):
    assert stand(answering(result)).ask(GET).status == 500
    assert len(tell_errors()) == 1


# ---- early hints ----


def hinting(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload"), LENGTH_3])
    start_response("200 OK", [])
    return [b"abc"]


def test_early_hints_come_before_the_head(stand):
    tested = stand(hinting)
    tested.send(GET)
    tested.turn()
    hints, _, answer = tested.received().partition(b"\r\n\r\n")
    assert hints == b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload"
    assert parse(answer).body == b"abc"


def test_http_1_0_gets_no_early_hints(stand):
    assert stand(hinting).ask(OLD_GET).body == b"abc"


def test_early_hints_are_too_late_once_the_head_has_gone(stand):
    def app(environ, start_response):
        start_response("200 OK", [])(b"abc")
        environ["wsgi.early_hints"]([("Link", "</late>")])
        return []

    assert stand(app).ask(GET).chunks == b"abc"


# ---- the connection ----


@pytest.mark.parametrize("options", [{"max_requests": 1}, {"keep_alive": 0}])
def test_the_last_answer_of_a_connection_says_close(stand, options):
    tested = stand(answering([b"abc"], LENGTH_3), **options)
    assert tested.ask(GET).headers["Connection"] == "close"
    assert tested.did == ["close"]


def test_no_connection_is_kept_while_the_server_drains(stand):
    tested = stand(answering([b"abc"], LENGTH_3))
    tested.worker.draining = True
    assert tested.ask(GET).headers["Connection"] == "close"
    assert tested.did == ["close"]


def test_max_requests_0_is_no_limit(stand):
    tested = stand(answering([b"abc"]), max_requests=0)
    for _ in range(20):
        assert tested.ask(GET).headers["Connection"] is None


def test_pipelined_requests_are_answered_in_order_one_a_turn(stand):
    tested = stand(lambda environ, start_response: answering([environ["PATH_INFO"].encode()])(environ, start_response))
    tested.send(b"".join(GET.replace(b"/ ", b"/%d " % number) for number in range(3)))
    tested.turn()
    assert parse(tested.received()).body == b"/0"
    tested.turn()
    tested.turn()
    assert tested.did == ["submit", "submit", "read"]
    assert tested.received().endswith(b"/2")


def test_date_and_server_are_the_servers_unless_the_application_has_them(stand):
    assert stand(answering([]), server_header="S").ask(GET).headers.get_all("Server") == ["S"]
    assert stand(answering([]), server_header="").ask(GET).headers.get_all("Server") is None
    own = stand(answering([], ("Date", "today"), ("Server", "mine"))).ask(GET).headers
    assert (own.get_all("Date"), own.get_all("Server")) == (["today"], ["mine"])


# ---- by the letter, and nothing left ----


@pytest.mark.filterwarnings("error::wsgiref.validate.WSGIWarning")
@pytest.mark.parametrize("request_", [GET, HEAD, OLD_GET, post(b"a\nbc\n"), post(b"a\nbc\n", "Expect: 100-continue")])
@pytest.mark.parametrize("options", [{}, {"stream": True}, {"body_buffer": 2}])
def test_the_validator_has_no_objection(stand, tell_errors, request_, options):
    def app(environ, start_response):
        body = environ["wsgi.input"]
        echo = body.read(1) + body.readline() + b"".join(body.readlines()) + b"".join(body)
        environ["wsgi.errors"].flush()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(echo)))])
        return [echo] if environ["REQUEST_METHOD"] != "HEAD" else []

    answer = stand(validator(app), **options).ask(request_)
    assert (answer.status, answer.body) == (200, b"a\nbc\n" if b"POST" in request_ else b"")
    assert not tell_errors()


class Token:
    """What can be referred to weakly."""


@pytest.mark.parametrize("options", [{}, {"stream": True}, {"body_buffer": 2}])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_request_is_left_after_it(stand, options, fails):
    left = []

    def app(environ, start_response):
        environ["token"] = token = Token()
        left.append(weakref.ref(token))
        left.append(weakref.ref(environ["wsgi.input"]))
        start_response("200 OK", [])
        if fails:
            raise KeyError(environ)
        return (block for block in [environ["wsgi.input"].read()])

    logger = logging.getLogger("rocket.worker")
    logger.disabled = True  # pytest keeps what is logged
    tested = stand(app, **options)
    gc.disable()
    try:
        tested.ask(post(b"abcdef"))
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()
        logger.disabled = False
    assert tested.connection.buffer == b""


def test_a_pipelining_client_does_not_make_us_read_ahead(stand):
    tested = stand(answering([b"x"], ("Content-Length", "1")))
    tested.send(GET * 3)
    for _ in range(2):
        tested.turn()
        tested.send(GET * 10)  # meanwhile more has come
        tested.connection.since -= 10  # and this one has waited for long
    assert tested.connection.buffer == GET


def test_205_has_no_content_and_says_so(stand):
    answer = stand(answering([b"body"], ("Content-Length", "4"), status="205 Reset Content")).ask(GET)
    assert answer.status == 205
    assert answer.headers.get_all("Content-Length") == ["0"]
    assert answer.body == b""


def test_a_refused_head_request_gets_no_content(stand):
    answer = stand(answering()).ask(b"HEAD / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n")
    assert answer.status == 417
    assert answer.body == b""
    assert stand(answering()).ask(b"HEAD /%00 HTTP/1.1\r\nHost: x\r\n\r\n").body == b""
    assert stand(answering()).ask(b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n").body
