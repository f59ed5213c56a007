"""The grammar of binds: texts to values, and what is refused."""

import pytest

from rocket.binds import parse_bind, parse_binds, unix_label, unix_url, without_secrets
from rocket.config import Config
from rocket.errors import ConfigError


def refusal(*texts):
    with pytest.raises(ConfigError) as caught:
        parse_binds(texts)
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["", "tcp://", "tls://", "tls+tcp://"])
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        (":8000", ("", 8000)),
        ("localhost:0", ("localhost", 0)),
        ("example.org:65535", ("example.org", 65535)),
    ],
)
def test_an_address_of_tcp_is_read(prefix, text, address):
    bind = parse_bind(prefix + text)
    assert (bind.kind, bind.address) == ("tcp", address)
    assert str(bind) == prefix + text
    assert (bind.tls is not None) == prefix.startswith("tls")


@pytest.mark.parametrize(
    "text",
    ["8000", "localhost", "localhost:", "localhost:65536", "::1:8000", "[::1]", "http://a:80", "a b:80", "a:٣", "tls:"],
)
def test_what_is_no_address_is_refused(text):
    message = refusal(text)
    assert message.startswith(f"{text!r}: not an address to listen on")


@pytest.mark.parametrize("name", ["fd", "tcp", "tls"])
def test_a_host_may_be_called_like_a_kind(name):
    assert parse_bind(f"{name}:8000").address == (name, 8000)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("unix:/run/site.sock", "/run/site.sock"),
        ("unix:///run/site.sock", "/run/site.sock"),
        ("unix:site.sock", "site.sock"),
        ("unix:/a%20b%2C%3F%26%25", "/a b,?&%"),
        ("unix:/r%C3%A4ket", "/räket"),
        ("unix:/run:8000", "/run:8000"),
        ("unix:@site", "\0site"),
        ("unix:/@site", "/@site"),
        ("unix:%40site", "@site"),
    ],
)
def test_the_path_of_a_unix_socket_is_read(text, path):
    bind = parse_bind(text)
    assert (bind.kind, bind.path, bind.mode, bind.owner, bind.group) == ("unix", path, None, "", "")


@pytest.mark.parametrize("path", ["/run/a b?.sock", "@site", "\0site", "run/a,b", "/ä/%", "/\udcff"])
def test_a_path_is_shown_so_that_it_can_be_read_again(path):
    assert parse_bind(unix_label(path)).path == path


def test_access_to_a_unix_socket_is_read():
    bind = parse_bind("unix:/s?mode=660&owner=www-data&group=33")
    assert (bind.mode, bind.owner, bind.group) == (0o660, "www-data", "33")


@pytest.mark.parametrize("mode", ["600", "0600", "0o600"])
def test_a_mode_is_octal(mode):
    assert parse_bind(f"unix:/s?mode={mode}").mode == 0o600


@pytest.mark.parametrize("mode", ["6", "999", "rw", "4755", "-600", "0x180"])
def test_what_is_no_mode_is_refused(mode):
    assert refusal(f"unix:/s?mode={mode}") == (
        f"'unix:/s?mode={mode}': mode must be three octal digits such as 660, not {mode!r}"
    )


def test_inherited_sockets_are_read():
    assert (parse_bind("fd://3").kind, parse_bind("fd://3").fd) == ("fd", 3)
    assert (parse_bind("systemd:").kind, parse_bind("systemd:").name) == ("systemd", "")
    assert parse_bind("systemd:web-1.socket").name == "web-1.socket"


