"""The API of Rocket 1.x and rocket3: its names, and what the parameters have become."""

import importlib.util
import logging
import socket
import subprocess
import sys
import types
import urllib.error
import urllib.request

import pytest
from classic_helpers import HERE, Lines, ask, hello, option
from core_helpers import PATIENCE

import rocket
import rocket3
from rocket import BindError, ConfigError
from rocket.classic import UNLIMITED, CherryPyWSGIServer, Rocket
from rocket.config import OPTIONS

# --- Names -----------------------------------------------------------------------------------------------------------

NAMES = [
    "VERSION",
    "SERVER_SOFTWARE",
    "HTTP_SERVER_SOFTWARE",
    "BUF_SIZE",
    "IS_JYTHON",
    "IGNORE_ERRORS_ON_CLOSE",
    "DEFAULTS",
    "PY3K",
    "b",
    "u",
    "Rocket",
    "CherryPyWSGIServer",
    "SERVER_NAME",
    "NullHandler",
    "SOCKET_TIMEOUT",
    "THREAD_STOP_CHECK_INTERVAL",
    "DEFAULT_LISTEN_QUEUE_SIZE",
    "DEFAULT_MIN_THREADS",
    "DEFAULT_MAX_THREADS",
    "ssl",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_old_names_are_there(name):
    assert getattr(rocket, name) is getattr(rocket3, name)


def test_the_old_modules_are_there():
    assert importlib.import_module("rocket.main").Rocket is Rocket
    futures = importlib.import_module("rocket.futures")
    assert futures.has_futures
    assert rocket3.WSGIExecutor is futures.WSGIExecutor


def test_rocket3_has_the_name_of_its_class_both_ways():
    assert rocket3.Rocket3 is rocket3.Rocket is Rocket


def test_a_star_import_has_what_that_of_rocket3_has():
    names = {}
    exec("from rocket3 import *", names)
    # __all__ of rocket3 20260526
    theirs = """__version__ SERVER_SOFTWARE HTTP_SERVER_SOFTWARE BUF_SIZE IGNORE_ERRORS_ON_CLOSE DEFAULTS Rocket3
        SERVER_NAME NullHandler"""
    for name in theirs.split():
        assert names[name] is getattr(rocket3, name)


def test_what_never_was_is_not_there():
    with pytest.raises(AttributeError, match="Saturn"):
        rocket.Saturn  # noqa: B018
    with pytest.raises(AttributeError, match="Saturn"):
        rocket3.Saturn  # noqa: B018


def test_bytes_and_text():
    assert (rocket.b("a"), rocket.b(b"a"), rocket.u(b"a"), rocket.u("a")) == (b"a", b"a", "a", "a")
    assert rocket.u(b"\xe4", "latin-1") == "ä"


def test_assigning_to_the_constants_as_web2py_does(monkeypatch, make):
    monkeypatch.setattr(rocket3, "SERVER_NAME", "example.org")
    monkeypatch.setattr(rocket3, "SOCKET_TIMEOUT", 1)
    assert rocket3.ssl
    server = rocket3.Rocket3(
        HERE,
        method="wsgi",
        app_info={"wsgi_app": hello},
        min_threads=None,
        max_threads=None,
        queue_size=5,
        timeout=10,
        handle_signals=False,
    )
    server.start(background=True)
    assert ask(server) == b"hello"
    server.stop(False)


def test_one_line_replaces_the_copy_in_gluon():
    """docs/integrations.md; web2py does `from gluon import rocket`, and these things with it."""
    module = types.ModuleType("gluon.rocket")
    exec("from rocket.classic import *", vars(module))
    module.SERVER_NAME, module.SOCKET_TIMEOUT = "example.org", 1
    assert module.ssl
    assert module.Rocket is Rocket
    assert module.CherryPyWSGIServer is CherryPyWSGIServer


def test_importing_rocket_does_not_import_the_old_api():
    code = "import sys, rocket; rocket.Server; print('rocket.classic' in sys.modules, 'rocket.futures' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split() == ["False", "False"]


# --- Parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (10, UNLIMITED)),
        ({"min_threads": 4, "max_threads": 16}, (4, 16)),
        ({"min_threads": 64, "max_threads": 0}, (64, UNLIMITED)),
        ({"min_threads": 2 * UNLIMITED}, (2 * UNLIMITED, 2 * UNLIMITED)),
        ({"min_threads": 1, "max_threads": 1}, (1, 1)),
        ({"max_threads": 4}, (4, 4)),
        ({"min_threads": 8, "max_threads": 4}, (8, 8)),
        ({"min_threads": 0}, (1, UNLIMITED)),
    ],
)
def test_threads(make, given, expected):
    server = make(**given)
    assert (option(server, "min_threads"), option(server, "max_threads")) == expected


def test_threads_that_are_not_told_come_from_defaults(make, monkeypatch):
    monkeypatch.setitem(rocket.DEFAULTS, "MIN_THREADS", 3)
    monkeypatch.setitem(rocket.DEFAULTS, "MAX_THREADS", 5)
    server = make()
    assert (option(server, "min_threads"), option(server, "max_threads")) == (3, 5)


@pytest.mark.parametrize("name", ["min_threads", "max_threads"])
def test_threads_that_are_no_number_are_named(make, name):
    with pytest.raises(ConfigError, match=f"{name} must be a whole number, not 'many'"):
        make(**{name: "many"})


def test_a_timeout_that_is_longer_than_can_be_is_the_longest(make):
    assert option(make(timeout=1e9), "keep_alive") == option(make(timeout=0), "keep_alive")


def test_timeout_is_that_of_idle_connections(make):
    assert option(make(), "keep_alive") == 600
    assert option(make(timeout=60), "keep_alive") == 60
    assert option(make(timeout=0), "keep_alive") > 86_400  # never, more or less


