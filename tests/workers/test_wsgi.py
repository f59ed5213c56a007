"""PEP 3333, as applications and clients see it."""

import gc
import gzip
import io
import logging
import os
import tempfile
import weakref
from wsgiref.validate import validator

import pytest
from workers_helpers import (
    GET,
    GET_AND_CLOSE,
    HEAD,
    MB,
    OLD_GET,
    OLD_GET_KEPT,
    LoggedTurns,
    answering,
    parse,
    post,
)

from rocket.errors import ApplicationError

LENGTH_3 = ("Content-Length", "3")
EXITS = [RuntimeError("oh"), SystemExit(7), KeyboardInterrupt(), GeneratorExit(), StopIteration(), MemoryError()]


def each(values):
    return pytest.mark.parametrize("exc", values, ids=lambda exc: type(exc).__name__)


# ---- framing ----


def test_a_body_of_one_block_has_a_length(stand):
    answer = stand(answering([b"abc"])).ask(GET)
    assert (answer.headers["Content-Length"], answer.body) == ("3", b"abc")


@pytest.mark.parametrize("make", [list, tuple])
def test_the_blocks_of_a_list_are_sent_as_one_with_a_length(stand, make):
    answer = stand(answering(make([b"ab", b"", b"c"]))).ask(GET)
    assert (answer.headers["Content-Length"], answer.body) == ("3", b"abc")


def test_a_long_list_is_sent_whole(stand):
    tested = stand(answering([b"x" * MB] * 3), output_limits=(16 * MB, 0))
    tested.send(GET)
    tested.turn()
    assert len(parse(tested.read_all()).chunks) == 3 * MB


@pytest.mark.parametrize("blocks", [[b"ab", b"c"], [b"", b"ab", b"", b"c", b""]])
def test_a_generator_is_sent_in_chunks_without_empty_ones(stand, blocks):
    answer = stand(answering(lambda: iter(blocks))).ask(GET)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.body == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


@pytest.mark.parametrize("body", [[], (), [b""], [b"", b""]])
def test_an_empty_body_has_the_length_0(stand, body):
    answer = stand(answering(body)).ask(GET)
    assert (answer.headers["Content-Length"], answer.body) == ("0", b"")


def test_an_empty_generator_has_the_length_0(stand):
    assert stand(answering(lambda: iter([b"", b""]))).ask(GET).headers["Content-Length"] == "0"


def test_http_1_0_gets_no_chunks_and_a_close(stand):
    tested = stand(answering(lambda: iter([b"ab", b"c"])))
    answer = tested.ask(OLD_GET_KEPT)
    assert answer.headers["Transfer-Encoding"] is None
    assert answer.headers["Connection"] == "close"
    assert answer.body == b"abc"
    assert tested.did == ["close"]


def test_http_1_0_is_kept_if_it_asks_and_the_length_is_known(stand):
    tested = stand(answering([b"abc"]))
    assert tested.ask(OLD_GET_KEPT).headers["Connection"] == "keep-alive"
    assert tested.did == ["read"]


@pytest.mark.parametrize("request_", [OLD_GET, GET_AND_CLOSE])
def test_who_asks_for_a_close_is_told_and_gets_it(stand, request_):
    tested = stand(answering([b"abc"]))
    assert tested.ask(request_).headers["Connection"] == "close"
    assert tested.did == ["close"]


def test_an_application_can_close(stand):
    tested = stand(answering([b"abc"], LENGTH_3, ("Connection", "close")))
    assert tested.ask(GET).headers["Connection"] == "close"
    assert tested.did == ["close"]


@pytest.mark.parametrize("headers", [[], [LENGTH_3]])
@pytest.mark.parametrize("body", [[b"abc"], lambda: iter([b"ab", b"c"]), lambda: io.BytesIO(b"abc")])
def test_head_is_answered_without_a_body_and_the_connection_goes_on(stand, body, headers):
    tested = stand(answering(body, *headers))
    answer = tested.ask(HEAD)
    assert answer.body == b""
    assert answer.headers["Transfer-Encoding"] is None
    assert answer.headers["Content-Length"] in {"3", None}
    assert tested.did == ["read"]


def test_head_tells_the_length_of_a_body_that_was_made(stand):
    assert stand(answering([b"abc"])).ask(HEAD).headers["Content-Length"] == "3"


def test_head_does_not_take_an_empty_body_for_what_a_get_would_get(stand):
    assert stand(answering([])).ask(HEAD).headers["Content-Length"] is None


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("body", [[b"abc"], lambda: iter([b"ab", b"c"]), []])
def test_no_body_where_there_must_be_none(stand, tell_errors, status, body):
    tested = stand(answering(body, status=status))
    answer = tested.ask(GET)
    assert answer.body == b""
    assert answer.headers["Content-Length"] is None
    assert answer.headers["Transfer-Encoding"] is None
    assert tested.did == ["read"]
    assert not tell_errors()


@pytest.mark.parametrize("request_", [HEAD, GET])
def test_an_endless_iterable_ends_when_enough_was_sent(stand, request_):
    turns = LoggedTurns(iter(lambda: b"abcd", None))
    headers = [] if request_ == HEAD else [LENGTH_3]
    assert stand(answering(lambda: turns, *headers)).ask(request_).body in {b"", b"abc"}
    assert (turns.given, turns.closed) == (1, 1)


@pytest.mark.parametrize("body", [[b"abcd"], [b"ab", b"cd"], lambda: iter([b"abc", b"d", b"e"])])
def test_what_exceeds_content_length_is_cut_and_logged_once_and_the_connection_closed(stand, tell_errors, body):
    tested = stand(answering(body, LENGTH_3))
    assert tested.ask(GET).body == b"abc"
    assert tested.did == ["close"]
    assert len(tell_errors()) == 1


