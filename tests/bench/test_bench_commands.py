"""`rocket bench` as a user meets it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench_helpers import monitors_report, peers_report, steady
from click.testing import CliRunner

from rocket.bench import monitors, peers
from rocket.bench.load import environment
from rocket.bench.report import to_json
from rocket.bench.table import tables
from rocket.cli import main
from rocket.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


class Silent:
    def begin(self, steps): ...
    def step(self, name): ...
    def found(self, line): ...
    def problem(self, line): ...


def rocket(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


# --- Measuring -------------------------------------------------------------------------------------------------------


def test_monitors_are_measured_and_select_ends_where_it_says():
    plan = monitors.Plan(monitors=("poll", "select"), idle=(0, 1000), active=(2,), seconds=0.1, warmup=0.0, rounds=1)
    comparison = monitors.Comparison(plan, command="rocket bench monitors")
    report = comparison.run(Silent())
    assert report["problems"] == []
    cells = {(cell["monitor"], cell["idle"]): cell for cell in report["cells"]}
    assert set(cells) == {("poll", 0), ("select", 0), ("poll", 1000)}
    for cell in cells.values():
        assert cell["rate"][0] > 0
        assert 0 < cell["p50"][0] <= cell["p99"][0]
        assert cell["errors"] == [{}]
    memory = {(server["monitor"], server["idle"]): server["memory"][0] for server in report["servers"]}
    assert 0 < memory["poll", 1000] < 20_000
    assert all(server["wake_p50"][0] > 0 for server in report["servers"])
    words = [cell for table in tables(report) for row in table.rows for cell in row]
    assert "ends at 1,024 descriptors" in words or sys.platform != "linux"
    json.loads(to_json(report))


def test_rocket_is_measured_as_its_peers_are():
    plan = peers.Plan(scenarios=("hello", "slow", "echo"), servers=("rocket",), seconds=0.5, warmup=0.0, rounds=1)
    report = peers.Comparison(plan).run(Silent())
    assert report["problems"] == []
    assert [cell["scenario"] for cell in report["cells"]] == ["hello", "slow", "echo"]
    for cell in report["cells"]:
        assert cell["rate"][0] > 0
        assert cell["errors"] == [{}]
        assert cell["memory"][0] > 1_000_000


@pytest.mark.slow
def test_every_peer_that_is_installed_gets_through_every_scenario():
    python = os.environ.get("BENCH_PEERS", sys.executable)
    plan = peers.Plan(python=python, seconds=0.5, rounds=1)
    report = peers.Comparison(plan).run(Silent())
    hello = {cell["server"]: cell["rate"][0] for cell in report["cells"] if cell["scenario"] == "hello"}
    assert set(hello) == {"rocket", *report["machine"]["versions"]}
    assert all(hello.values())


def _python_that(folder, script):
    """Return a Python that is a shell script."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_server_that_fails_is_left_out_with_its_reason(tmp_path):
    python = _python_that(
        tmp_path,
        """if [ "$1" = -c ]; then echo '["3.11", {"waitress": "1"}]'; else echo out of order >&2; exit 1; fi""",
    )
    plan = peers.Plan(scenarios=("hello",), servers=("waitress",), python=python, seconds=0.1, warmup=0.0, rounds=1)
    report = peers.Comparison(plan).run(Silent())
    assert report["left_out"] == [{"scenario": "hello", "server": "waitress", "why": "out of order"}]
    assert report["cells"] == []


def test_ctrl_c_shows_what_is_there_and_leaves_nothing_running(tmp_path):
    arguments = ["--monitors", "poll", "--idle", "0", "--active", "1", "--seconds", "0.1", "--rounds", "1000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rocket", "bench", "monitors", *arguments, "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "BENCH_MARK": str(tmp_path)},
    )
    try:
        for line in process.stderr:
            if "round 2 " in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Monitors under load" in out
    assert "interrupted" in out
    assert json.loads((tmp_path / "monitors.json").read_text())["ended"] == "interrupted"
    assert _marked(tmp_path) == []


def _marked(mark):
    """Return the processes that inherited our mark, on Linux; none elsewhere."""
    found = []
    for folder in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        with contextlib.suppress(OSError):
            if f"BENCH_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes())
    return found


def test_script_in_bench_is_the_same_command():
    command = [sys.executable, str(ROOT / "bench" / "monitors.py"), "--help"]
    out = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True).stdout
    assert "--idle NUMBERS" in out


# --- Mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["monitors", "--idle", "many"], "'many' is not a whole number"),
        (["monitors", "--idle", "-1"], "idle (-1) must be at least 0"),
        (["monitors", "--active", "0"], "active (0) must be at least 1"),
        (["monitors", "--monitors", "epol"], "monitor 'epol': there is no such monitor; this host has"),
        (["monitors", "--seconds", "0"], "seconds (0.0) must be above 0"),
        (["monitors", "--rounds", "-3"], "rounds (-3) must be above 0"),
        (["monitors", "--seconds", "inf"], "seconds (inf) must be above 0"),
        (["monitors", "--options", "'--threads"], "No closing quotation"),
        (["monitors", "--budget", "0"], "budget (0) must be above 0"),
        (["monitors", "--output", "/dev/null/x"], "/dev/null/x"),
        (["monitors", "--idle", "99999999"], "99,999,999 idle connections are left out"),
        (["peers", "--servers", "apache"], "there is no server 'apache'; there are rocket, waitress"),
        (["peers", "--scenarios", "lunch"], "there is no scenario 'lunch'; there are hello"),
        (["peers", "--threads", "0"], "threads (0) must be above 0"),
        (["peers", "--python", "/no/python"], "python '/no/python' cannot be run"),
        (["show", "/no/report"], "/no/report"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_is_answered_with_the_thing_and_the_value(arguments, words):
    done = rocket(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_wrk_that_is_not_there_is_said():
    command = [sys.executable, "-m", "rocket", "bench", "monitors", "--wrk"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**environment(), "PATH": "/nowhere"}, check=False
    )
    assert done.returncode == 2
    assert "wrk is not installed" in done.stderr


def test_python_that_fails_is_said(tmp_path):
    with pytest.raises(ConfigError, match="out of order"):
        peers.installed(_python_that(tmp_path, "echo out of order >&2; exit 3"))


# --- Reports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    paths = {}
    other = monitors_report()
    other["cells"][4]["rate"] = steady(80_000)
    for name, report in {"one": monitors_report(), "two": other, "peers": peers_report()}.items():
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(to_json(report))
    return paths


def test_report_is_shown_again(files, tmp_path):
    assert "epoll ~ poll > select" in rocket("show", files["one"]).output
    assert "| epoll |" in rocket("show", files["one"], "--markdown").output
    assert rocket("show", files["peers"], "--output", tmp_path / "new").exit_code == 0
    assert (tmp_path / "new" / "peers.csv").exists()


def test_two_runs_agree_or_contradict_each_other(files):
    alike = rocket("agree", files["one"], files["one"])
    assert alike.exit_code == 0
    assert "requests/s: alike 3, contradict 0, cannot tell 1, one cannot tell 0" in alike.output
    other = rocket("agree", files["one"], files["two"])
    assert other.exit_code == 1
    assert "contradict: 5,000 idle, 1 active: epoll > poll; epoll < poll" in other.output
