"""The environ, to the letter."""

import io
import socket
import sys

import pytest
from workers_helpers import GET, Stand, answering, post, post_chunks

from rocket.proxies import Proxies
from rocket.workers.environ import FileWrapper, Nowhere, base_environ


@pytest.fixture
def environ_of(stand):
    """What returns the environ of a request."""

    def ask(request, **options):
        seen = []

        def app(environ, start_response):
            seen.append({**environ, "body": environ["wsgi.input"].read()})
            return answering([])(environ, start_response)

        stand(app, **options).ask(request)
        return seen[0]

    return ask


def get(target, *fields):
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *fields]).encode("latin-1") + b"\r\n\r\n"


def test_all_that_pep_3333_wants_is_there_and_nothing_else(environ_of):
    environ = environ_of(GET, server_header="S/1")
    environ.pop("wsgi.input")
    assert environ.pop("wsgi.errors").write("") == 0
    assert environ.pop("rocket.stats")() == {"threads": 1}
    assert environ.pop("wsgi.early_hints")([]) is None
    assert environ == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "HTTP_HOST": "x",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "RAW_URI": "/",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4711",
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "S/1",
        "body": b"",
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": False,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
    }


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a%20b%2Fc?x=%20&y", "/a b/c", "x=%20&y"),
        ("/caf%C3%A9", "/caf\xc3\xa9", ""),
        ("/caf\xe9?\xe9", "/caf\xe9", "\xe9"),
        ("//a/../b%zz+?", "//a/../b%zz+", ""),
        ("/?a?b", "/", "a?b"),
        ("http://other:81/p?q", "/p", "q"),
        ("http://other", "/", ""),
    ],
)
def test_the_target_is_split_and_decoded_once(environ_of, target, path, query):
    environ = environ_of(get(target))
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"]) == (path, query, target)


def test_an_absolute_target_names_the_host(environ_of):
    assert environ_of(get("http://other:81/p"))["HTTP_HOST"] == "other:81"


@pytest.mark.parametrize("target", ["https://other/p", "HTTPS://other:443/", "https://other"])
def test_https_is_not_served_without_tls(stand, target):
    """RFC 9110, 7.4: a MUST. What the application would answer is for those who are to be protected."""
    tested = stand(lambda environ, start_response: pytest.fail("the application was called"))
    assert tested.ask(get(target)).status == 421
    assert tested.did[-1] in {"close", "read"}


def test_https_is_served_if_a_proxy_that_is_believed_has_the_tls(stand):
    seen = []

    def app(environ, start_response):
        seen.append((environ["wsgi.url_scheme"], environ["HTTP_HOST"]))
        start_response("204 No Content", [])
        return []

    tested = stand(app, proxies=Proxies(["192.0.2.1"]))
    assert tested.ask(get("https://other/p", "X-Forwarded-Proto: https")).status == 204
    assert tested.ask(get("https://other/p")).status == 421
    assert seen == [("https", "other")]


