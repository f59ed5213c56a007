"""Behind real proxies: whose address, scheme and host the application sees, whatever a client writes."""

import re
import tempfile
from pathlib import Path

import pytest
from e2e_proxies import CLIENT, HAPROXY, NGINX, NGINX_HTTP, Proxy, ask, make_certificate, stream_module
from e2e_server import until

from rocket.config import OPTIONS, Config
from rocket.errors import ConfigError

SPOOFED = {
    "X_Forwarded_For": "6.6.6.6",
    "X_Forwarded_Proto": "gopher",
    "X_Forwarded_Host": "evil.example",
    "X_Forwarded_Port": "gopher",
    "X_Real_IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;proto=gopher;host=evil.example",
}
PROXIED = ("--forwarded-allow-ips", "127.0.0.1")


@pytest.fixture
def proxy(tmp_path):
    """Start a proxy: `proxy("haproxy", text)`."""
    started = []

    def start(name, text):
        folder = tmp_path / f"proxy{len(started)}"
        folder.mkdir()
        started.append(Proxy(name, text.replace("{folder}", str(folder)), folder))
        return started[-1].port

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def nginx(proxy):
    """Start nginx with the directives *location* for all of Rocket's."""

    def start(location, *, upstream, http="", listen="127.0.0.1:{port}", host="$http_host"):
        text = (
            f"{http}\nserver {{ listen {listen};\nlocation / {{ proxy_pass http://{upstream};\n"
            f"proxy_set_header Host {host};\n{location}\n}} }}"
        )
        return proxy("nginx", fill(NGINX, modules="") + fill(NGINX_HTTP, text=text))

    return start


@pytest.fixture
def haproxy(proxy):
    """Start HAProxy with a frontend of the lines *front* before *server*, a server's address and options."""

    def start(front, server, *, mode="http", bind=""):
        lines = [f"mode {mode}", f"bind 127.0.0.1:{{port}} {bind}", *front, f"server rocket {server}"]
        return proxy("haproxy", fill(HAPROXY, text="listen site\n    " + "\n    ".join(lines)))

    return start


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def fill(template, **values):
    """As str.format, but for {folder} and {port}, which `proxy` fills in."""
    return template.format(folder="{folder}", **values)


def where(server):
    return "{}:{}".format(*server.address)


def client_of(environ):
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]


def assert_no_word_of_the_clients(environ):
    assert not re.search(r"6\.6\.6\.6|evil|gopher", str(environ)), environ


# ---- nginx ----

NGINX_FIELDS = """
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
"""


def test_behind_nginx_the_client_is_the_client(serve, nginx):
    port = nginx(NGINX_FIELDS, upstream=where(serve("mirror", *PROXIED)))
    for fields in ({}, SPOOFED):
        status, environ, _ = ask(port, **fields)
        assert status == 200
        assert client_of(environ) == (CLIENT, "http")
        assert (environ["HTTP_HOST"], environ["SERVER_PORT"]) == ("site.example:8443", "8443")
        assert_no_word_of_the_clients(environ)


def test_behind_nginx_with_tls_the_scheme_is_https(serve, nginx, certificate):
    upstream = where(serve("mirror", *PROXIED))
    tls = f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};"
    port = nginx(NGINX_FIELDS, upstream=upstream, http=tls, listen="127.0.0.1:{port} ssl")
    _, environ, _ = ask(port, tls=True, host="site.example", **SPOOFED)
    assert client_of(environ) == (CLIENT, "https")
    assert (environ["HTTP_HOST"], environ["SERVER_PORT"]) == ("site.example", "443")
    assert_no_word_of_the_clients(environ)


def test_nginx_may_append_and_say_host_and_port(serve, nginx):
    listed = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-port"
    upstream = where(serve("mirror", *PROXIED, "--forwarded-headers", listed))
    location = """
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto https;
        proxy_set_header X-Forwarded-Host $host;
        proxy_set_header X-Forwarded-Port $server_port;
    """
    port = nginx(location, upstream=upstream, host="inner.example")
    _, environ, _ = ask(port, **SPOOFED)
    assert client_of(environ) == (CLIENT, "https")
    assert environ["HTTP_X_FORWARDED_FOR"] == CLIENT
    assert environ["HTTP_HOST"] == f"site.example:{port}"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("site.example", str(port))
    assert_no_word_of_the_clients(environ)


