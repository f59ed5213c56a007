"""Bodies beyond memory: a temporary file that takes little or no more, and bodies that are broken off, or stall."""

import gc
import io
import weakref

import pytest
from workers_helpers import answering, parse, post

from rocket.workers.tasks import BodyTask, SpooledBody

KB = 1024
OK = answering([b"ok"], ("Content-Length", "2"))


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Stingy(io.FileIO):
    """A temporary file that takes *appetite* bytes at a time, and *room* in all."""

    appetite = 1000
    room = 1 << 30

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        written = super().write(memoryview(data)[: min(self.appetite, self.room)])
        self.room -= written
        return written


def spooling(tested, path, room=1 << 30):
    """Have *tested* keep the body that it is in the middle of in a `Stingy` file."""
    file = Stingy(path, "w+")
    file.room = room
    tested.connection.task._file = io.BufferedRandom(file)


def test_a_file_that_takes_little_at_a_time_gets_all_of_a_body(stand, tmp_path):
    body = bytes(range(251)) * 400
    tested = stand(echo, body_buffer=0)
    tested.send(post(b"", length=len(body)))
    tested.turn()
    spooling(tested, tmp_path / "body")
    tested.send(body[:70_001])
    tested.turn()
    assert tested.ask(body[70_001:]).body == body


@pytest.mark.parametrize("room", [0, 1, 9_999, 69_999])
def test_a_disk_that_is_full_in_the_middle_of_a_body_is_503_and_the_application_is_not_called(
    stand, tell_errors, tmp_path, room
):
    calls = []
    tested = stand(lambda environ, start_response: calls.append(1), body_buffer=0)
    tested.send(post(b"", length=100_000))
    tested.turn()
    spooling(tested, tmp_path / "body", room)
    tested.send(bytes(70_000))
    tested.turn()
    tested.send(bytes(30_000))
    while tested.did[-1] == "read" and isinstance(tested.connection.task, BodyTask):
        tested.turn()
    assert parse(tested.received()).status == 503
    assert not calls
    assert "No space left" in tell_errors()[0]


@pytest.mark.parametrize("size", [KB - 1, KB, KB + 1])
@pytest.mark.parametrize("first", [1, KB - 1])
def test_only_what_is_longer_than_body_buffer_goes_to_a_file(stand, size, first):
    def app(environ, start_response):
        assert isinstance(environ["wsgi.input"], SpooledBody) == (size > KB)
        return echo(environ, start_response)

    tested = stand(app, body_buffer=KB)
    body = bytes(range(256)) * 4 + b"x"
    tested.send(post(body[:first], length=size))
    tested.turn()
    if first < size:
        tested.send(body[first:size])
        tested.turn()
    assert parse(tested.received()).body == body[:size]


def test_a_piece_beyond_body_buffer_is_never_in_memory(stand):
    class Seen(io.BytesIO):
        most = 0

        def write(self, data):
            Seen.most = max(Seen.most, self.tell() + len(data))
            return super().write(data)

    tested = stand(echo, body_buffer=KB)
    tested.send(post(b"", length=30 * KB))
    tested.turn()
    tested.connection.task._memory = Seen()
    tested.send(bytes(KB))
    tested.turn()
    assert tested.ask(bytes(29 * KB)).body == bytes(30 * KB)
    assert Seen.most == KB


def test_a_body_that_was_received_is_not_touched_by_those_that_come_later(stand):
    kept = []

    def app(environ, start_response):
        kept.append(environ["wsgi.input"])
        return OK(environ, start_response)

    tested = stand(app, body_buffer=KB)
    for byte in b"ab":
        for size in (KB, 9 * KB):
            tested.send(post(b"", length=size))
            tested.turn()
            assert tested.ask(bytes([byte]) * size).status == 200
    assert [body.read() for body in kept] == [b"a" * KB, b"a" * 9 * KB, b"b" * KB, b"b" * 9 * KB]


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_goes_away_in_a_body_on_disk_leaves_no_file(stand, tell_errors, how):
    calls = []
    tested = stand(lambda environ, start_response: calls.append(1), body_buffer=2)
    tested.send(post(b"", length=9 * KB))
    tested.turn()
    tested.send(bytes(5 * KB))
    tested.turn()
    file = weakref.ref(tested.connection.task._file)
    assert isinstance(file(), SpooledBody)
    if how == "end":
        tested.theirs.shutdown(1)
    else:
        tested.theirs.close()
    assert tested.turn() == "close"
    gc.collect()
    assert file() is None
    assert not calls
    assert not tell_errors()


def test_a_body_on_disk_that_stalls_is_begun_with_what_there_is_and_whole_at_the_end(stand):
    body = bytes(range(256)) * 40

    def app(environ, start_response):
        tested.send(body[9 * KB :])
        return echo(environ, start_response)

    tested = stand(app, body_buffer=2, early=1)
    tested.send(post(body[:1], length=len(body)))
    tested.turn()
    tested.send(body[1 : 9 * KB])
    tested.turn()
    assert tested.expire()
    tested.turn()
    assert parse(tested.received()).body == body
    assert (tested.early, tested.ended_early) == (0, 1)
