"""Each example in examples/ does what it says. The frameworks' are in test_e2e_frameworks.py."""

import importlib
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from e2e_server import PATIENCE, ROOT, until

from rocket import Server

EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(monkeypatch):
    """Import an example by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.fixture
def talk(example, connect):
    """Send lines to the line server, and return all that it answers."""
    line_server = example("line_server")
    server = Server(line_server.Store(), worker=line_server.LineWorker, bind="127.0.0.1:0", max_threads=2)
    with server:
        address = SimpleNamespace(address=server.addresses[0])

        def send(*pieces):
            client = connect(address)
            for piece in pieces:
                client.send(piece)
            return client.rest()

        yield send


def test_every_example_is_in_the_table():
    told = re.findall(r"^\| `(\w+\.py)`", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_the_line_server_answers_lines(talk):
    assert talk(b"SET colour red\nGET colour\r\nGET size\nQUIT\n") == b"OK\nred\nNONE\nBYE\n"


def test_the_line_server_takes_lines_in_pieces(talk):
    assert talk(b"SE", b"T a", b" 1", b"\nGET", b" a\nQUI", b"T\n") == b"OK\n1\nBYE\n"


def test_the_line_server_shares_its_store_between_connections(talk):
    assert talk(b"SET a 1\nQUIT\n") == b"OK\nBYE\n"
    assert talk(b"GET a\nQUIT\n") == b"1\nBYE\n"


def test_the_line_server_refuses_what_it_does_not_know(talk):
    assert talk(b"GARBAGE\n\nQUIT\n").count(b"ERROR") == 2
    assert talk(b"x" * 5000).startswith(b"ERROR the line is not whole")


def test_the_line_server_refuses_a_late_line_in_its_own_words(talk, example, monkeypatch):
    monkeypatch.setattr(example("line_server").LineWorker, "line_timeout", 0.1)
    answer = talk(b"SET a 1\nGET")
    assert answer.startswith(b"OK\nERROR ")
    assert b"HTTP" not in answer


def test_the_line_server_answers_more_than_its_peer_takes_at_once(talk):
    commands = b"SET a " + b"x" * 1000 + b"\n" + b"GET a\n" * 5000 + b"QUIT\n"
    assert talk(commands) == b"OK\n" + (b"x" * 1000 + b"\n") * 5000 + b"BYE\n"


def test_the_files_have_a_field_and_a_page_of_their_own(example, connect, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with example("files").make_server(tmp_path, bind="127.0.0.1:0", max_threads=2) as server:
        client = connect(SimpleNamespace(address=server.addresses[0]))
        answer = client.ask("/a.txt")
        assert (answer.body, answer.fields["referrer-policy"]) == (b"a", "no-referrer")
        answer = client.ask("/nothing")
        assert answer.status == 404
        assert b"<h1>Not here</h1>" in answer.body
        assert client.ask("/nothing", "HEAD").body == b""
        assert b'href="./a.txt"' in client.ask("/").body


def test_the_embedded_server_answers_and_ends():
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "embedded.py")],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.startswith("Hello from /one\nHello from /two\n2 connections, ")
    assert done.stderr == ""


def test_the_policy_decides(serve, connect):
    server = serve("--scaling", "own_policy:Headroom", "--threads", "1:8", app_dir=EXAMPLES)
    assert server.stats()["policy"] == "Headroom"

    def decides():
        assert connect(server).ask("/sleep?s=0.5").status == 200  # an idle server asks nobody
        return re.search(r"pool 1 -> \d: ", server.log)

    until(decides, "it was asked while there was work")


def test_the_monitor_watches_and_reports(serve, connect):
    server = serve("--monitor", "own_monitor:CountingMonitor", app_dir=EXAMPLES)
    client = connect(server)
    assert [client.ask("/hello").status for _ in range(3)] == [200] * 3
    assert server.stop() == 0
    server.line(r"poll\(2\) was called \d+ times, for [1-9]\d* events")