def test_tls_settings_are_carried_under_their_options_names():
    bind = parse_bind("tls://:8443?cert=/a%20b.pem&keyfile=k.pem&password=a%26b")
    assert dict(bind.tls) == {"certfile": "/a b.pem", "keyfile": "k.pem", "keyfile_password": "a&b"}
    assert dict(parse_bind("tls+unix:/s?mode=600&ca_certs=c").tls) == {"ca_certs": "c"}
    assert dict(parse_bind("tls+fd://3").tls) == {}
    assert dict(parse_bind("tls+systemd:web?ciphers=ALL").tls) == {"ciphers": "ALL"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unix:", "the path is missing"),
        ("unix:@", "the name is missing"),
        ("unix:///", None),
        ("unix://run/s", "a URL's path begins with a third slash: unix:///path; a relative one is unix:path"),
        ("unix:/100%", "a percent sign is written %25"),
        ("unix:/a%00b", "a path cannot hold NUL"),
        ("unix:/s?", "nothing follows the question mark"),
        ("unix:/s?mode", "mode has no value"),
        ("unix:/s?mode=", "mode has no value"),
        ("unix:/s?mode=600&mode=666", "mode is given twice"),
        ("unix:/s?mod=600", "unknown parameter 'mod': did you mean 'mode'?"),
        ("unix:/s?x=600", "unknown parameter 'x', unix has mode, owner, group"),
        ("unix:/s?reuseport=1", "reuseport is a parameter of tcp, not of unix"),
        ("unix:@s?mode=600", "an abstract socket has no mode"),
        (":80?mode=600", "mode is a parameter of unix, not of tcp"),
        (":80?reuseport=2", "reuseport must be 1 or 0, not '2'"),
        (":80?cert=a", "cert is for TLS: tls://host:port?..., or tls+unix:, tls+fd:// and tls+systemd:"),
        ("tls://:80?cert=a&certfile=b", "certfile is given twice"),
        ("fd://x", "a descriptor is a number: fd://3"),
        ("fd://-1", "a descriptor is a number: fd://3"),
        ("fd://3?x=1", "unknown parameter 'x', fd has none"),
        ("systemd:a:b", "not the name of a descriptor (FileDescriptorName= in systemd.socket(5))"),
    ],
)
def test_what_is_wrong_with_a_bind_is_said(text, reason):
    if reason is None:
        assert parse_bind(text).path == "/"  # a folder: the start will say so
    else:
        assert refusal(text) == f"{text!r}: {reason}"


def test_what_cannot_be_listened_on_twice_is_not_named_twice():
    assert refusal("fd://3", "fd://3").startswith("'fd://3': ")
    assert refusal("unix:/a", ":0", "unix:///a?mode=600").endswith("named twice")
    assert (
        refusal("systemd:", "systemd:web")
        == "'systemd:web': 'systemd:' stands for all sockets of systemd's, this one too"
    )
    assert len(parse_binds(("unix:/a", "unix:@a", "systemd:a", "fd://3", "systemd:b", ":0", ":0"))) == 7


def test_a_password_is_shown_nowhere():
    text = "tls://:0?cert=a&password=geheim&key=b"
    assert str(parse_bind(text)) == "tls://:0?cert=a&password=***&key=b"
    assert "geheim" not in repr(parse_bind("unix:/a")) + refusal(text + "&nonsense=1") + refusal(
        "unix:/a?passwort=geheim"
    )
    assert without_secrets("tls://:0?password=geheim, :80") == "tls://:0?password=***, :80"


def test_urls_of_unix_sockets_hold_the_path_in_place_of_a_host():
    assert unix_url("/run/site.sock") == "http+unix://%2Frun%2Fsite.sock/"
    assert unix_url("\0site", secure=True) == "https+unix://%00site/"


def test_the_option_takes_several_kinds_at_once():
    written = "127.0.0.1:0, unix:/a%2Cb?mode=600&group=www-data, unix:@s,fd://3"
    config = Config(bind=written)
    assert config.bind == ("127.0.0.1:0", "unix:/a%2Cb?mode=600&group=www-data", "unix:@s", "fd://3")
    assert Config(**config.as_dict()) == config


def test_the_option_says_what_is_wrong_with_which():
    with pytest.raises(ConfigError, match=r"^bind: 'unix:/b\?mode=9': mode must be three octal digits"):
        Config(bind=":0,unix:/b?mode=9")
