"""What a connection behind a proxy goes through: the PROXY header, and the fields that its requests bring."""

import socket
import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workers_helpers import GET, Stand, TimedWorker, parse, post

from rocket.connection import Connection
from rocket.errors import ConnectionLost
from rocket.proxies import VERSIONS, Proxies
from rocket.proxies.protocol import SIGNATURE
from rocket.workers import READ_MORE
from rocket.workers.proxied import ProxyTask

LINE = b"PROXY TCP4 198.51.100.7 203.0.113.9 56324 443\r\n"
TLS_HEADER = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 20) + bytes([198, 51, 100, 7, 203, 0, 113, 9])
TLS_HEADER += struct.pack("!HH", 56324, 443) + b"\x20\0\x05\1\0\0\0\0"
LOCAL = SIGNATURE + b"\x20\0\0\0"
UNKNOWN = b"PROXY UNKNOWN\r\n"
PEER = "192.0.2.1"  # that of the fixture `make_connection`
SPOOFED = GET[:-2] + b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=7.7.7.7\r\n\r\n"


class HandshakeTask:
    """Stands for what comes before HTTP."""

    light = True

    def step(self, worker, connection):
        connection.fill()
        return READ_MORE


class Recorder:
    """An application that keeps the texts of each environ: the body is a file, which is to be closed in time."""

    def __init__(self):
        self.environs = []

    def __call__(self, environ, start_response):
        environ["wsgi.input"].read()
        self.environs.append({key: value for key, value in environ.items() if isinstance(value, str)})
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    @property
    def client(self):
        environ = self.environs[-1]
        return environ["REMOTE_ADDR"], environ["REMOTE_PORT"], environ["wsgi.url_scheme"]


@pytest.fixture
def app():
    return Recorder()


@pytest.fixture
def proxied(stand, app):
    """What makes a `Stand` whose connection begins with a PROXY header."""

    def make(*listed, mode="on", then=None, worker=TimedWorker, **options):
        made = stand(app, worker=worker, proxies=Proxies(listed or [PEER], **options))
        made.connection.task = ProxyTask(VERSIONS[mode], then)
        made.connection.deadline = made.worker._clock() + made.worker.options.head_timeout
        return made

    return make


# ---- header fields ----


@pytest.mark.parametrize("listed", [[], ["192.0.2.2"], ["unix"]])
def test_fields_of_a_peer_that_is_not_listed_do_not_reach_the_application(stand, app, listed):
    tested = stand(app, proxies=Proxies(listed))
    long = b"X-Long: " + b"x" * 300 + b"\r\n\r\n"
    for request in [SPOOFED] * 4 + [SPOOFED[:-2] + long] * 4:  # what comes again may be remembered, but not believed
        tested.ask(request)
        assert app.client == (PEER, "4711", "http")
        assert not [key for key in app.environs[-1] if "FORWARD" in key.upper()]


def test_fields_of_a_listed_peer_are_believed(stand, app):
    tested = stand(app, proxies=Proxies(["192.0.2.0/24"]))
    for _ in range(4):
        tested.ask(SPOOFED)
        assert app.client == ("6.6.6.6", "", "https")
        assert "HTTP_FORWARDED" not in app.environs[-1]
    tested.ask(GET)
    assert app.client == (PEER, "4711", "http")


@pytest.mark.parametrize(("listed", "client"), [(["unix"], "6.6.6.6"), (["127.0.0.1"], "")])
def test_the_peer_of_a_unix_socket_may_be_listed(app, listed, client):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(20)
    connection = Connection(ours, ("", ""))
    with theirs:
        Stand(connection, theirs, app, proxies=Proxies(listed)).ask(SPOOFED)
        connection.close()
    assert app.client[0] == client


def test_fields_on_a_request_with_a_body_are_treated_alike(stand, app):
    tested = stand(app, proxies=Proxies([PEER]), body_buffer=2)
    tested.ask(post(b"abcdef", "X-Forwarded-For: 6.6.6.6"))
    assert app.client[0] == "6.6.6.6"


