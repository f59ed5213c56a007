"""wsgi.file_wrapper: what is sent by sendfile(2), and when the file is closed."""

import gzip
import io
import os
import tempfile

import pytest
from workers_helpers import GET, HEAD, LENGTH_3, MB, parse


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
