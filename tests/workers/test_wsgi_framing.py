"""Where an answer ends: Content-Length, chunks, closes, and what must not have a body (RFC 9112, 6)."""

import io

import pytest
from workers_helpers import GET, GET_AND_CLOSE, HEAD, LENGTH_3, MB, OLD_GET, OLD_GET_KEPT, LoggedTurns, answering, parse


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


@pytest.mark.parametrize("body", [[b"abcd"], [b"ab", b"cd"], lambda: iter([b"abcd", b"e"])])
@pytest.mark.parametrize("request_", [GET, OLD_GET_KEPT])
def test_an_answer_that_is_seen_to_be_too_long_says_that_the_connection_ends(stand, request_, body):
    """RFC 9112, 9.6: a client that has sent another request behind this one is told that nobody will answer it."""
    answer = stand(answering(body, LENGTH_3)).ask(request_)
    assert answer.body == b"abc"
    assert answer.headers.get_all("Connection") == ["close"]


def test_an_answer_to_head_may_tell_of_less_than_there_is(stand, tell_errors):
    tested = stand(answering([b"abcd"], LENGTH_3))
    assert tested.ask(HEAD).headers["Connection"] is None
    assert tested.did == ["read"]
    assert not tell_errors()


@pytest.mark.parametrize("body", [[b"ab"], [], lambda: iter([b"a", b"b"]), lambda: iter([])])
def test_less_than_content_length_is_logged_and_the_connection_closed(stand, tell_errors, body):
    tested = stand(answering(body, LENGTH_3))
    assert len(tested.ask(GET).body) < 3
    assert tested.did == ["close"]
    assert len(tell_errors()) == 1
