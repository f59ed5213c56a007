"""The demo application, under the validator of PEP 3333 and on no server at all."""

import io
import json
import re
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from rocket.demo import LONGEST_SLEEP_SECONDS, _seconds, application


class Answer:
    """What the application answers to a request, with all of the protocol checked on the way."""

    def __init__(self, path, method="GET", body=b"", **environ):
        path, _, query = path.partition("?")
        self.environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": query, "SCRIPT_NAME": ""}
        self.environ["wsgi.input"] = io.BytesIO(body)
        if body:
            self.environ["CONTENT_LENGTH"] = str(len(body))
        setup_testing_defaults(self.environ)
        self.environ.update(environ)
        result = validator(application)(self.environ, self._start_response)
        try:
            self.pieces = list(result)
        finally:
            result.close()
        self.body = b"".join(self.pieces)
        self.text = self.body.decode("utf-8", "replace")

    def _start_response(self, status, headers, exc_info=None):
        self.status = int(status[:3])
        self.headers = dict(headers)
        return lambda data: None


def test_the_page_is_self_contained():
    page = Answer("/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert not re.search(r"(src|href)=\"?(https?:)?//", page.text)
    assert "$" not in page.text.partition("<script>")[0]


def test_the_page_shows_the_request_escaped():
    page = Answer("/", HTTP_USER_AGENT="<script>alert(1)</script>", HTTP_COOKIE="a=\"b\"&c='d'")
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in page.text
    assert "<td>a=&quot;b&quot;&amp;c=&#x27;d&#x27;</td>" in page.text


def test_the_page_does_not_show_the_environment_of_the_process():
    assert "hunter2" not in Answer("/", DATABASE_PASSWORD="hunter2").text


def test_the_page_shows_utf_8_as_text():
    assert "<td>Grüße</td>" in Answer("/", HTTP_X_NAME="Grüße".encode().decode("latin-1")).text


def test_the_page_links_to_where_it_is_mounted():
    page = Answer("/", SCRIPT_NAME='/a"b')
    assert 'href="/a%22b/hello"' in page.text
    assert 'data-url="/a%22b/stats"' in page.text


def test_the_page_knows_whether_rocket_serves_it():
    assert 'data-served="no"' in Answer("/").text
    assert 'data-served="yes"' in Answer("/", **{"rocket.stats": dict}).text


def test_the_figures_are_json():
    figures = {"threads": 3, "parked": {"head": 1}, "policy": object}
    answer = Answer("/stats", **{"rocket.stats": lambda: figures})
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.text) == {"threads": 3, "parked": {"head": 1}, "policy": str(object)}


def test_another_server_has_no_figures():
    answer = Answer("/stats")
    assert answer.status == 404
    assert json.loads(answer.text) == {"error": "not served by Rocket"}


def test_hello_is_plain_text():
    answer = Answer("/hello")
    assert (answer.status, answer.text) == (200, "Hello, world!\n")
    assert answer.headers["Content-Length"] == "14"


@pytest.mark.parametrize("body", [b"", b"a\r\n\x00\xff", b"x" * 200_000])
def test_echo_returns_the_body(body):
    answer = Answer("/echo", "POST", body, CONTENT_TYPE="text/html")
    assert answer.body == body
    assert answer.headers["Content-Type"] == "application/octet-stream"


def test_echo_reads_a_body_of_unknown_length_if_the_server_ends_it():
    parts = {"wsgi.input": io.BytesIO(b"abc")}
    assert Answer("/echo", "PUT", **parts).body == b""
    assert Answer("/echo", "PUT", **parts, **{"wsgi.input_terminated": True}).body == b"abc"


def test_echo_ends_when_the_client_does():
    assert Answer("/echo", "POST", b"abc", CONTENT_LENGTH="5").body == b"abc"


def test_sleep_says_how_long():
    assert Answer("/sleep?s=0").text == "Slept for 0 s\n"


def test_sleep_is_bounded():
    assert _seconds({"QUERY_STRING": "s=1e9"}, "s", 0.1) == LONGEST_SLEEP_SECONDS
    assert _seconds({"QUERY_STRING": "s=inf"}, "s", 0.1) == LONGEST_SLEEP_SECONDS
    assert _seconds({}, "s", 0.1) == 0.1


@pytest.mark.parametrize("path", ["/sleep?s=abc", "/sleep?s=-1", "/sleep?s=nan", "/stream?n=abc", "/stream?s=x"])
def test_what_is_no_number_is_refused(path):
    assert Answer(path).status == 400


def test_stream_sends_a_body_in_pieces_of_no_announced_length():
    answer = Answer("/stream?n=3&s=0")
    assert answer.pieces == [b"chunk 1 of 3\n", b"chunk 2 of 3\n", b"chunk 3 of 3\n"]
    assert "Content-Length" not in answer.headers


def test_the_form_posts_to_itself():
    answer = Answer("/form", SCRIPT_NAME="/demo")
    assert 'action="/demo/form"' in answer.text
    assert "What arrived" not in answer.text


def test_the_form_shows_what_arrived_escaped():
    answer = Answer(
        "/form", "POST", b"name=%3Cb%3E%C3%A4&%3Ci%3E=%FF&empty=", CONTENT_TYPE="application/x-www-form-urlencoded"
    )
    assert "<th scope=row>name</th><td>&lt;b&gt;ä</td>" in answer.text
    assert "<th scope=row>&lt;i&gt;</th><td>\ufffd</td>" in answer.text
    assert "<th scope=row>empty</th><td></td>" in answer.text


def test_the_form_takes_no_other_type_and_no_large_body():
    assert Answer("/form", "POST", b"{}", CONTENT_TYPE="application/json").status == 415
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    assert Answer("/form", "POST", b"a" * 70_000, CONTENT_TYPE=kind).status == 413
    assert "<p>Nothing.</p>" in Answer("/form", "POST", CONTENT_TYPE=kind).text


def test_other_paths_are_not_found():
    answer = Answer("/<b>")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")


def test_other_methods_are_not_allowed():
    answer = Answer("/form", "DELETE")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST, HEAD")
    assert Answer("/echo").headers["Allow"] == "POST, PUT"


def test_head_is_answered_like_get():
    assert Answer("/hello", "HEAD").headers["Content-Length"] == "14"


def test_the_root_may_have_an_empty_path():
    assert Answer("", SCRIPT_NAME="/demo").status == 200