def test_a_proxy_that_writes_nonsense_is_400_and_the_application_is_not_called(stand, app):
    tested = stand(app, proxies=Proxies([PEER]))
    answer = tested.ask(GET[:-2] + b"X-Forwarded-For: nonsense\r\n\r\n")
    assert answer.status == 400
    assert b"X-Forwarded-For: not an address: 'nonsense'" in answer.body
    assert not app.environs


def test_the_name_of_a_field_may_be_written_in_any_case(stand, app):
    stand(app).ask(GET[:-2] + b"x-forwarded-for: 6.6.6.6\r\nX-FORWARDED-PROTO: https\r\nx-rEAL-ip: 1\r\n\r\n")
    assert app.client == (PEER, "4711", "http")
    assert app.environs[-1].keys().isdisjoint(["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP"])


# ---- the PROXY protocol ----


@pytest.mark.parametrize(("header", "scheme"), [(LINE, "http"), (TLS_HEADER, "https")])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_all_requests_of_the_connection_are_the_clients(proxied, app, header, scheme, size):
    tested = proxied()
    data = header + GET
    for at in range(0, len(data), size):
        assert not app.environs
        tested.send(data[at : at + size])
        assert tested.turn() == "read"
    tested.send(GET)
    tested.turn()
    assert len(app.environs) == 2
    for environ in app.environs:
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("198.51.100.7", "56324")
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("203.0.113.9", "443")
        assert environ["wsgi.url_scheme"] == scheme
    assert tested.connection.peer == ("198.51.100.7", "56324")


def test_the_same_bytes_of_another_client_are_another_request(proxied, make_connection, app):
    tested = proxied()
    endpoint = tested.connection.endpoint
    for header, scheme in [(LINE, "http"), (TLS_HEADER, "https")] * 4:
        connection, theirs = make_connection()
        connection.endpoint = endpoint  # one listener's
        connection.task = ProxyTask(VERSIONS["on"])
        connection.deadline = 0.0
        theirs.sendall(header + GET)
        tested.worker.run(connection)
        assert app.client == ("198.51.100.7", "56324", scheme)
        theirs.sendall(GET)
        tested.worker.run(connection)
        assert app.client == ("198.51.100.7", "56324", scheme)


def test_not_a_byte_behind_the_header_is_taken(proxied):
    then = HandshakeTask()
    tested = proxied(then=then)
    tested.send(LINE + b"\x16\x03\x01")
    tested.turn()
    assert tested.connection.task is then
    assert tested.connection.buffer == b"\x16\x03\x01"


def test_a_header_is_read_in_front_of_tls_also_if_the_socket_is_wrapped_already(make_connection, app):
    connection, theirs = make_connection()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connection.sock = context.wrap_socket(connection.sock, server_side=True, do_handshake_on_connect=False)
    connection.secure = True
    tested = Stand(connection, theirs, app, proxies=Proxies([PEER]))

    class Handshake(HandshakeTask):
        def step(self, worker, connection):
            with pytest.raises(ssl.SSLError):  # it sees the next byte, which is no handshake
                connection.sock.do_handshake()
            raise ConnectionLost("no handshake")

    connection.task = ProxyTask(VERSIONS["on"], Handshake())
    tested.send(LINE + b"GET / HTTP/1.1\r\n\r\n")
    assert tested.turn() == "close"
    assert connection.peer == ("198.51.100.7", "56324")


def test_a_worker_is_needed_only_if_a_request_may_follow():
    assert not ProxyTask(VERSIONS["on"]).light
    assert ProxyTask(VERSIONS["on"], HandshakeTask()).light


def test_a_bad_header_in_front_of_tls_is_not_answered(proxied):
    tested = proxied(then=HandshakeTask())
    tested.send(GET)
    assert tested.turn() == "close"
    assert tested.received() == b""


@pytest.mark.parametrize(("listed", "client"), [([PEER], "6.6.6.6"), (["*"], "6.6.6.6")])
def test_a_proxy_that_speaks_for_itself_is_itself(proxied, app, listed, client):
    tested = proxied(*listed)
    tested.ask(LOCAL + GET)
    assert app.client == (PEER, "4711", "http")
    tested.ask(SPOOFED)
    assert app.client[0] == client


