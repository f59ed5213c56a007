"""Where answers end, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocket.bench.answers import MAX_HEAD, Answer, Unreadable

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", 5, True),
    "length in capitals": (OK + b"CONTENT-LENGTH:5\r\n\r\nhello", 5, True),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", 0, True),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 5, True),
    "chunks and a trailer": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", 5, True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 0, True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0, True),
    "after interim ones": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        2,
        True,
    ),
    "asked to close": (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", 5, False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 5, False),
    "old, kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", 5, True),
}


@pytest.mark.parametrize(("wire", "length", "keeps"), ANSWERS.values(), ids=ANSWERS)
@given(data=st.data())
def test_answer_ends_with_its_last_byte_however_it_is_cut(wire, length, keeps, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=6)))
    answer = Answer()
    pieces = [wire[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(wire)])]
    assert [answer.feed(piece) for piece in pieces] == [False] * len(cuts) + [True]
    assert answer.body_length == length
    assert answer.keeps is keeps


def test_answer_to_head_has_no_body():
    assert Answer(no_body=True).feed(OK + b"Content-Length: 5\r\n\r\n")


def test_answer_without_length_ends_with_the_connection():
    answer = Answer()
    assert not answer.feed(OK + b"\r\nhello")
    assert answer.end()
    assert not answer.keeps
    assert answer.body_length == 5


@pytest.mark.parametrize("cut", [b"", OK, OK + b"Content-Length: 5\r\n\r\nhell"])
def test_answer_that_is_cut_off_is_not_complete(cut):
    answer = Answer()
    answer.feed(cut)
    assert not answer.end()


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200" + b"x" * MAX_HEAD,
        OK + b"Content-Length: 5\r\n\r\nhello, world",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
    ],
)
def test_what_is_no_answer_is_said_to_be_none(wire):
    with pytest.raises(Unreadable):
        Answer().feed(wire)
