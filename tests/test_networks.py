"""Which address is in which network."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocket.networks import Networks, read_ip, show_ip

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("::", "::"),
    ],
)
def test_an_address_has_one_form(text, canonical):
    assert show_ip(read_ip(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.0.0.1", " 1.2.3.4", "1.2.3.4\0", "1.2.3.4/8", "0x7f.1"),
        *("\xb2.1.1.1", ":", ":::", "[::1]", "fe80::1%eth0", "::1/64", "1:2:3:4:5:6:7:8:9", "g::1", "localhost"),
    ],
)
def test_what_is_no_address_is_none(text):
    assert read_ip(text) is None


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none(text):
    packed = read_ip(text)
    assert packed is None or read_ip(show_ip(packed)) == packed


@given(ADDRESSES)
def test_the_canonical_form_is_that_of_the_standard_library(address):
    mapped = getattr(address, "ipv4_mapped", None)
    assert ipaddress.ip_address(show_ip(address.packed)) == (mapped or address)


@given(ADDRESSES, ADDRESSES, st.integers(0, 32))
def test_an_address_is_in_a_network_as_the_standard_library_has_it(address, base, prefix):
    network = ipaddress.ip_network(f"{base}/{prefix}", strict=False)
    if getattr(address, "ipv4_mapped", None) is None:
        assert Networks([str(network)]).has(address.packed) is (address in network)


@pytest.mark.parametrize(
    ("listed", "host", "is_there"),
    [
        ([], "127.0.0.1", False),
        ([], "", False),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["127.0.0.1"], "", False),
        (["10.0.0.0/8", "192.0.2.0/24"], "192.0.2.255", True),
        (["10.0.0.0/8", "192.0.2.0/24"], "192.0.3.0", False),
        (["0.0.0.0/0"], "::1", False),
        (["::/0"], "127.0.0.1", False),
        (["::ffff:10.0.0.0/104"], "10.1.1.1", True),
        (["::ffff:10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.0/255.0.0.0"], "10.1.1.1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["unix"], "", True),
        (["unix"], "127.0.0.1", False),
        (["*"], "", True),
        (["*"], "2001:db8::1", True),
        (["127.0.0.1"], "no address", False),
    ],
)
def test_a_peer_is_listed_or_not(listed, host, is_there):
    assert Networks(listed).has_peer(host) is is_there


def test_everybody_is_nobody_by_name():
    networks = Networks(["*", "10.0.0.0/8"])
    assert networks.has(read_ip("192.0.2.1"))
    assert not networks.names_host("192.0.2.1")
    assert networks.names_host("10.0.0.1")


@pytest.mark.parametrize(
    "item", ["10.0.0.1/8", "10.0.0", "localhost", "10.0.0.0/33", "fe80::1%1", "", "[::1]", "1.2.3.4:80"]
)
def test_what_is_no_network_is_refused_and_named(item):
    with pytest.raises(ValueError, match=f"^{re.escape(item)}$"):
        Networks(["127.0.0.1", item])