@pytest.mark.parametrize("body", [[b"ab"], [], lambda: iter([b"a", b"b"]), lambda: iter([])])
def test_less_than_content_length_is_logged_and_the_connection_closed(stand, tell_errors, body):
    tested = stand(answering(body, LENGTH_3))
    assert len(tested.ask(GET).body) < 3
    assert tested.did == ["close"]
    assert len(tell_errors()) == 1


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


# ---- files ----


def file_app(make, *headers, block=8192):
    made = []

    def app(environ, start_response):
        start_response("200 OK", list(headers))
        made.append(environ["wsgi.file_wrapper"](make(), block))
        return made[0]

    app.made = made
    return app


def plain(content=b"0123456789", at=0, **options):
    def make():
        file = tempfile.TemporaryFile(**options)  # noqa: SIM115 (the server closes it)
        file.write(content)
        file.seek(at)
        return file

    return make


@pytest.mark.parametrize("options", [{}, {"buffering": 0}])
@pytest.mark.parametrize(("at", "rest"), [(0, b"0123456789"), (7, b"789"), (10, b""), (11, b"")])
def test_a_file_is_sent_from_where_it_stands_and_closed(stand, options, at, rest):
    app = file_app(plain(at=at, **options))
    answer = stand(app).ask(GET)
    assert (answer.headers["Content-Length"], answer.body) == (str(len(rest)), rest)
    assert app.made[0].file.closed


@pytest.mark.parametrize("make", [plain(), lambda: io.BytesIO(b"0123456789")])
def test_a_file_longer_than_content_length_is_no_error(stand, tell_errors, make):
    app = file_app(make, LENGTH_3)
    tested = stand(app)
    assert tested.ask(GET).body == b"012"
    assert tested.did == ["read"]
    assert app.made[0].file.closed
    assert not tell_errors()


@pytest.mark.parametrize("make", [plain(), lambda: io.BytesIO(b"0123456789")])
def test_a_file_shorter_than_content_length_closes_the_connection(stand, tell_errors, make):
    tested = stand(file_app(make, ("Content-Length", "20")))
    assert tested.ask(GET).body == b"0123456789"
    assert tested.did[-1] == "close"
    assert len(tell_errors()) == 1


@pytest.mark.parametrize("make", [plain(), lambda: io.BytesIO(b"0123456789")])
def test_head_does_not_send_a_file(stand, make):
    app = file_app(make)
    tested = stand(app)
    assert tested.ask(HEAD).body == b""
    assert tested.did == ["read"]
    assert app.made[0].file.closed


def test_head_tells_the_length_of_a_file(stand):
    assert stand(file_app(plain())).ask(HEAD).headers["Content-Length"] == "10"


def test_a_file_that_unpacks_is_sent_unpacked(stand):
    packed = gzip.compress(b"hello" * 100)
    app = file_app(lambda: gzip.GzipFile(fileobj=plain(packed)()))
    assert stand(app).ask(GET).chunks == b"hello" * 100


def test_a_file_that_lies_about_its_size_is_read(stand):
    if not os.path.exists("/proc/version"):
        pytest.skip("no /proc")
    app = file_app(lambda: open("/proc/version", "rb"))  # noqa: SIM115
    assert b"Linux" in stand(app).ask(GET).chunks


@pytest.mark.parametrize("kind", ["pipe", "no fileno", "no close"])
def test_what_is_no_regular_file_is_read(stand, kind):
    class Bare:
        def __init__(self):
            self.read = io.BytesIO(b"0123456789").read

    def pipe():
        read, write = os.pipe()
        os.write(write, b"0123456789")
        os.close(write)
        return open(read, "rb")

    make = {"pipe": pipe, "no fileno": lambda: io.BytesIO(b"0123456789"), "no close": Bare}[kind]
    assert stand(file_app(make, block=4)).ask(GET).chunks == b"0123456789"


def test_a_text_file_is_an_error(stand, tell_errors):
    assert stand(file_app(lambda: io.StringIO("text"))).ask(GET).status == 500
    assert "not str" in tell_errors()[0]


def test_a_file_is_closed_when_a_slow_reader_has_it(slow_reader):
    app = file_app(plain(b"x" * MB))
    tested = slow_reader(app)
    tested.send(GET)
    assert tested.turn() == "write"
    assert not app.made[0].file.closed
    assert len(parse(tested.read_all()).body) == MB
    assert app.made[0].file.closed
    assert tested.did[-1] == "read"


def test_a_file_is_closed_once_when_the_client_goes_away(stand):
    closed = []

    def app(environ, start_response):
        start_response("200 OK", [])
        wrapper = environ["wsgi.file_wrapper"](plain()())
        wrapper.close = lambda: closed.append(1)
        return wrapper

    tested = stand(app)
    tested.send(GET)
    tested.theirs.close()
    assert tested.turn() == "close"
    assert closed == [1]


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_answer(slow_reader):
    app = file_app(plain(b"x" * MB))
    tested = slow_reader(app)
    tested.send(GET)
    tested.turn()
    app.made[0].file.truncate(10)
    assert len(tested.read_all()) < MB
    assert tested.did[-1] == "close"
    assert app.made[0].file.closed


def test_a_file_behind_written_bytes_is_sent_behind_them(stand):
    def app(environ, start_response):
        start_response("200 OK", [])(b"abc")
        return environ["wsgi.file_wrapper"](plain()())

    assert stand(app).ask(GET).chunks == b"abc0123456789"


def test_a_file_without_start_response_is_500_and_closed(stand, tell_errors):
    made = []

    def app(environ, start_response):
        made.append(plain()())
        return environ["wsgi.file_wrapper"](made[0])

    assert stand(app).ask(GET).status == 500
    assert made[0].closed


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
