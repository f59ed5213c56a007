"""Bodies as they are received: piece after piece, no more than a turn's worth, and nothing of what follows them."""

from collections import deque

import pytest
from workers_helpers import GET

from rocket import http1
from rocket.connection import RECEIVE_BYTES, Connection
from rocket.errors import BadRequest
from rocket.http1 import CHUNKED, Limits
from rocket.workers import Options, pieces
from rocket.workers.stream import READS, Incoming

RECORD = 16384  # bytes: the longest of a TLS record, which may come on top of what is received


class Wire:
    """A socket on which *data* has come, of which it gives *most* bytes at a time; then nothing more."""

    def __init__(self, data, most):
        self.data = memoryview(data)
        self.most = most
        self.receives = 0

    def fileno(self):
        return -1

    def recv(self, size):
        """Like TLS, it may give more than *size*."""
        return self._give(self.most)

    def recv_into(self, view):
        given = self._give(min(self.most, len(view)))
        view[: len(given)] = given
        return len(given)

    def _give(self, size):
        if not self.data:
            raise BlockingIOError
        self.receives += 1
        given, self.data = bytes(self.data[:size]), self.data[size:]
        return given


def body(length):
    return Incoming(http1.Head("POST", "/", 1, 0, length, True, False), Options(limits=Limits()))


def chunked(content):
    half = len(content) // 2
    return b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in (content[:half], content[half:])) + b"0\r\n\r\n"


CONTENT = bytes(range(256)) * 16 * 700  # 2.7 MiB: some pieces
SENT = {"length": (len(CONTENT), False, CONTENT), "TLS": (len(CONTENT), True, CONTENT)}
SENT["chunks"] = CHUNKED, False, chunked(CONTENT)


@pytest.mark.parametrize("kind", SENT)
@pytest.mark.parametrize("most", [70_000 // 4, RECEIVE_BYTES, RECEIVE_BYTES + RECORD])
def test_a_body_is_whole_whatever_the_sizes_that_it_comes_in(kind, most):
    length, secure, data = SENT[kind]
    incoming, wire = body(length), Wire(data + GET, most)
    connection = Connection(wire, secure=secure)
    piece, got = pieces.borrow(), b""
    while not incoming.done:
        came, count = incoming.receive(connection, piece)
        assert came
        assert not connection.buffer  # what is there and not in the system wakes nobody
        got += piece[:count]
    assert got == CONTENT
    assert incoming.rest + bytes(wire.data) == GET


@pytest.mark.parametrize("kind", SENT)
def test_a_turn_takes_no_more_than_a_piece(kind):
    length, secure, data = SENT[kind]
    wire = Wire(data, RECEIVE_BYTES)
    came, count = body(length).receive(Connection(wire, secure=secure), pieces.borrow())
    assert came
    assert count <= len(data) - len(wire.data) <= pieces.PIECE_BYTES


@pytest.mark.parametrize("kind", SENT)
def test_a_turn_has_an_end_when_bytes_come_one_by_one(kind):
    length, secure, data = SENT[kind]
    wire = Wire(data, 1)
    assert body(length).receive(Connection(wire, secure=secure), pieces.borrow())[0]
    assert wire.receives == READS


@pytest.mark.parametrize("kind", SENT)
def test_nothing_that_comes_is_told_from_nothing_of_the_body(kind):
    length, secure, _ = SENT[kind]
    incoming, wire = body(length), Wire(b"", 1)
    connection = Connection(wire, secure=secure)
    assert incoming.receive(connection, pieces.borrow()) == (False, 0)
    if length == CHUNKED:
        wire.data = memoryview(b"5\r\n")
        assert incoming.receive(connection, pieces.borrow()) == (True, 0)
    assert not connection.eof


@pytest.mark.parametrize("kind", SENT)
def test_the_end_of_the_stream_is_seen(kind, make_connection):
    length, secure, _ = SENT[kind]
    connection, peer = make_connection(secure=secure)
    peer.sendall(b"5\r\nab")
    peer.close()
    incoming = body(length)
    came, count = incoming.receive(connection, pieces.borrow())
    assert (came, count) == (True, 2 if length == CHUNKED else 5)
    assert connection.eof
    assert not incoming.done


def test_broken_chunks_are_refused():
    with pytest.raises(BadRequest):
        body(CHUNKED).receive(Connection(Wire(b"5\r\nabcdefgh", 100)), pieces.borrow())


def test_pieces_are_used_again_and_few_are_kept(monkeypatch):
    monkeypatch.setattr(pieces, "_spare", deque())
    borrowed = [pieces.borrow() for _ in range(pieces.KEPT + 2)]
    assert len({id(piece.obj) for piece in borrowed}) == len(borrowed)
    for piece in borrowed:
        pieces.give_back(piece)
    again = [pieces.borrow() for _ in borrowed]
    assert sum(any(piece is one for one in borrowed) for piece in again) == pieces.KEPT