@pytest.mark.parametrize("header", [UNKNOWN, SIGNATURE + b"\x21\0\0\0", SIGNATURE + b"\x21\x31\0\xd8" + bytes(216)])
def test_who_is_not_known_is_not_a_proxy(proxied, app, header):
    tested = proxied(PEER, "*", "unix")
    tested.ask(header + SPOOFED)
    assert app.client == (PEER, "4711", "http")


@pytest.mark.parametrize(
    ("listed", "client"),
    [([PEER], "198.51.100.7"), (["*"], "198.51.100.7"), ([PEER, "198.51.100.0/24"], "6.6.6.6")],
)
def test_fields_are_those_of_the_client_that_the_header_names(proxied, app, listed, client):
    """If that client is a proxy, too, it is believed: a CDN in front of a load balancer."""
    tested = proxied(*listed)
    tested.ask(LINE + SPOOFED)
    assert app.client[0] == client


def test_a_second_header_is_no_header(proxied):
    tested = proxied()
    assert tested.ask(LINE + LINE + GET).status == 400


def test_a_header_behind_a_request_is_no_header(proxied, app):
    tested = proxied()
    tested.ask(LINE + GET)
    assert tested.ask(LINE + GET).status == 400
    assert len(app.environs) == 1


@pytest.mark.parametrize("mode", ["on", "v1", "v2"])
def test_a_request_without_the_header_is_400_and_named(proxied, app, mode):
    answer = proxied(mode=mode).ask(GET)
    assert answer.status == 400
    assert b"must begin with a PROXY protocol header" in answer.body
    assert b"GET / HTTP/1.1" in answer.body
    assert not app.environs


def test_a_peer_that_is_not_listed_may_not_send_one(proxied, app):
    answer = proxied("10.0.0.0/8").ask(LINE + GET)
    assert answer.status == 400
    assert b"only the proxies in forwarded_allow_ips" in answer.body
    assert not app.environs


def test_a_refusal_is_followed_by_a_close(proxied):
    tested = proxied()
    tested.ask(b"PROXY nonsense\r\n")
    tested.theirs.shutdown(socket.SHUT_WR)
    assert tested.turn() == "close"


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 19"])
def test_a_proxy_that_goes_away_in_its_header_is_forgotten(proxied, tell_errors, sent):
    tested = proxied()
    tested.send(sent)
    tested.theirs.shutdown(socket.SHUT_WR)
    assert tested.turn() == "close"
    assert tested.received() == b""
    assert not tell_errors()


def test_a_header_that_comes_too_slowly_is_408(proxied):
    tested = proxied()
    deadline = tested.connection.deadline
    for byte in LINE[:20]:
        tested.send(bytes([byte]))
        assert tested.turn() == "read"
        assert tested.connection.deadline == deadline  # it is the whole header's
    tested.send(LINE[20:])
    assert not tested.expire()
    answer = parse(tested.received())
    assert answer.status == 408
    assert b"PROXY" in answer.body


def test_a_silent_connection_is_closed_at_its_deadline_but_looked_at_once_more(proxied, app):
    tested = proxied()
    tested.send(LINE + GET)
    assert tested.expire()  # it is ready, after all
    tested.turn()
    assert app.environs
    silent = proxied()
    assert not silent.expire()
    assert silent.did == ["close"]


def test_half_a_header_does_not_keep_the_socket_readable(proxied):
    """Else the monitor would report it without end."""
    tested = proxied()
    tested.send(LINE[:30])
    tested.turn()
    with pytest.raises(BlockingIOError):
        tested.connection.sock.recv(1)


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(TLS_HEADER + GET)), max_size=6), st.sampled_from([LINE, TLS_HEADER, LOCAL, UNKNOWN]))
def test_any_split_of_header_and_request_is_the_same_request(cuts, header):
    app = Recorder()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(20)
    connection = Connection(ours, (PEER, "4711"))
    connection.task = ProxyTask(VERSIONS["on"])
    connection.deadline = 0.0
    tested = Stand(connection, theirs, app, proxies=Proxies([PEER]))
    data = header + GET + GET
    with theirs:
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)]):
            tested.send(data[begin:end])
            while tested.turn() == "submit":
                pass
        connection.close()
    assert len(app.environs) == 2
    assert {environ["REMOTE_ADDR"] for environ in app.environs} == {
        PEER if header in {LOCAL, UNKNOWN} else "198.51.100.7"
    }
