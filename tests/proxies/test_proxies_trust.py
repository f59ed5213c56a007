"""Whom Rocket believes, and what becomes of the environ."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocket.errors import BadRequest
from rocket.http1 import FORWARDING
from rocket.proxies import Proxies

ALL = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")
HOSTILE = st.text(st.sampled_from(' \t,;="\\:[]_forhtps/12.a\x80'), max_size=40)


def settle(given, *, trusted=True, host="inner:8000", fields=ALL, **options):
    """Return what changes in an environ that has the fields *given*: X_FORWARDED_FOR=..."""
    told = {"HTTP_" + name: value for name, value in given.items()}
    before = {
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "SERVER_NAME": "here",
        "SERVER_PORT": "8000",
        "wsgi.url_scheme": "http",
        "HTTP_X_OTHER": "1",
        **({} if host is None else {"HTTP_HOST": host}),
    }
    environ = {**before, **told, FORWARDING: " ".join(told)}
    options.setdefault("listed", ["127.0.0.1", "10.0.0.0/8"])
    Proxies(options.pop("listed"), fields=fields, **options).settle(environ, trusted=trusted)
    assert environ.keys() >= before.keys()
    assert environ.pop("HTTPS", None) == ("on" if environ["wsgi.url_scheme"] == "https" else None)
    return {key: value for key, value in environ.items() if before.get(key) != value}


def refusal(given, **options):
    with pytest.raises(BadRequest) as caught:
        settle(given, **options)
    return str(caught.value)


EVERYTHING = {
    "FORWARDED": "for=6.6.6.6",
    "X_FORWARDED_FOR": "6.6.6.6",
    "X_FORWARDED_PROTO": "https",
    "X_FORWARDED_HOST": "evil.example",
    "X_FORWARDED_PORT": "1",
    "X_FORWARDED_PREFIX": "/evil",
    "X_REAL_IP": "6.6.6.6",
}


def test_what_an_untrusted_peer_says_is_dropped():
    assert settle(EVERYTHING, trusted=False) == {}


def test_broken_fields_of_an_untrusted_peer_are_dropped_too():
    assert settle({"FORWARDED": 'for="', "X_FORWARDED_PROTO": "gopher"}, trusted=False) == {}


def test_what_a_trusted_proxy_does_not_set_is_dropped():
    """Its client may have written it, and the proxy handed it on."""
    assert settle(EVERYTHING, fields=()) == {}
    assert settle(EVERYTHING, fields=["x-forwarded-proto"]) == {
        "wsgi.url_scheme": "https",
        "HTTP_X_FORWARDED_PROTO": "https",
    }
    assert settle(EVERYTHING, fields=["forwarded"]) == {
        "REMOTE_ADDR": "6.6.6.6",
        "REMOTE_PORT": "",
        "HTTP_FORWARDED": "for=6.6.6.6",
    }


def test_what_is_listed_but_not_understood_is_handed_on():
    assert settle(EVERYTHING, fields=["x-forwarded-prefix", "x-real-ip"]) == {
        "HTTP_X_FORWARDED_PREFIX": "/evil",
        "HTTP_X_REAL_IP": "6.6.6.6",
    }


@pytest.mark.parametrize(
    ("value", "hops", "client", "left"),
    [
        ("192.0.2.1", 1, "192.0.2.1", "192.0.2.1"),
        ("6.6.6.6,192.0.2.1", 1, "192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.1", 1, "10.0.0.1", "10.0.0.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.1", 2, "192.0.2.1", "192.0.2.1, 10.0.0.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.1", 9, "192.0.2.1", "192.0.2.1, 10.0.0.1"),
        ("6.6.6.6, 10.0.0.2 ,10.0.0.1", 3, "6.6.6.6", "6.6.6.6, 10.0.0.2 ,10.0.0.1"),
        ("6.6.6.6, 10.0.0.2 ,10.0.0.1", 2, "10.0.0.2", "10.0.0.2 ,10.0.0.1"),
        ("10.0.0.2, 10.0.0.1", 9, "10.0.0.2", "10.0.0.2, 10.0.0.1"),
        ("6.6.6.6, unknown, 10.0.0.1", 9, "10.0.0.1", "unknown, 10.0.0.1"),
        ("not parsed;, 192.0.2.1", 9, "192.0.2.1", "192.0.2.1"),
    ],
)
def test_entries_are_believed_from_the_right_as_long_as_their_writers_are(value, hops, client, left):
    changed = settle({"X_FORWARDED_FOR": value}, hops=hops)
    assert (changed["REMOTE_ADDR"], changed["REMOTE_PORT"]) == (client, "")
    assert changed["HTTP_X_FORWARDED_FOR"] == left


def test_with_everybody_trusted_the_number_of_hops_alone_decides():
    value = {"X_FORWARDED_FOR": "6.6.6.6, 192.0.2.1, 192.0.2.2"}
    assert settle(value, listed=["*"])["REMOTE_ADDR"] == "192.0.2.2"
    assert settle(value, listed=["*"], hops=2)["REMOTE_ADDR"] == "192.0.2.1"


def test_the_proxy_stays_who_is_known_when_it_hides_its_client():
    assert settle({"X_FORWARDED_FOR": "unknown"}) == {"HTTP_X_FORWARDED_FOR": "unknown"}
    forwarded = settle({"FORWARDED": "for=_hidden;proto=https"}, fields=["forwarded"])
    assert "REMOTE_ADDR" not in forwarded
    assert forwarded["wsgi.url_scheme"] == "https"
    assert "REMOTE_ADDR" not in settle({"FORWARDED": "for=6.6.6.6, proto=https"}, fields=["forwarded"], hops=2)


@pytest.mark.parametrize(
    ("value", "address", "port"),
    [
        ("192.0.2.1:4711", "192.0.2.1", "4711"),
        ("[2001:DB8::1]:80", "2001:db8::1", "80"),
        ("::FFFF:1.2.3.4", "1.2.3.4", ""),
    ],
)
def test_the_client_has_an_address_in_its_canonical_form_and_its_own_port(value, address, port):
    changed = settle({"X_FORWARDED_FOR": value})
    assert (changed["REMOTE_ADDR"], changed["REMOTE_PORT"]) == (address, port)


# ---- the URL ----


@pytest.mark.parametrize(
    ("given", "host", "expected"),
    [  # fields, Host -> scheme, HTTP_HOST, SERVER_NAME, SERVER_PORT
        ({"PROTO": "https"}, "a.example", ("https", "a.example", "here", "443")),
        ({"PROTO": "HTTPS"}, "a.example:8443", ("https", "a.example:8443", "here", "8443")),
        ({"PROTO": "wss"}, "a.example", ("https", "a.example", "here", "443")),
        ({"PROTO": "ws"}, "a.example", ("http", "a.example", "here", "80")),
        ({"PROTO": "http"}, "[::1]", ("http", "[::1]", "here", "80")),
        ({"PROTO": "https"}, None, ("https", None, "here", "443")),
        ({"HOST": "b.example"}, "inner:8000", ("http", "b.example", "b.example", "80")),
        ({"HOST": "b.example:81"}, "inner:8000", ("http", "b.example:81", "b.example", "81")),
        ({"HOST": "[2001:db8::1]:81"}, "inner", ("http", "[2001:db8::1]:81", "[2001:db8::1]", "81")),
        ({"HOST": "b.example", "PROTO": "https"}, None, ("https", "b.example", "b.example", "443")),
        (
            {"HOST": "b.example", "PORT": "8443", "PROTO": "https"},
            "i",
            ("https", "b.example:8443", "b.example", "8443"),
        ),
        ({"HOST": "b.example:1", "PORT": "2"}, "inner", ("http", "b.example:1", "b.example", "1")),
        ({"PORT": "8080"}, "a.example", ("http", "a.example:8080", "here", "8080")),
        ({"PORT": "443", "PROTO": "https"}, "a.example:8000", ("https", "a.example", "here", "443")),
        ({"PORT": "80", "PROTO": "https"}, "[::1]:8000", ("https", "[::1]:80", "here", "80")),
        ({"PORT": "080"}, "a.example", ("http", "a.example", "here", "80")),
        ({"PORT": "81"}, None, ("http", None, "here", "81")),
    ],
)
def test_the_url_is_the_one_that_the_client_asked_for(given, host, expected):
    changed = settle({"X_FORWARDED_" + key: value for key, value in given.items()}, host=host)
    found = (
        changed.get("wsgi.url_scheme", "http"),
        changed.get("HTTP_HOST", host),
        changed.get("SERVER_NAME", "here"),
        changed.get("SERVER_PORT", "8000"),
    )
    assert found == expected
    for key, value in given.items():
        assert changed["HTTP_X_FORWARDED_" + key].lstrip("0") == value.lstrip("0")


def test_tls_between_the_proxy_and_us_is_not_the_clients():
    environ = {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "https", "HTTPS": "on", "HTTP_HOST": "a.example"}
    environ.update({"HTTP_X_FORWARDED_PROTO": "http", FORWARDING: "HTTP_X_FORWARDED_PROTO"})
    Proxies(["127.0.0.1"]).settle(environ, trusted=True)
    assert environ["wsgi.url_scheme"] == "http"
    assert "HTTPS" not in environ


def test_an_address_alone_leaves_the_url():
    changed = settle({"X_FORWARDED_FOR": "192.0.2.1"})
    assert changed.keys() == {"REMOTE_ADDR", "REMOTE_PORT", "HTTP_X_FORWARDED_FOR"}


def test_of_lists_the_item_of_the_proxy_next_to_the_client_counts_and_no_other_is_left():
    lists = {
        "X_FORWARDED_FOR": "6.6.6.6, 192.0.2.1, 10.0.0.1",
        "X_FORWARDED_PROTO": "gopher, https, http",
        "X_FORWARDED_HOST": "evil.example ,a.example , b.example",
    }
    near = settle(lists, hops=1)
    assert (near["HTTP_X_FORWARDED_PROTO"], near["HTTP_HOST"]) == ("http", "b.example")
    far = settle(lists, hops=2)
    assert (far["wsgi.url_scheme"], far["HTTP_X_FORWARDED_PROTO"]) == ("https", "https")
    assert far["HTTP_HOST"] == far["HTTP_X_FORWARDED_HOST"] == "a.example"
    # One item, because the last proxy overwrites it or hands on what the first has set.
    assert settle({**lists, "X_FORWARDED_PROTO": "https"}, hops=2)["wsgi.url_scheme"] == "https"


def test_forwarded_says_all_of_it():
    told = 'for="[2001:db8::1]:99";host="a.example:444";proto=https, for=10.0.0.1;proto=http'
    value = f"for=6.6.6.6;host=evil.example, {told}"
    assert settle({"FORWARDED": value}, fields=["forwarded"], hops=2) == {
        "REMOTE_ADDR": "2001:db8::1",
        "REMOTE_PORT": "99",
        "SERVER_NAME": "a.example",
        "SERVER_PORT": "444",
        "HTTP_HOST": "a.example:444",
        "wsgi.url_scheme": "https",
        "HTTP_FORWARDED": told,
    }
    assert settle({"FORWARDED": value}, fields=["forwarded"]) == {
        "REMOTE_ADDR": "10.0.0.1",
        "REMOTE_PORT": "",
        "HTTP_FORWARDED": "for=10.0.0.1;proto=http",
    }


def test_what_the_farther_proxy_does_not_say_the_nearer_one_may():
    value = "for=192.0.2.1;proto=https, for=10.0.0.1;proto=http;host=a.example"
    changed = settle({"FORWARDED": value}, fields=["forwarded"], hops=2)
    assert (changed["wsgi.url_scheme"], changed["HTTP_HOST"]) == ("https", "a.example")


# ---- what is wrong ----


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("X_FORWARDED_FOR", "", "X-Forwarded-For: not an address: ''"),
        ("X_FORWARDED_FOR", "6.6.6.6,", "X-Forwarded-For: not an address: ''"),
        ("X_FORWARDED_FOR", "a.example", "X-Forwarded-For: not an address: 'a.example'"),
        ("X_FORWARDED_PROTO", "gopher", "X-Forwarded-Proto: neither http nor https: 'gopher'"),
        ("X_FORWARDED_PROTO", "https,", "X-Forwarded-Proto: neither http nor https: ''"),
        ("X_FORWARDED_HOST", "a b", "X-Forwarded-Host: not a host: 'a b'"),
        ("X_FORWARDED_HOST", "", "X-Forwarded-Host: the host is empty"),
        ("X_FORWARDED_PORT", "x", "X-Forwarded-Port: not a port: 'x'"),
        ("X_FORWARDED_PORT", "0", "X-Forwarded-Port: not a port: '0'"),
        ("X_FORWARDED_PORT", "65536", "X-Forwarded-Port: not a port: '65536'"),
        ("X_FORWARDED_PORT", "\xb2", "X-Forwarded-Port: not a port: '\\xb2'"),
        ("FORWARDED", "for=a", "Forwarded: neither an address nor unknown nor _hidden: for='a'"),
        ("FORWARDED", "proto=ftp", "Forwarded: neither http nor https: 'ftp'"),
        ("FORWARDED", 'host="a/b"', "Forwarded: not a host: 'a/b'"),
        ("FORWARDED", 'for="', "Forwarded: not as in RFC 7239, section 4, from here on: 'for=\"'"),
    ],
)
def test_what_a_trusted_proxy_writes_wrongly_is_400_and_names_it(name, value, said, caplog):
    caplog.set_level(logging.WARNING, "rocket.proxy")
    assert refusal({name: value}, fields=["forwarded"] if name == "FORWARDED" else ALL) == said
    assert caplog.messages == [f"{said}, says the proxy at 127.0.0.1"]


def test_the_log_is_not_flooded(caplog):
    caplog.set_level(logging.INFO, "rocket.proxy")
    proxies = Proxies(["127.0.0.1"])
    for host in ("192.0.2.1", ""):
        for _ in range(3):
            proxies.settle({"REMOTE_ADDR": host, "HTTP_X_REAL_IP": "1", FORWARDING: "HTTP_X_REAL_IP"}, trusted=False)
    (message,) = caplog.messages
    assert message.startswith(
        "X-Real-Ip is dropped, and so is all of its kind, from 192.0.2.1, which is not in forwarded"
    )
    caplog.clear()
    for _ in range(3):
        proxies.complain("wrong: %s", 1)
    assert caplog.messages == ["wrong: 1"]


@given(
    st.fixed_dictionaries({}, optional={f"X_FORWARDED_{name}": HOSTILE for name in ("FOR", "PROTO", "HOST", "PORT")})
)
def test_nothing_but_a_bad_request_comes_of_any_fields(given_fields):
    if not given_fields:
        return
    try:
        settle({name: value.strip(" \t") for name, value in given_fields.items()}, hops=3)
    except BadRequest:
        pass


@given(HOSTILE)
def test_nothing_but_a_bad_request_comes_of_any_forwarded(value):
    try:
        settle({"FORWARDED": value.strip(" \t")}, fields=["forwarded"], hops=3)
    except BadRequest:
        pass


@given(HOSTILE, st.integers(1, 4))
def test_nobody_writes_another_address_than_the_proxy_does(written, hops):
    """Whatever a client puts in front: the proxy that it talks to appends its address, and that is not a proxy's."""
    changed = settle({"X_FORWARDED_FOR": f"{written}, 192.0.2.7, 10.0.0.1".strip(" \t")}, hops=hops)
    assert changed["REMOTE_ADDR"] == ("10.0.0.1" if hops == 1 else "192.0.2.7")
    assert changed["HTTP_X_FORWARDED_FOR"] == ("10.0.0.1" if hops == 1 else "192.0.2.7, 10.0.0.1")
