"""Sockets with TLS beside sockets without, each with a certificate of its own."""

import socket
import ssl

import pytest
from tls_helpers import client_context

from rocket import ConfigError, Server


def app(environ, start_response):
    body = f"{environ['wsgi.url_scheme']} {environ['SERVER_PORT']}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def connect(address):
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(20)
    sock.connect(address if isinstance(address, str) else tuple(address))
    return sock


def ask(sock):
    with sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while block := sock.recv(65536):
            data += block
    return data.partition(b"\r\n\r\n")[2].decode()


def ask_tls(authority, address, name):
    """Return the body, and the names in the certificate."""
    sock = client_context(authority).wrap_socket(connect(address), server_hostname=name)
    names = [value for _, value in sock.getpeercert()["subjectAltName"]]
    return ask(sock), names


def test_each_bind_is_as_it_says(files, authority, tmp_path):
    a, b = files.pem("a.example"), files.pem("b.example", path="b.pem")
    binds = [
        "127.0.0.1:0",
        f"tls://127.0.0.1:0?cert={a}",
        f"tls://127.0.0.1:0?cert={b}",
        f"tls+unix:{tmp_path}/s?cert={a}",
    ]
    with Server(app, bind=binds) as server:
        plain, first, second, local = server.addresses
        assert ask(connect(plain)) == f"http {plain[1]}"
        assert ask_tls(authority, first, "a.example") == (f"https {first[1]}", ["a.example"])
        assert ask_tls(authority, second, "b.example") == (f"https {second[1]}", ["b.example"])
        assert ask_tls(authority, local, "a.example") == ("https 443", ["a.example"])
        assert [url.partition(":")[0] for url in server.urls] == ["http", "https", "https", "https+unix"]
        lines = "\n".join(server.describe())
        assert lines.count("TLS 1.2 or newer") == 2
        assert "a.example" in lines
        assert "b.example" in lines


def test_options_are_what_a_tls_bind_does_not_say(files, authority):
    with Server(app, bind=["127.0.0.1:0", "tls://127.0.0.1:0"], certfile=files.pem("a.example")) as server:
        assert ask(connect(server.addresses[0])).startswith("http ")
        assert ask_tls(authority, server.addresses[1], "a.example")[0].startswith("https ")


def test_a_certificate_of_its_own_does_not_take_the_key_of_the_options(files, authority):
    pair = files.pair("a.example")
    with Server(
        app,
        bind=["tls://127.0.0.1:0", f"tls://127.0.0.1:0?cert={files.pem('b.example')}"],
        certfile=pair[0],
        keyfile=pair[1],
    ) as server:
        assert ask_tls(authority, server.addresses[0], "a.example")[1] == ["a.example"]
        assert ask_tls(authority, server.addresses[1], "b.example")[1] == ["b.example"]


def test_without_tls_binds_the_options_are_for_all(files, authority):
    with Server(app, bind=["127.0.0.1:0", "127.0.0.1:0"], certfile=files.pem("a.example")) as server:
        for address in server.addresses:
            assert ask_tls(authority, address, "a.example")[1] == ["a.example"]


@pytest.mark.parametrize(
    "query", ["cert=/nowhere.pem", "key=/nowhere.key", "cert_reqs=maybe", "ciphers=NONE", "password=%00nowhere"]
)
def test_what_is_wrong_is_named(files, query):
    if "cert=" not in query:
        query = f"cert={files.pem('a.example')}&{query}"
    with pytest.raises(ConfigError, match=r"nowhere|maybe|NONE|NUL"):
        Server(app, bind=f"tls://127.0.0.1:0?{query}").start()


def test_a_client_that_distrusts_us_stops_nobody(files, authority):
    """A certificate that nobody trusts is refused by the client, and the server goes on."""
    with Server(app, bind=f"tls://127.0.0.1:0?cert={files.pem('a.example')}") as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(connect(server.addresses[0]), server_hostname="a.example")
        assert ask_tls(authority, server.addresses[0], "a.example")[0].startswith("https")


def test_a_password_is_not_shown(files):
    assert "geheim" not in repr(
        Server(app, bind=f"tls://127.0.0.1:0?cert={files.pem('a.example')}&password=geheim")._binds
    )


def test_only_the_certificate_that_is_self_signed_is_called_so(files):
    binds = [f"tls://127.0.0.1:0?cert={files.pem('a.example')}", "tls://127.0.0.1:0"]
    with Server(app, bind=binds, self_signed=True) as server:
        lines = [line for line in server.describe() if line.startswith("TLS")]
    assert ["a.example" in line for line in lines] == [True, False]
    assert ["self-signed" in line for line in lines] == [False, True]
