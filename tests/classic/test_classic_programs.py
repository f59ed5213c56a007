"""Programs for Rocket 1.x and rocket3, as their documentation, Bottle and web2py have them: they run unchanged."""

import re
import signal
import socket
import urllib.error

import pytest
from core_helpers import PATIENCE, thread, until
from process_helpers import ROOT, Process

from rocket.bench.processes import free_port

# What a test adds to a program: it shows where it listens, by the message that Rocket always logged.
PRELUDE = """\
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
"""


@pytest.fixture
def run(tmp_path):
    started = []

    def run(source, *arguments):
        listening = r"Listening on sockets: ([^ ,]+)"
        path = tmp_path / "program.py"
        path.write_text(PRELUDE + source)
        started.append(Process(path, *arguments, folder=tmp_path, listening=listening))
        return started[-1]

    yield run
    for program in started:
        program.end()


# "Using Rocket" of Rocket 1.2.4, with a free port.
NATIVE = """
from rocket import Rocket
from wsgiref.simple_server import demo_app

server = Rocket(('127.0.0.1', 0), 'wsgi', {"wsgi_app":demo_app})
server.start()
print("the end")
"""

CHERRYPY = """
from rocket import CherryPyWSGIServer
from wsgiref.simple_server import demo_app

server = CherryPyWSGIServer(('127.0.0.1', 0), demo_app)
server.start()
print("the end")
"""

# The README of rocket3 of 2024: its application returns text.
ROCKET3 = """
from rocket3 import Rocket3 as Rocket

def demo_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    data = "<html><body><h1>Hello from Rocket Web Server</h1></body></html>"
    return [data]


server = Rocket(('127.0.0.1', 0), "wsgi", {"wsgi_app": demo_app})
server.start()
print("the end")
"""

# What gluon/main.py does in HttpServer: signal handlers of its own, a path to the pid file.
WEB2PY = """
import os, signal, socket, threading
import rocket3

class HttpServer(object):
    def __init__(self, app, ip='127.0.0.1', port=8000, min_threads=None, max_threads=None, server_name=None,
                 request_queue_size=5, timeout=10, socket_timeout=1):
        rocket3.SERVER_NAME = server_name or socket.gethostname()
        rocket3.SOCKET_TIMEOUT = socket_timeout
        assert rocket3.ssl
        self.server = rocket3.Rocket3(tuple([ip, port]),
                                      method='wsgi',
                                      app_info={'wsgi_app': app},
                                      min_threads=min_threads,
                                      max_threads=max_threads,
                                      queue_size=int(request_queue_size),
                                      timeout=int(timeout),
                                      handle_signals=False)

    def start(self):
        signal.signal(signal.SIGTERM, lambda a, b, s=self: s.stop())
        signal.signal(signal.SIGINT, lambda a, b, s=self: s.stop())
        with open('httpserver.pid', 'w') as f:
            f.write(str(os.getpid()))
        self.server.start()

    def stop(self, stoplogging=False):
        print("stopping")
        self.server.stop(stoplogging)
        os.unlink('httpserver.pid')

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    if environ['PATH_INFO'] == '/stuck':
        print("stuck")
        threading.Event().wait()
    return [b'web2py']

HttpServer(app, port=0).start()
print("the end")
"""


@pytest.mark.parametrize("source", [NATIVE, CHERRYPY, ROCKET3], ids=["rocket", "cherrypy", "rocket3"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_comes(run, source, number):
    program = run(source)
    assert b"Hello" in program.ask()
    program.signal(number)
    assert program.wait() == 0, program.log
    assert "the end" in program.log
    assert "Traceback" not in program.log


def test_bottles_adapter(run):
    pytest.importorskip("bottle")
    """That of Bottle 0.10 to 0.12; it has none any more."""
    program = run("""
import bottle

class RocketServer(bottle.ServerAdapter):
    def run(self, handler):
        from rocket import Rocket
        server = Rocket((self.host, self.port), 'wsgi', { 'wsgi_app' : handler })
        server.start()

@bottle.route("/hello/<name>")
def hello(name):
    return "hello " + name

bottle.run(server=RocketServer, host="127.0.0.1", port=0, quiet=True)
print("the end")
""")
    assert program.ask("hello/world") == b"hello world"
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert "the end" in program.log


def test_the_adapter_for_bottle_of_the_documentation(run):
    pytest.importorskip("bottle")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "integrations.md").read_text(), re.DOTALL)
    source = next(block for block in blocks if "bottle.ServerAdapter" in block)
    assert "port=8000" in source
    port = free_port()
    program = run(source.replace("port=8000", f"port={port}"))

    def listens():
        assert program.process.poll() is None, program.log
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except ConnectionRefusedError:
            return False
        return True

    until(listens)  # the adapter's own messages come before that
    assert program.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_web2pys_own_signal_handlers_stop_it(run, tmp_path, number):
    program = run(WEB2PY)
    assert program.ask() == b"web2py"
    assert (tmp_path / "httpserver.pid").exists()
    program.signal(number)
    assert program.wait() == 0, program.log
    assert program.log.endswith("the end")
    assert not (tmp_path / "httpserver.pid").exists()