def test_behind_an_nginx_that_sets_nothing_a_client_forges_nothing(serve, nginx):
    """It hands on what the client wrote: this is why nobody is believed by default."""
    server = serve("mirror")
    _, environ, _ = ask(nginx("", upstream=where(server)), **SPOOFED)
    assert client_of(environ) == ("127.0.0.1", "http")
    assert_no_word_of_the_clients(environ)
    assert server.line("from 127.0.0.1, which is not in forwarded_allow_ips")


NGINX_FORWARDED = """
    map $remote_addr $node {
        ~^[0-9.]+$ $remote_addr;
        ~^[0-9A-Fa-f:.]+$ "\\"[$remote_addr]\\"";
        default unknown;
    }
"""


@pytest.mark.parametrize("written", ["for=6.6.6.6;proto=http", None, "for=_x, for=7.7.7.7;by=a"])
def test_nginx_may_say_it_as_rfc_7239_has_it(serve, nginx, written):
    upstream = where(serve("mirror", *PROXIED, "--forwarded-headers", "forwarded"))
    location = 'proxy_set_header Forwarded "$http_forwarded, for=$node;proto=https;host=\\"$http_host\\"";'
    port = nginx(location, upstream=upstream, http=NGINX_FORWARDED)
    spoofed = {**SPOOFED, "Forwarded": written} if written else {}
    _, environ, _ = ask(port, **spoofed)
    assert client_of(environ) == (CLIENT, "https")
    assert environ["HTTP_FORWARDED"] == f'for={CLIENT};proto=https;host="site.example:8443"'
    assert_no_word_of_the_clients(environ)


def test_an_open_quote_of_a_client_in_forwarded_is_400_and_named(serve, nginx):
    upstream = where(serve("mirror", *PROXIED, "--forwarded-headers", "forwarded"))
    location = 'proxy_set_header Forwarded "$http_forwarded, for=$node;host=\\"$http_host\\"";'
    port = nginx(location, upstream=upstream, http=NGINX_FORWARDED)
    status, text, _ = ask(port, Forwarded='for=6.6.6.6;a="')
    assert status == 400
    assert "Forwarded: not as in RFC 7239" in text


def test_a_proxy_that_writes_nonsense_is_400_named_and_logged(serve, nginx):
    server = serve("mirror", *PROXIED)
    port = nginx("proxy_set_header X-Forwarded-For $host;", upstream=where(server))
    status, text, _ = ask(port)
    assert status == 400
    assert "X-Forwarded-For: not an address: 'site.example'" in text
    assert server.line(
        "WARNING rocket.proxy: X-Forwarded-For: not an address: 'site.example', says the proxy at 127.0.0.1"
    )


@pytest.fixture
def nginx_stream(proxy):
    """Start an nginx that hands connections on, with a PROXY line in front."""

    def start(upstream, *, more="", listen="127.0.0.1:{port}"):
        text = f"stream {{ server {{ listen {listen}; proxy_pass {upstream}; proxy_protocol on; {more} }} }}"
        return proxy("nginx", fill(NGINX, modules=stream_module()) + text)

    return start


def test_nginx_names_the_client_in_a_proxy_line(serve, nginx_stream):
    server = serve("mirror", *PROXIED, "--proxy-protocol", "v1")
    port = nginx_stream(where(server))
    for fields in ({}, SPOOFED):
        _, environ, own = ask(port, **fields)
        assert client_of(environ) == (CLIENT, "http")
        assert (environ["REMOTE_PORT"], environ["SERVER_PORT"]) == (own, str(port))
        assert_no_word_of_the_clients(environ)