def test_options_asterisk_is_passed_on(environ_of):
    environ = environ_of(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (environ["PATH_INFO"], environ["RAW_URI"]) == ("*", "*")


def test_fields_of_one_name_are_joined(environ_of):
    environ = environ_of(get("/", "X-A: 1", "x-a:  2 ", "Cookie: a=1", "Cookie: b=2", "Content-Type: text/x"))
    assert (environ["HTTP_X_A"], environ["HTTP_COOKIE"]) == ("1,2", "a=1; b=2")
    assert environ["CONTENT_TYPE"] == "text/x"
    assert "HTTP_CONTENT_TYPE" not in environ


@pytest.mark.parametrize(
    "field", ["X_A: 1", "Remote_Addr: 1", "wsgi.input: 1", "Proxy: 1", "PATH-INFO: /x", "Server-Name: x"]
)
def test_fields_cannot_write_what_is_not_theirs(environ_of, field):
    environ = environ_of(get("/", field))
    assert "HTTP_X_A" not in environ
    assert "HTTP_PROXY" not in environ
    assert (environ["REMOTE_ADDR"], environ["PATH_INFO"], environ["SERVER_NAME"]) == ("192.0.2.1", "/", "localhost")


def test_http_1_0_is_said(environ_of):
    environ = environ_of(b"GET / HTTP/1.0\r\n\r\n")
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "HTTP_HOST" not in environ


@pytest.mark.parametrize("options", [{}, {"body_buffer": 2}])
@pytest.mark.parametrize(
    "request_", [post(b"abcdef"), post_chunks(b"4\r\nabcd\r\n2\r\nef\r\n0\r\nX-Trailer: 1\r\n\r\n")]
)
def test_a_collected_body_has_a_length_however_it_came(environ_of, request_, options):
    environ = environ_of(request_, **options)
    assert (environ["CONTENT_LENGTH"], environ["body"]) == ("6", b"abcdef")
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert "HTTP_X_TRAILER" not in environ


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("", None),
        ("0.0.0.0", None),
        ("::", None),
        ("192.0.2.9", "192.0.2.9"),
        ("::1", "[::1]"),
        ("a.example", "a.example"),
    ],
)
def test_a_url_can_be_made_of_server_name_and_port(host, name):
    environ = base_environ((host, "8000"), secure=False, software="S")
    assert environ["SERVER_NAME"] == (name or socket.gethostname())
    assert environ["SERVER_PORT"] == "8000"


def test_tls_is_https():
    assert base_environ(("x", "443"), secure=True, software="S")["wsgi.url_scheme"] == "https"


def test_what_an_application_does_to_its_environ_is_gone_with_the_request(stand):
    seen = []

    def app(environ, start_response):
        seen.append((dict(environ), environ["wsgi.input"], environ["wsgi.early_hints"]))
        for key in list(environ):
            environ[key] = None
        environ["HTTP_X_LEAK"] = "leak"
        return answering([])(lambda: None, start_response)

    tested = stand(app)
    tested.ask(GET)
    tested.ask(GET)
    (first, body, hints), (second, other_body, other_hints) = seen
    for environ in (first, second):
        del environ["wsgi.input"], environ["wsgi.early_hints"]
    assert first == second
    assert body is not other_body
    assert hints != other_hints


def test_nothing_in_the_shared_part_can_be_changed(stand):
    environ = base_environ(("x", "80"), secure=False, software="S")
    assert {type(value) for key, value in environ.items() if "." not in key} == {str}
    assert not [key for key, value in environ.items() if isinstance(value, (list, dict, set, bytearray))]


def test_two_listeners_have_environs_of_their_own(make_connection):
    seen = []

    def app(environ, start_response):
        seen.append(environ["SERVER_PORT"])
        return answering([])(environ, start_response)

    stands = [Stand(*make_connection(endpoint=("x", port)), app) for port in ("80", "81")]
    for port in (0, 1):
        connection, theirs = stands[port].connection, stands[port].theirs
        theirs.sendall(GET)
        stands[0].worker.run(connection)
    assert seen == ["80", "81"]


def test_errors_go_nowhere_without_a_standard_error():
    before, sys.stderr = sys.stderr, None
    try:
        errors = base_environ(("x", "80"), secure=False, software="S")["wsgi.errors"]
    finally:
        sys.stderr = before
    assert type(errors) is Nowhere
    assert errors.write("text") == 4
    errors.writelines(["a", "b"])
    errors.flush()
    print("text", file=errors)


def test_a_file_wrapper_reads_blocks_and_closes_what_can_be_closed():
    file = io.BytesIO(b"abcde")
    wrapper = FileWrapper(file, 2)
    assert list(wrapper) == [b"ab", b"cd", b"e"]
    wrapper.close()
    assert file.closed

    class Bare:
        read = io.BytesIO(b"abc").read

    assert not hasattr(FileWrapper(Bare()), "close")