def test_queue_size_is_the_backlog(make):
    assert option(make(queue_size=7), "backlog") == 7
    assert option(make(), "backlog") == OPTIONS["backlog"].default
    assert option(make(queue_size=0), "backlog") == OPTIONS["backlog"].default


@pytest.mark.parametrize(
    ("interfaces", "bind"),
    [
        (("127.0.0.1", 8000), ("127.0.0.1:8000",)),
        (("", 8000), (":8000",)),
        (("::1", 8000), ("[::1]:8000",)),
        ([("127.0.0.1", 8000), ("::1", 8001)], ("127.0.0.1:8000", "[::1]:8001")),
        ((("127.0.0.1", 8000), ("::1", 8001)), ("127.0.0.1:8000", "[::1]:8001")),
        (["127.0.0.1", 8000], ("127.0.0.1:8000",)),
    ],
)
def test_interfaces(make, interfaces, bind):
    assert option(make(interfaces=interfaces), "bind") == bind


@pytest.mark.parametrize(
    "interfaces",
    [
        (),
        [],
        None,
        "127.0.0.1:8000",
        ("127.0.0.1",),
        ("127.0.0.1", "8000"),
        ("127.0.0.1", True),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        (b"127.0.0.1", 8000),
        ("127.0.0.1", 8000, "key"),
        ("127.0.0.1", 8000, "key", ""),
        ("127.0.0.1", 8000, "key", "cert", "ca", "more"),
        [("127.0.0.1", 8000), 8001],
    ],
    ids=repr,
)
def test_impossible_interfaces_are_named(make, interfaces):
    with pytest.raises(ConfigError, match="interface") as failure:
        make(interfaces=interfaces)
    assert "127.0.0.1" in str(failure.value) or "8001" in str(failure.value) or not interfaces


@pytest.mark.parametrize(("method", "info"), [("wsgi", None), ("wsgi", {}), ("WSGI", {"wsgi_app": "hello"})])
def test_no_application_is_an_error_that_shows_it(method, info):
    with pytest.raises(ConfigError, match=r"app_info\['wsgi_app'\]"):
        Rocket(HERE, method, info)


def test_an_unknown_method_is_an_error():
    with pytest.raises(ConfigError, match="'ftp'"):
        Rocket(HERE, "ftp", {})


def test_method_fs_needs_a_folder():
    with pytest.raises(ConfigError, match="document_root"):
        Rocket(HERE, "fs", {})


@pytest.mark.parametrize("listed", [True, False])
def test_method_fs_serves_a_folder_and_lists_it_if_asked_to(tmp_path, listed):
    (tmp_path / "index.html").write_text("the index")
    server = Rocket(HERE, "fs", {"document_root": str(tmp_path), "display_index": listed})
    server.start(background=True)
    try:
        assert ask(server, "index.html") == b"the index"
        if listed:
            assert b"index.html" in ask(server)
        else:
            with pytest.raises(urllib.error.HTTPError, match="404"):
                ask(server)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The files of a key and a certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    options = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2")
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    try:
        command = ["openssl", "req", *options, *names, "-keyout", key, "-out", cert]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl")
    return str(key), str(cert)


@pytest.mark.parametrize("authority", [False, True])
def test_plain_and_tls_interfaces_in_one_list(make, certificate, loggers, authority):
    import ssl

    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["wsgi.url_scheme"], " ", environ.get("HTTPS", "off"), " ", server.servers[0].url[:5]]

    handler = Lines()
    loggers["Rocket"].setLevel(logging.INFO)
    loggers["Rocket"].addHandler(handler)
    key, cert = certificate
    secure = (*HERE, key, cert, cert) if authority else (*HERE, key, cert)
    server = make(app, interfaces=[HERE, secure])
    server.start(background=True)
    plain, tls = server.servers
    assert ask(server) == b"http off http:"
    context = ssl.create_default_context(cafile=cert)
    url = tls.url.replace("http:", "https:")
    with urllib.request.urlopen(url, timeout=PATIENCE, context=context) as response:
        assert response.read() == b"https on http:"
    told = next(line for _, _, line in handler.lines if line.startswith("Listening"))
    assert told.endswith(f"127.0.0.1:{plain.addresses[0][1]}, 127.0.0.1:{tls.addresses[0][1]}*")
    server.stop()
    assert not plain.running
    assert not tls.running


@pytest.mark.parametrize("background", [True, False])
def test_if_one_interface_fails_none_is_left(certificate, background):
    with socket.create_server(HERE) as taken:
        server = Rocket([HERE, ("127.0.0.1", taken.getsockname()[1], *certificate)], "wsgi", {"wsgi_app": hello})
        with pytest.raises(BindError):
            server.start(background)
    assert not any(each.running for each in server.servers)


def test_options_of_today_can_be_given_too(make):
    assert option(make(monitor="poll", graceful_timeout=1), "monitor") == "poll"
    with pytest.raises(ConfigError, match="graceful_timeout"):
        make(gracefull_timeout=1)


def test_cherrypys_parameters():
    server = CherryPyWSGIServer(HERE, hello, 4, "example.org", 8, 100, 30, 2)
    names = ("min_threads", "max_threads", "backlog", "keep_alive", "graceful_timeout")
    assert [option(server, name) for name in names] == [4, 8, 100, 30, 2]
    server = CherryPyWSGIServer(HERE, wsgi_app=hello)
    assert [option(server, name) for name in names] == [10, UNLIMITED, 5, 10, 5]


def test_cherrypys_server_serves():
    server = CherryPyWSGIServer(HERE, hello)
    server.start(background=True)
    assert ask(server) == b"hello"
    server.stop()