def test_nginx_may_do_that_and_tls_too(serve, nginx_stream, certificate):
    server = serve("mirror", *PROXIED, "--proxy-protocol", "on")
    more = f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};"
    port = nginx_stream(where(server), more=more, listen="127.0.0.1:{port} ssl")
    _, environ, _ = ask(port, tls=True)
    assert client_of(environ) == (CLIENT, "http")  # version 1 cannot say that there was TLS


# ---- HAProxy ----

HAPROXY_FIELDS = [
    "option forwardfor",
    "http-request set-header X-Forwarded-Proto https if { ssl_fc }",
    "http-request set-header X-Forwarded-Proto http if !{ ssl_fc }",
]


@pytest.mark.parametrize("tls", [False, True])
def test_behind_haproxy_the_client_is_the_client(serve, haproxy, certificate, tls):
    server = serve("mirror", *PROXIED)
    port = haproxy(HAPROXY_FIELDS, where(server), bind=f"ssl crt {certificate[2]}" if tls else "")
    for fields in ({}, SPOOFED):
        _, environ, _ = ask(port, tls=tls, host="site.example", **fields)
        assert client_of(environ) == (CLIENT, "https" if tls else "http")
        assert environ["SERVER_PORT"] == ("443" if tls else "80")
        assert_no_word_of_the_clients(environ)


def test_haproxy_may_say_it_as_rfc_7239_has_it(serve, haproxy, certificate):
    server = serve("mirror", *PROXIED, "--forwarded-headers", "forwarded")
    front = ['http-request add-header Forwarded for=%[src];proto=https;host=\\"%[req.hdr(host)]\\"']
    port = haproxy(front, where(server), bind=f"ssl crt {certificate[2]}")
    _, environ, _ = ask(port, tls=True, **SPOOFED)
    assert client_of(environ) == (CLIENT, "https")
    assert_no_word_of_the_clients(environ)


