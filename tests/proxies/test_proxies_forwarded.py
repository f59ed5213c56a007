"""The grammar of Forwarded and X-Forwarded-For."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocket.errors import BadRequest
from rocket.networks import show_ip
from rocket.proxies.forwarded import MAX_ELEMENTS, parse_for, parse_forwarded, parse_x_for

TOKENS = st.text(st.sampled_from("!#$%&'*+-.^_`|~09azAZ"), min_size=1, max_size=8)
TEXTS = st.text(st.sampled_from('\t !#[]~az09,;=:"\\\x80\xff'), max_size=12)
HOSTILE = st.text(st.sampled_from(' \t,;="\\:[]_for1.a\x80\0'), max_size=60)


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("for=192.0.2.60;proto=http;by=203.0.113.43", [{"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}]),
        ('For="[2001:db8:cafe::17]:4711"', [{"for": "[2001:db8:cafe::17]:4711"}]),
        ("for=192.0.2.43, for=198.51.100.17", [{"for": "192.0.2.43"}, {"for": "198.51.100.17"}]),
        ('for=_gazonk,\tfor="_mdn:_x" ,for=unknown', [{"for": "_gazonk"}, {"for": "_mdn:_x"}, {"for": "unknown"}]),
        ('host="a,b;c\\"d\\\\";secret=1', [{"host": 'a,b;c"d\\', "secret": "1"}]),
        ('host=""', [{"host": ""}]),
        ("", [{}]),
        (";for=a;", [{"for": "a"}]),
        ("for=a,,for=b", [{"for": "a"}, {}, {"for": "b"}]),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(value, elements):
    assert [element.parameters for element in parse_forwarded(value)] == elements


@pytest.mark.parametrize(
    "value",
    [
        "for",
        "for=",
        "=a",
        "for =a",
        "for= a",
        "for=a; proto=http",
        "for=a ;proto=http",
        "for=a b",
        "for=[::1]",
        "for=2001:db8::1",
        'for="a',
        'for="a\\',
        'for="a"b',
        'for=a"b"',
        'for="\0"',
        "for=a;FOR=b",
        "for=\xe4",
    ],
)
def test_what_is_not_of_the_grammar_is_refused(value):
    with pytest.raises(BadRequest, match="Forwarded"):
        parse_forwarded(value)


@pytest.mark.parametrize("written", ['for="', 'x="\\', 'for="a;b', 'x="a";for="'])
@pytest.mark.parametrize("host", ["example.org", ",for=6.6.6.6;x=", ";for=6.6.6.6;host=a", "=", ";", ","])
def test_a_quote_that_a_client_leaves_open_does_not_swallow_what_the_proxy_writes(written, host):
    """The host is the client's, too; but a proxy lets no quote into it."""
    with pytest.raises(BadRequest, match="Forwarded"):
        parse_forwarded(f'{written}, for=192.0.2.1;host="{host}";proto=https')


def test_a_crowd_of_elements_is_refused():
    assert len(parse_forwarded("," * (MAX_ELEMENTS - 1))) == MAX_ELEMENTS
    with pytest.raises(BadRequest, match=f"more than {MAX_ELEMENTS} elements"):
        parse_forwarded("," * 60_000)


@given(st.lists(st.dictionaries(TOKENS.map(str.lower), st.one_of(TOKENS, TEXTS), max_size=3), min_size=1, max_size=4))
def test_what_is_written_by_the_grammar_is_read(elements):
    texts = []
    for element in elements:
        pairs = [f"{name}={quoted(value)}" for name, value in element.items()]
        texts.append(";".join(pairs))
    value = ", ".join(texts)
    found = parse_forwarded(value.strip())
    assert [element.parameters for element in found] == elements
    for element, text in zip(found, texts):
        assert value.strip()[element.begin :].startswith(text)


@given(HOSTILE)
def test_any_text_is_read_or_refused(value):
    try:
        elements = parse_forwarded(value.strip(" \t"))
    except BadRequest:
        return
    assert elements
    for element in elements:
        try:
            parse_for(element.parameters.get("for", ""))
        except BadRequest:
            pass


@given(HOSTILE, st.sampled_from(["192.0.2.1", '"[2001:db8::1]"', '"192.0.2.1:80"']))
def test_whatever_a_client_writes_the_proxy_has_the_last_word(value, node):
    try:
        elements = parse_forwarded(f"{value}, for={node};proto=https".strip(" \t"))
    except BadRequest:
        return
    assert elements[-1].parameters == {"for": node.strip('"'), "proto": "https"}


@pytest.mark.parametrize(
    ("value", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", ""),
        ("192.0.2.1:80", "192.0.2.1", "80"),
        ("192.0.2.1:_gw", "192.0.2.1", ""),
        ("[2001:DB8::1]", "2001:db8::1", ""),
        ("[2001:db8::1]:65535", "2001:db8::1", "65535"),
        ("[2001:db8::1]:99999", "2001:db8::1", ""),
    ],
)
def test_a_node_is_an_address_with_or_without_a_port(value, address, port):
    node = parse_for(value)
    assert (show_ip(node.packed), node.port) == (address, port)


@pytest.mark.parametrize("value", ["unknown", "Unknown", "unknown:80", "_hidden", "_a.b-c_", "_hidden:_port"])
def test_a_node_may_be_hidden(value):
    assert parse_for(value) is None


@pytest.mark.parametrize(
    "value",
    [
        *("", "example.org", "2001:db8::1", "[192.0.2.1]", "[::1", "::1]", "192.0.2.1:", "192.0.2.1:x"),
        *("192.0.2.1:123456", "192.0.2.1:80:80", "_", "_a b", "192.0.2.01", "[fe80::1%eth0]"),
    ],
)
def test_what_is_no_node_is_refused(value):
    with pytest.raises(BadRequest, match="Forwarded"):
        parse_for(value)


@pytest.mark.parametrize(
    ("item", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", ""),
        ("192.0.2.1:8080", "192.0.2.1", "8080"),
        ("2001:db8::1", "2001:db8::1", ""),
        ("2001:db8::1:80", "2001:db8::1:80", ""),
        ("[2001:db8::1]", "2001:db8::1", ""),
        ("[2001:db8::1]:80", "2001:db8::1", "80"),
        ("::ffff:192.0.2.1", "192.0.2.1", ""),
    ],
)
def test_x_forwarded_for_names_addresses_as_proxies_write_them(item, address, port):
    node = parse_x_for(item)
    assert (show_ip(node.packed), node.port) == (address, port)


def test_squid_hides_its_clients():
    assert parse_x_for("unknown") is None


@pytest.mark.parametrize(
    "item", ["", "a", "192.0.2.1:", "192.0.2.1:99999", "192.0.2.1:+1", '"192.0.2.1"', "[::1]x", "_a"]
)
def test_what_is_no_address_in_x_forwarded_for_is_refused(item):
    with pytest.raises(BadRequest, match="X-Forwarded-For: not an address"):
        parse_x_for(item)


@given(HOSTILE)
def test_any_item_is_read_or_refused(item):
    try:
        parse_x_for(item)
    except BadRequest:
        pass
