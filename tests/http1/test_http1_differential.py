"""What Rocket accepts, h11 and llhttp (httptools) understand in the same way.

Only this direction: Rocket may refuse what they accept (docs/http.md tells what and why), since a refusal cannot be
misunderstood. Every other difference that is known is a line in `H11_REFUSES`, `LLHTTP_REFUSES` or an
`if` with its reason.
"""

import re

import pytest
from http1_reader import LIMITS, good_requests, mutated_requests
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from rocket import http1
from rocket.errors import BadRequest

h11 = pytest.importorskip("h11")
httptools = pytest.importorskip("httptools")

LLHTTP_METHODS = re.findall(
    r"\S+",
    "ACL BIND CHECKOUT CONNECT COPY DELETE DESCRIBE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE "
    "NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND "
    "UNLINK UNLOCK UNSUBSCRIBE",
)

FRAMING_TRAILER = re.compile(rb"(?i)\n(transfer-encoding|content-length):").search

# Why a peer may refuse what Rocket takes: words, and a test of the request line and the whole data.
FRAMING_TRAILERS = (
    "trailers that frame (Rocket drops all trailers)",
    lambda head, data: head.length == http1.CHUNKED and FRAMING_TRAILER(data[head.end :]),
)
H11_REFUSES = [
    ("bytes above ASCII in the target", lambda head, data: not head.target.isascii()),
    ("empty lines before the request line", lambda head, data: data.startswith(b"\r\n")),
    FRAMING_TRAILERS,
]
LLHTTP_REFUSES = [
    FRAMING_TRAILERS,
    ("methods that it does not know", lambda head, data: head.method not in LLHTTP_METHODS),
    ("bytes above ASCII in the target", lambda head, data: not head.target.isascii()),
    ("minor versions above 1", lambda head, data: re.search(rb" HTTP/1\.[2-9]\r\n", data)),
    ("methods of other protocols (ICY, RTSP)", lambda head, data: head.method in {"SOURCE", "DESCRIBE"}),
    ("hosts in the target that are no name", lambda head, data: not re.match(r"/|\*|https?://[\w.]", head.target)),
]


def understand(data):
    """Return what Rocket understands of the first request in *data*: head, fields, body, rest. None if it refuses."""
    fields = {}
    try:
        head = http1.read_head(data, fields, LIMITS)
        if head is None:
            return None
        http1.split_target(head.method, head.target)
        body = data[head.end :]
        if head.length == http1.CHUNKED:
            decoder = http1.ChunkedBody(LIMITS)
            content = decoder.feed(body)
            return (head, fields, content, decoder.rest) if decoder.done else None
    except BadRequest:
        return None
    return (head, fields, body[: head.length], body[head.length :]) if len(body) >= head.length else None


def cgi(headers):
    """Return *headers*, as a peer gives them, as Rocket is to give them."""
    fields = {}
    for name, value in headers:
        key = name.decode("latin-1").upper().replace("-", "_")
        if b"_" in name or key == "PROXY":
            continue
        key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + key
        value = value.decode("latin-1").strip(" \t")  # llhttp leaves the white space at the end
        fields[key] = fields[key] + ("; " if key == "HTTP_COOKIE" else ",") + value if key in fields else value
    return fields


def known(reasons, head, data):
    found = [words for words, test in reasons if test(head, data)]
    for words in found:
        event(words)
    return bool(found)


def check_h11(data):
    ours = understand(data)
    assume(ours is not None)
    head, fields, content, rest = ours
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(data)
    body = b""
    try:
        request = peer.next_event()
        waits = peer.they_are_waiting_for_100_continue
        while True:
            following = peer.next_event()
            if isinstance(following, h11.EndOfMessage):
                break
            assert isinstance(following, h11.Data), following
            body += following.data
    except h11.RemoteProtocolError:
        assert known(H11_REFUSES, head, data)
        return
    assert (request.method.decode(), request.target.decode("latin-1")) == (head.method, head.target)
    if head.length == http1.CHUNKED:
        fields["HTTP_TRANSFER_ENCODING"] = "chunked"  # h11 writes it in lower case
    assert cgi(request.headers) == fields
    assert body == content
    assert peer.trailing_data[0] == rest
    assert head.expects_continue == (waits and head.length != 0)
    if head.minor == 1:  # h11 never keeps a connection of HTTP/1.0
        assert head.keep_alive == (peer.their_state is h11.DONE)


