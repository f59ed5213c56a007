"""Requests whose bytes came before: they are answered like the first, and what is remembered is bounded."""

import pytest
from workers_helpers import GET, HEAD, OLD_GET_KEPT, answering, post

from rocket.workers import WSGIWorker
from rocket.workers.heads import LONGEST, HeadCache


def echo(environ, start_response):
    """Answer the environ, but for what is new in each."""
    new = {"wsgi.input", "wsgi.early_hints", "wsgi.errors", "REMOTE_PORT", "rocket.stats"}
    body = repr(sorted((key, environ[key]) for key in environ if key not in new)).encode()
    environ["HTTP_HOST"] = "spoilt"
    environ["spoilt"] = True
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def request(*fields, target="/"):
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


@pytest.mark.parametrize("data", [GET, HEAD, OLD_GET_KEPT, request("X-A: 1", "x-a: 2", target="/%41?q=%42")])
def test_the_same_bytes_get_the_same_answer(stand, data):
    tested = stand(echo)
    answers = [tested.ask(data) for _ in range(4)]
    assert list(tested.worker._heads.known) == [data]
    assert len({(answer.status, answer.body) for answer in answers}) == 1
    assert tested.connection.requests == 4


def test_the_last_request_of_a_connection_says_so_also_if_it_is_known(stand):
    tested = stand(answering([b""]))
    for _ in range(3):
        tested.ask(GET)
    tested.worker.draining = True
    assert tested.ask(GET).headers["Connection"] == "close"
    assert tested.did[-1] == "close"


def test_a_known_request_counts_towards_the_limit(stand):
    tested = stand(answering([b""]), max_requests=4)
    assert [tested.ask(GET).headers["Connection"] for _ in range(4)] == [None, None, None, "close"]


def test_what_came_in_pieces_is_found_too(stand):
    tested = stand(echo)
    whole = [tested.ask(GET) for _ in range(3)]
    tested.send(GET[:20])
    tested.turn()
    assert tested.ask(GET[20:]).body == whole[0].body


def test_another_endpoint_is_another_environ(stand):
    tested = stand(echo)
    for _ in range(3):
        before = tested.ask(GET).body
    here, tested.connection.endpoint = tested.connection.endpoint, ("elsewhere", "81")
    tested.connection.environ = None  # as of a new connection
    assert b"elsewhere" in tested.ask(GET).body
    tested.connection.endpoint = here
    tested.connection.environ = None
    assert tested.ask(GET).body == before


def test_what_a_proxy_told_of_one_connection_is_not_said_of_another(stand):
    tested = stand(echo)
    for _ in range(3):
        before = tested.ask(GET).body
    tested.connection.told = {"SERVER_PORT": "4443"}
    tested.connection.environ = None
    for _ in range(3):
        assert b"4443" in tested.ask(GET).body
    tested.connection.told = tested.connection.environ = None
    assert tested.ask(GET).body == before


@pytest.mark.parametrize(
    "data",
    [
        request("Cookie: s3cret"),
        request("Authorization: Basic s3cret"),
        request("Proxy-Authorization: s3cret"),
        request("X-Long: " + "x" * LONGEST),
        post(b"body"),
        GET + GET,
    ],
)
def test_what_is_secret_long_or_not_one_request_is_not_remembered(stand, data):
    tested = stand(answering([b""]))
    for _ in range(3):
        tested.send(data)
        while tested.turn() == "submit":
            pass
        tested.received()
    assert not any(b"s3cret" in known for known in [*tested.worker._heads.known, *tested.worker._heads._once])
    assert data not in tested.worker._heads.known


def test_nothing_of_a_protected_connection_is_remembered(stand):
    tested = stand(answering([b""]))
    tested.connection.secure = True
    for _ in range(3):
        tested.ask(GET)
    assert not tested.worker._heads.known


def test_what_is_remembered_is_bounded(stand):
    tested = stand(answering([b""]), max_requests=0)
    tested.worker._heads = heads = HeadCache(size=3)
    for number in range(20):
        for _ in range(3):
            tested.ask(request(target=f"/{number}"))
        assert len(heads.known) <= 3
        assert len(heads._once) <= 3
    assert request(target="/19") in heads.known


def test_what_a_subclass_adds_for_one_client_is_not_said_of_another(stand):
    class Numbering(WSGIWorker):
        number = 0

        def new_fields(self, connection):
            self.number += 1
            return {**super().new_fields(connection), "number": self.number}

    tested = stand(echo, worker=Numbering)
    bodies = [tested.ask(GET).body for _ in range(5)]
    assert len(set(bodies)) == 5