@pytest.mark.parametrize(
    ("mode", "option"),
    [
        ("v1", "send-proxy"),
        ("v2", "send-proxy-v2"),
        ("on", "send-proxy"),
        ("on", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"),
    ],
)
def test_haproxy_names_the_client_in_a_proxy_header(serve, haproxy, mode, option):
    server = serve("mirror", *PROXIED, "--proxy-protocol", mode)
    port = haproxy(["unique-id-format %{+X}o%Ts"], f"{where(server)} {option}", mode="tcp")
    for fields in ({}, SPOOFED):
        _, environ, own = ask(port, **fields)
        assert client_of(environ) == (CLIENT, "http")
        assert (environ["REMOTE_PORT"], environ["SERVER_PORT"]) == (own, str(port))
        assert_no_word_of_the_clients(environ)


@pytest.mark.parametrize(
    "options", ["send-proxy-v2-ssl", "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,crc32c"]
)
def test_haproxy_says_in_version_2_that_the_client_speaks_tls(serve, haproxy, certificate, options):
    server = serve("mirror", *PROXIED, "--proxy-protocol", "v2")
    port = haproxy([], f"{where(server)} {options}", mode="tcp", bind=f"ssl crt {certificate[2]}")
    _, environ, own = ask(port, tls=True, **SPOOFED)
    assert client_of(environ) == (CLIENT, "https")
    assert environ["REMOTE_PORT"] == own
    assert_no_word_of_the_clients(environ)


def test_health_checks_of_haproxy_are_its_own(serve, haproxy):
    server = serve("mirror", *PROXIED, "--proxy-protocol", "v2")
    check = ["option httpchk", "http-check send meth GET uri /check ver HTTP/1.1 hdr Host site.example"]
    port = haproxy(check, f"{where(server)} send-proxy-v2 check check-send-proxy inter 100ms", mode="tcp")
    checked = until(lambda: ask(port, path="/last")[1], "HAProxy has checked")
    assert client_of(checked) == ("127.0.0.1", "http")
    assert checked["HTTP_HOST"] == "site.example"


def test_a_proxy_without_the_header_is_told_that_it_is_missing(serve, haproxy):
    server = serve("mirror", *PROXIED, "--proxy-protocol", "on")
    status, text, _ = ask(haproxy([], where(server), mode="tcp"))
    assert status == 400
    assert "must begin with a PROXY protocol header, version 1 or 2, not 'GET / HTTP/1.1" in text
    assert server.line("WARNING rocket.proxy: the connection must begin with a PROXY protocol header")


def test_a_header_that_is_not_expected_is_no_request(serve, haproxy):
    server = serve("mirror", *PROXIED)
    for option in ("send-proxy", "send-proxy-v2"):
        status, _, _ = ask(haproxy([], f"{where(server)} {option}", mode="tcp"))
        assert status == 400


# ---- TLS between the proxy and Rocket ----


@pytest.fixture
def serve_tls(serve):
    """Start a server that speaks TLS, with a certificate of its own."""
    if "self_signed" not in OPTIONS:
        pytest.skip("there is no TLS yet")
    pytest.importorskip("trustme")  # which makes the certificate
    return lambda *arguments: serve("mirror", *PROXIED, "--self-signed", *arguments)


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_a_proxy_header_comes_before_the_clients_tls(serve_tls, haproxy, option):
    server = serve_tls("--proxy-protocol", "on")
    port = haproxy([], f"{where(server)} {option}", mode="tcp")
    _, environ, own = ask(port, tls=True, **SPOOFED)
    assert client_of(environ) == (CLIENT, "https")
    assert (environ["REMOTE_PORT"], environ["SERVER_PORT"]) == (own, str(port))
    assert_no_word_of_the_clients(environ)


def test_a_proxy_that_encrypts_again_says_whether_its_client_did(serve_tls, haproxy):
    port = haproxy(HAPROXY_FIELDS, f"{where(serve_tls())} ssl verify none")
    _, environ, _ = ask(port, **SPOOFED)
    assert client_of(environ) == (CLIENT, "http")
    assert "HTTPS" not in environ
    assert_no_word_of_the_clients(environ)


# ---- both ----


def test_two_proxies_in_a_row_are_believed_if_two_hops_are(serve, nginx, haproxy, certificate):
    for hops, client in (("1", "127.0.0.1"), ("2", CLIENT)):
        server = serve("mirror", *PROXIED, "--forwarded-hops", hops)
        # What HAProxy says of the scheme is handed on.
        inner = nginx("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;", upstream=where(server))
        outer = haproxy(HAPROXY_FIELDS, f"127.0.0.1:{inner}", bind=f"ssl crt {certificate[2]}")
        _, environ, _ = ask(outer, tls=True, **SPOOFED)
        assert client_of(environ) == (client, "https")
        assert_no_word_of_the_clients(environ)


@pytest.mark.parametrize("listed", ["unix", "127.0.0.1"])
@pytest.mark.parametrize("kind", ["nginx", "haproxy", "haproxy send-proxy-v2"])
def test_behind_a_unix_socket_unix_is_who_is_believed(serve, nginx, haproxy, kind, listed):
    # Not tmp_path: a socket's path has 107 characters at most (unix(7)).
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rocket.sock"
        try:
            Config(bind=f"unix:{path}")
        except ConfigError:
            pytest.skip("there are no unix sockets to listen on yet")
        name, _, option = kind.partition(" ")
        arguments = ["--forwarded-allow-ips", listed, *(["--proxy-protocol", "v2"] if option else [])]
        serve("mirror", *arguments, bind=f"127.0.0.1:0,unix:{path}")
        if name == "nginx":
            port = nginx(NGINX_FIELDS, upstream=f"unix:{path}")
        else:
            port = haproxy([] if option else HAPROXY_FIELDS, f"unix@{path} {option}", mode="tcp" if option else "http")
        status, environ, _ = ask(port, **SPOOFED)
        if option and listed != "unix":
            assert status == 400
            assert "only the proxies in forwarded_allow_ips" in environ
            return
        assert client_of(environ) == (CLIENT if listed == "unix" else "", "http")
        assert_no_word_of_the_clients(environ)