def test_a_second_signal_to_web2py_does_not_wait_for_stuck_requests(run):
    source = WEB2PY.replace("handle_signals=False)", "handle_signals=False, graceful_timeout=1000)")
    program = run(source.replace("os.unlink('httpserver.pid')", "pass"))
    with thread(_ask_in_vain, program):
        program.line("stuck")
        program.signal(signal.SIGTERM)
        program.line("stopping")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.log
    assert program.log.endswith("the end")


def _ask_in_vain(program):
    with pytest.raises(OSError):  # noqa: PT011 (cut off, one way or another)
        program.ask("stuck")


def test_sigusr1_restarts(run):
    program = run(NATIVE)
    program.ask()
    for count in (2, 3):
        program.signal(signal.SIGUSR1)
        assert b"Hello" in program.ask(count=count)
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert program.log.count("Starting") == 1
    assert "the end" in program.log


BACKGROUND = """
import threading
from rocket import Rocket

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"background"]

server = Rocket(("127.0.0.1", 0), "wsgi", {"wsgi_app": app})
server.start(background=True)
print("the program goes on")
while server.servers[0].running:
    threading.Event().wait(0.01)
print("the end")
"""


def test_in_the_background_the_program_goes_on_and_signals_still_count(run):
    program = run(BACKGROUND)
    program.line("goes on")
    assert program.ask() == b"background"
    program.signal(signal.SIGTERM)
    assert program.wait() == 0, program.log
    assert "the end" in program.log


def test_ctrl_c_reaches_a_program_whose_server_is_in_the_background(run):
    program = run(BACKGROUND)
    program.ask()
    program.signal(signal.SIGINT)
    assert program.wait() != 0
    assert "KeyboardInterrupt" in program.log


def test_ctrl_c_ends_start_without_signal_handlers(run):
    program = run(NATIVE.replace("demo_app})", "demo_app}, handle_signals=False)"))
    program.ask()
    program.signal(signal.SIGINT)
    assert program.wait() == 0, program.log
    assert "the end" in program.log
    assert "Traceback" not in program.log


def test_sigterm_lets_a_request_end(run):
    program = run("""
import threading
from rocket import Rocket

def app(environ, start_response):
    print("begun")
    while server.servers[0]._running and not server.servers[0]._running.draining:
        threading.Event().wait(0.01)
    start_response("200 OK", [])
    return [b"whole"]

server = Rocket(("127.0.0.1", 0), "wsgi", {"wsgi_app": app})
server.start()
""")
    answers = []
    with thread(lambda: answers.append(program.ask())):
        program.line("begun")
        program.signal(signal.SIGTERM)
    assert answers == [b"whole"]
    assert program.wait() == 0


def test_the_demo_of_rocket3(run):
    program = run("from rocket3 import demo\ndemo()\n", "-p", "0")
    assert b"Hello from" in program.ask()
    program.signal(signal.SIGTERM)
    assert program.wait() == 0


def test_the_example_of_the_classic_api(tmp_path):
    arguments = (ROOT / "examples" / "classic_app.py", "0")
    process = Process(*arguments, folder=tmp_path, listening=r"Listening on sockets: ([^ ,]+)")
    try:
        assert b"<b>" not in process.ask("start?name=%3Cb%3E")
        with pytest.raises(urllib.error.HTTPError, match="409"):
            process.ask("start?name=%3Cb%3E")
        assert b"&lt;b&gt;" in process.ask()
        assert process.ask("report?name=%3Cb%3E") == b"the report <b>"
        assert process.stop() == 0
    finally:
        process.end()


def test_the_example_for_web2py(tmp_path):
    """With a stand-in for web2py: the one on PyPI is for Python 2."""
    (tmp_path / "gluon").mkdir()
    (tmp_path / "gluon" / "__init__.py").touch()
    (tmp_path / "gluon" / "main.py").write_text(
        "import os\n"
        "def wsgibase(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [os.getcwd().encode()]\n"
    )
    arguments = ("-m", "rocket", "serve", "--app-dir", ROOT / "examples", "web2py_app", "--bind", "127.0.0.1:0")
    process = Process(*arguments, folder=ROOT, WEB2PY=str(tmp_path))
    try:
        assert process.ask() == str(tmp_path).encode()
        assert process.stop() == 0
    finally:
        process.end()
    process = Process(*arguments, folder=ROOT)
    try:
        assert process.wait() == 4
        assert "WEB2PY must be the folder of web2py" in process.log
    finally:
        process.end()
