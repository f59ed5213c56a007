"""`rocket check`, as it is typed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rocket.bench.load import environment
from rocket.checks import CHECKS
from rocket.checks.connections import BALANCERS
from rocket.cli import main
from rocket.commands import check as command
from rocket.pools.readings import allowed_cpus

CPUS = allowed_cpus()  # no fewer threads: without the GIL each may compute
QUIET = ["--backlog", "1", "--max-queue", "1", "--threads", f"{CPUS}:{CPUS}", "--max-connections", "4"]


@pytest.fixture
def rocket(tmp_path, monkeypatch):
    """Run the command in an empty folder, without the variables of who runs the tests."""
    monkeypatch.chdir(tmp_path)
    clean = {name: None for name in os.environ if name.startswith("ROCKET_")}
    return lambda *arguments, **env: CliRunner().invoke(main, ["check", *arguments], env={**clean, **env})


def test_nothing_found_is_exit_code_0(rocket):
    done = rocket(*QUIET)
    assert "12 checks: nothing found" in done.output
    assert "no application named" in done.output
    assert done.exit_code == 0


def test_a_finding_is_exit_code_1_with_what_repairs_it(rocket):
    done = rocket(*QUIET, "--keep-alive", "20")
    assert done.exit_code == 1
    assert "RKT-005  warning: " in done.output
    assert "keep_alive is 20 s" in done.output
    assert "repair: keep_alive = 75" in done.output
    assert "docs/checks.md#rkt-005" in done.output
    assert "12 checks: 0 errors, 1 warning\n" in done.output


def test_the_documentation_has_every_exit_code(rocket):
    text = (Path(__file__).parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")
    codes = {
        0: QUIET,
        1: [*QUIET, "--keep-alive", "20"],
        2: ["--max-threads", "many"],
        4: ["no_such_module:app"],
    }
    for code, arguments in codes.items():
        assert rocket(*arguments).exit_code == code
    assert {int(found) for found in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(codes)


def test_it_takes_its_options_from_where_serve_does(rocket, tmp_path):
    assert rocket(*QUIET, ROCKET_KEEP_ALIVE="20").exit_code == 1
    (tmp_path / "rocket.toml").write_text("keep_alive = 20")
    assert rocket(*QUIET).exit_code == 1
    assert rocket(*QUIET, "--keep-alive", "80").exit_code == 0


def test_what_is_ignored_is_not_found(rocket):
    assert rocket(*QUIET, "--keep-alive", "20", "--ignore", "rkt-005").exit_code == 0
    assert rocket(*QUIET, "--keep-alive", "20", "--ignore", "RKT-001,RKT-005").exit_code == 0


def test_json(rocket):
    done = rocket(*QUIET, "--keep-alive", "20", "--ignore", "RKT-002", "--json")
    told = json.loads(done.output)
    assert [finding["number"] for finding in told["findings"]] == ["RKT-005"]
    assert set(told["findings"][0]) == {"number", "title", "severity", "message", "repair", "page"}
    assert told["ignored"] == ["RKT-002"]
    assert len(told["checked"]) == len(CHECKS) - 1
    assert told["application"] is None


def test_what_an_application_prints_is_not_among_the_json(tmp_path):
    (tmp_path / "printing.py").write_text("print('hello')\ndef app(environ, start_response): return []\n")
    # A process of its own: click's runner tells the two streams apart only from 8.2 on.
    clean = {name: value for name, value in environment().items() if not name.startswith("ROCKET_")}
    command = [sys.executable, "-m", "rocket", "check", *QUIET, "printing:app", "--json"]
    done = subprocess.run(command, check=False, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["application"] == "printing:app"
    assert "hello" in done.stderr


def test_an_engine_of_the_application_is_seen(rocket, tmp_path):
    pytest.importorskip("sqlalchemy")
    (tmp_path / "rocket_checks_shop.py").write_text(
        "from sqlalchemy import create_engine\n"
        "from sqlalchemy.pool import QueuePool\n"
        "engine = create_engine('sqlite:////nowhere/shop.db', poolclass=QueuePool, pool_size=2, max_overflow=1)\n"
        "def app(environ, start_response): return []\n"
    )
    done = rocket("rocket_checks_shop:app", *QUIET, "--min-threads", "1", "--threads", "4:4")
    assert done.exit_code == 2  # --threads and --min-threads contradict each other
    done = rocket("rocket_checks_shop:app", "--max-queue", "1", "--backlog", "1", "--threads", "4:4")
    assert "sqlite:////nowhere/shop.db gives out 3 connections" in done.output
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--ignore", "RKT-999"], 2, "there is no check 'RKT-999'"),
        (["--behind", "abacus"], 2, "'abacus' is none of alb, nginx"),
        (["nosuch_module:app"], 4, "there is no module 'nosuch_module'"),
        (["--keep-alive", "long"], 2, "keep_alive must be a number of seconds"),
        (["--certfile", "/nowhere.pem"], 2, "certfile (/nowhere.pem): No such file"),
        (["--bind", "tls://:8443"], 2, "has no certificate"),
    ],
)
def test_mistakes_are_told(rocket, arguments, code, message):
    done = rocket(*arguments)
    assert done.exit_code == code
    assert message in done.output


def test_the_balancers_of_the_help_are_those_that_are_known():
    assert tuple(BALANCERS) == command._BALANCERS