class Callbacks:
    def __init__(self):
        self.headers = []
        self.url = self.body = b""
        self.done = None
        self.reading_head = True

    def on_url(self, url):
        if self.done is None:
            self.url += url

    def on_header(self, name, value):
        if self.reading_head:
            self.headers.append((name, value))

    def on_headers_complete(self):
        self.reading_head = False

    def on_body(self, body):
        if self.done is None:
            self.body += body

    def on_message_complete(self):
        if self.done is None:
            self.done = (self.parser.should_keep_alive(), self.parser.get_method().decode())


def check_llhttp(data):
    ours = understand(data)
    assume(ours is not None)
    head, fields, content, rest = ours
    calls = Callbacks()
    calls.parser = httptools.HttpRequestParser(calls)
    try:
        calls.parser.feed_data(data[: len(data) - len(rest)])
    except httptools.HttpParserUpgrade:
        assert "HTTP_UPGRADE" in fields  # it stops there; Rocket ignores Upgrade (RFC 9110, 7.8)
    except httptools.HttpParserError:
        assert known(LLHTTP_REFUSES, head, data)
        return
    assert calls.done is not None, "llhttp waits for more"
    keep_alive, method = calls.done
    assert (method, calls.url.decode("latin-1")) == (head.method, head.target)
    assert cgi(calls.headers) == fields
    if "HTTP_UPGRADE" not in fields:
        assert calls.body == content
    connection = fields.get("HTTP_CONNECTION", "").lower()
    if head.minor == 0 and "keep-alive" in connection and "close" in connection:
        event("both keep-alive and close in HTTP/1.0: close wins (RFC 9112, 9.3)")
    else:
        assert keep_alive == head.keep_alive


@settings(max_examples=400)
@given(good_requests())
def test_h11_understands_good_requests_the_same_way(generated):
    check_h11(generated[0])


@settings(max_examples=600)
@given(mutated_requests())
def test_h11_understands_what_survives_mutation_the_same_way(data):
    check_h11(data)


@given(
    st.sampled_from([check_h11, check_llhttp]),
    st.sampled_from([b"Content-Length: 3", b"Transfer-Encoding: gzip", b"X: y"]),
)
def test_trailers_are_known_to_differ(check, trailer):
    check(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + trailer + b"\r\n\r\n")


@settings(max_examples=400)
@given(good_requests())
def test_llhttp_understands_good_requests_the_same_way(generated):
    check_llhttp(generated[0])


@settings(max_examples=600)
@given(mutated_requests())
def test_llhttp_understands_what_survives_mutation_the_same_way(data):
    check_llhttp(data)


CODES = st.builds("{} {}".format, st.integers(200, 999), st.sampled_from(["OK", "", "a b \xe9"]))
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["X-A", "Content-Type", "set-cookie", "Connection", "Date", "Transfer-Encoding"]),
        st.text('az ,;="\xe9', max_size=9).map(str.strip),
    ),
    max_size=5,
)


@given(CODES, HEADERS, st.binary(max_size=30))
def test_h11_reads_our_responses(status, headers, body):
    head = http1.format_head(status, [*headers, ("Content-Length", str(len(body)))])
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head.text.encode("latin-1") + b"\r\n" + (b"" if head.code in {204, 304} else body))
    response = client.next_event()
    assert (response.status_code, response.reason.decode("latin-1")) == (head.code, status[4:])
    hop = {"connection", "transfer-encoding"}
    sent = [(name.lower(), value) for name, value in headers if name.lower() not in hop]
    got = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
    assert [header for header in got if header[0] != "content-length"] == sent
    following = client.next_event()
    if body and head.code not in {204, 304}:
        assert following.data == body
        following = client.next_event()
    assert isinstance(following, h11.EndOfMessage)


@given(st.integers(400, 511), st.text(max_size=20))
def test_h11_reads_our_error_responses(status, message):
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(http1.error_response(status, message, http1.http_date(0), "rocket"))
    assert client.next_event().status_code == status
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert body.endswith(message.encode("utf-8", "backslashreplace") + b"\n")
    assert client.their_state is h11.MUST_CLOSE
