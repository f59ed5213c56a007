"""Paste Deploy's `[server:main] use = egg:rocket`, with Pyramid's pserve."""

import importlib.metadata
import signal
import sys

import pytest
from core_helpers import PATIENCE, thread

from rocket import ConfigError
from rocket.integrations.paste import serve

APP = """
from pyramid.config import Configurator
from pyramid.response import Response

def hello(request):
    return Response("hello from " + request.registry.settings["who"])

def main(global_config, **settings):
    config = Configurator(settings=settings)
    config.add_route("hello", "/")
    config.add_view(hello, route_name="hello")
    return config.make_wsgi_app()
"""
INI = """
[DEFAULT]
anything = of the application

[app:main]
paste.app_factory = mysite:main
who = pyramid

[server:main]
{server}

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = generic

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = generic

[formatter_generic]
format = %(asctime)s %(levelname)s %(name)s: %(message)s
"""


def entry_points(group):
    """What the installed distribution says, by name."""
    try:
        found = importlib.metadata.distribution("rocket").entry_points
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {each.name: each.value for each in found if each.group == group}


@pytest.fixture
def pserve(start, tmp_path):
    """Run pserve with these lines in [server:main]."""
    for name in ("pyramid", "plaster_pastedeploy"):
        pytest.importorskip(name)

    def pserve(*lines):
        (tmp_path / "mysite.py").write_text(APP)
        (tmp_path / "mysite.ini").write_text(INI.format(server="\n".join(lines)))
        code = "import sys; sys.path.insert(0, ''); from pyramid.scripts.pserve import main; sys.exit(main())"
        return start("-c", code, "mysite.ini", folder=tmp_path)

    return pserve


# The entry point by its name, and for an installation that is older than the entry point the function itself.
RUNNERS = ["use = egg:rocket", "paste.server_runner = rocket.integrations.paste:serve"]


@pytest.fixture(params=RUNNERS, ids=["egg", "function"])
def use(request):
    if request.param.startswith("use") and "main" not in entry_points("paste.server_runner"):
        pytest.skip("rocket is not installed, or by a version without the entry point")
    return request.param


def test_pserve_serves_with_it(pserve, use):
    process = pserve(use, "host = 127.0.0.1", "port = 0", "max_threads = 3", "min_threads = 1", "monitor = poll")
    assert process.ask() == b"hello from pyramid"
    process.line("1 to 3 threads")
    assert "monitor poll" in process.log
    assert process.stop() == 0
    assert "Traceback" not in process.log


def test_bind_takes_several_addresses_and_switches_are_read(pserve, use):
    process = pserve(use, "bind = 127.0.0.1:0, 127.0.0.1:0", "defer_accept = false")
    assert process.ask() == b"hello from pyramid"
    assert process.log.count("http://127.0.0.1:") == 2
    process.signal(signal.SIGINT)
    assert process.wait() == 0


def test_an_unknown_option_is_named(pserve, use):
    process = pserve(use, "max_threds = 3")
    assert process.wait() != 0
    assert "unknown option 'max_threds': did you mean 'max_threads'?" in process.log


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


@pytest.mark.parametrize("where", [{"host": "127.0.0.1"}, {"port": "8000"}])
def test_host_or_port_beside_bind_is_an_error(where):
    with pytest.raises(ConfigError, match="bind and host or port"):
        serve(app, {}, bind="127.0.0.1:0", **where)


def test_an_impossible_port_is_an_error():
    with pytest.raises(ConfigError, match="many"):
        serve(app, {}, port="many")


def test_the_defaults_of_host_and_port(monkeypatch):
    import rocket.integrations.paste as module

    asked = []

    class FakeServer:
        def __init__(self, app, **options):
            asked.append(options)

        def serve_forever(self, on_ready):
            pass

    monkeypatch.setattr(module, "Server", FakeServer)
    serve(app, None, port="9")
    serve(app, None, host="::1")
    serve(app)
    assert asked == [{"bind": "127.0.0.1:9"}, {"bind": "[::1]:8000"}, {}]


def test_the_entry_points_name_what_exists():
    found = {**entry_points("paste.server_runner"), **entry_points("pytest11")}
    if not found:
        pytest.skip("rocket is not installed, or by a version without entry points")
    for value in found.values():
        module, _, name = value.partition(":")
        __import__(module)
        assert not name or callable(getattr(sys.modules[module], name))


def test_serve_ends_when_its_server_is_stopped(monkeypatch):
    """In a thread of its own, as a program that embeds it."""
    import rocket.integrations.paste as module

    made = []

    class Kept(module.Server):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

        def serve_forever(self, on_ready):
            super().serve_forever(self.stop)

    monkeypatch.setattr(module, "Server", Kept)
    with thread(lambda: serve(app, {}, port="0")) as running:
        running.join(PATIENCE)
    assert not made[0].running
