"""What applications and log files were used to under Rocket 1.x, and still get."""

import http.client
import logging
import threading
import urllib.error
import urllib.request

import pytest
from classic_helpers import HERE, Lines
from core_helpers import PATIENCE, until

import rocket
from rocket.classic import Rocket

# --- What an application was used to ----------------------------------------------------------------------------------


def answering(*result):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return result[0]

    return app


@pytest.mark.parametrize("result", [["é", b"!"], ("é", b"!"), iter(["é", b"!"])], ids=["list", "tuple", "iterator"])
def test_text_stands_for_its_latin_1_bytes(run, result):
    assert run(answering(result))() == b"\xe9!"


def test_bytes_stay_the_list_that_they_were(run):
    assert run(answering([b"one", b"two"]))() == b"onetwo"


def test_an_iterables_close_is_called(run):
    closed = threading.Event()

    class Result:
        def __iter__(self):
            return iter([b"one", "two"])

        def close(self):
            closed.set()

    assert run(answering(Result()))() == b"onetwo"
    assert closed.wait(PATIENCE)


def test_a_file_goes_through(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)

    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    assert run(app)() == b"x" * 100_000


def test_environ_says_whether_there_is_one_thread(run):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [str(environ["wsgi.multithread"])]

    assert run(app)() == b"True"
    assert run(app, min_threads=1, max_threads=1)() == b"False"


def test_futures_are_there_if_asked_for(run):
    def app(environ, start_response):
        start_response("200 OK", [])
        if "wsgiorg.executor" not in environ:
            return [b"none"]
        future = environ["wsgiorg.executor"].submit(lambda: "done").remember("job")
        return [environ["wsgiorg.futures"]["job"].result(PATIENCE), str(future is environ["wsgiorg.futures"]["job"])]

    assert run(app)() == b"none"
    assert run({"wsgi_app": app, "futures": False})() == b"none"
    assert run({"wsgi_app": app, "futures": True})() == b"doneTrue"


# --- Loggers ---------------------------------------------------------------------------------------------------------


def test_requests_are_logged_as_they_were(make, loggers):
    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/fail":
            raise RuntimeError("as asked")
        told = [("Content-Length", "5")] if path == "/told" else []
        write = start_response("404 Not Found" if path == "/none" else "200 OK", told)
        if path == "/write":
            write(b"12345")
        return (each for each in [b"12", b"345"]) if path == "/blocks" else [b"12345"]

    handler = Lines()
    loggers["Rocket.Requests"].setLevel(logging.INFO)
    loggers["Rocket.Requests"].addHandler(handler)
    server = make(app)
    server.start(background=True)
    connection = http.client.HTTPConnection(*server.servers[0].addresses[0], timeout=PATIENCE)
    for path in ("/?q=1", "/told", "/none", "/write", "/blocks", "/fail"):
        connection.request("GET", path)
        connection.getresponse().read()
    server.stop()
    assert [line for _, _, line in handler.lines] == [
        '127.0.0.1 - "GET /?q=1 HTTP/1.1" - 200 5',
        '127.0.0.1 - "GET /told HTTP/1.1" - 200 5',
        '127.0.0.1 - "GET /none HTTP/1.1" - 404 5',
        '127.0.0.1 - "GET /write HTTP/1.1" - 200 10',
        '127.0.0.1 - "GET /blocks HTTP/1.1" - 200 5',
        '127.0.0.1 - "GET /fail HTTP/1.1" - 500 0',
    ]


def test_errors_reach_the_handlers_of_rocket_once(run, loggers, caplog):
    handler = Lines()
    loggers["Rocket"].addHandler(handler)

    def fail(environ, start_response):
        raise RuntimeError("as asked")

    ask = run(fail)
    Rocket(HERE, "wsgi", {"wsgi_app": fail})  # a second one does not listen a second time
    with pytest.raises(urllib.error.HTTPError):
        ask()
    until(lambda: handler.lines)
    errors = [line for line in handler.lines if line[1] == "ERROR"]
    assert len(errors) == 1
    assert errors[0][0] == "Rocket.Errors.worker"
    assert "as asked" in errors[0][2]
    assert sum("as asked" in record.getMessage() for record in caplog.records) == 1  # the root hears it once


def test_start_and_stop_are_told(make, loggers):
    handler = Lines()
    loggers["Rocket"].setLevel(logging.INFO)
    loggers["Rocket"].addHandler(handler)
    server = make()
    server.start(background=True)
    port = server.servers[0].addresses[0][1]
    server.stop()
    server.stop()
    assert [line for name, _, line in handler.lines if name == "Rocket"] == [
        f"Starting {rocket.SERVER_SOFTWARE}",
        f"Listening on sockets: 127.0.0.1:{port}",
        f"Stopping {rocket.SERVER_SOFTWARE}",
    ]
