"""`rocket bench` as a user meets it."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench_helpers import monitors_report, peers_report, steady
from click.testing import CliRunner
from core_helpers import until

from rocket.bench import monitors, peers, wrk
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
    plan = monitors.Plan(monitors=("poll", "select"), idle=(0, 1000), active=(2,), seconds=0.5, warmup=0.0, rounds=1)
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


# A waitress that is none. What it does is the first argument; the last is waitress's --listen=127.0.0.1:PORT.
FAKE = """
import socket, sys
kind, port = sys.argv[1], int(next(each for each in sys.argv if each.startswith("--listen=")).rpartition(":")[2])
ANSWER = "HTTP/1.1 %s\\r\\nContent-Length: 0\\r\\n\\r\\n"
with socket.create_server(("127.0.0.1", port)) as listener:
    while True:
        connection, _ = listener.accept()
        while connection.recv(65536):
            connection.sendall((ANSWER % ("500 No" if kind == "errors" else "200 OK")).encode())
            if kind == "dies":
                sys.exit("out of luck")
"""


def _fake_waitress(folder, kind):
    """Return a Python that has this waitress alone. *kind*: "errors", "dies", or another command of the shell."""
    (folder / "fake.py").write_text(FAKE)
    serve = f'exec {sys.executable} {folder}/fake.py {kind} "$@"' if kind in {"errors", "dies"} else kind
    found = json.dumps(["3.11", {"waitress": "1"}, {"granian": "not installed"}])
    return _python_that(folder, f"""if [ "$1" = -c ]; then echo '{found}'; exit; fi; {serve}""")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("echo out of order >&2; exit 1", r"out of order"),
        ("dies", r"it ended under load: out of luck"),
        ("errors", r"nothing but errors: [\d,]+ status 500"),
    ],
    ids=["does not start", "dies", "errors"],
)
def test_server_that_fails_is_left_out_with_its_reason_and_spoils_no_other(kind, why, tmp_path):
    plan = peers.Plan(
        scenarios=("hello",),
        servers=("waitress", "rocket"),
        python=_fake_waitress(tmp_path, kind),
        seconds=0.5,
        warmup=0.0,
        rounds=1,
    )
    report = peers.Comparison(plan).run(Silent())
    (failed,) = report["left_out"]
    assert (failed["scenario"], failed["server"]) == ("hello", "waitress")
    assert re.fullmatch(why, failed["why"])
    (cell,) = report["cells"]
    assert cell["server"] == "rocket"
    assert cell["errors"] == [{}]
    assert ["waitress", failed["why"]] in tables(report)[0].rows
    assert all("waitress" in line for line in report["problems"])


def test_server_that_dies_in_a_later_round_keeps_its_figures_and_is_marked(tmp_path):
    """It is a real one at first: this Python's Rocket in waitress's place."""
    command = (
        f"if [ -e {tmp_path}/third ]; then echo out of luck >&2; exit 1; fi; "
        f"if [ -e {tmp_path}/second ]; then touch {tmp_path}/third; fi; touch {tmp_path}/second; "
        f"exec {sys.executable} -m rocket serve bench_apps:hello --bind 127.0.0.1:${{6##*:}}"
    )
    python = _fake_waitress(tmp_path, command)
    plan = peers.Plan(scenarios=("hello",), servers=("waitress",), python=python, seconds=0.5, warmup=0.0, rounds=2)
    report = peers.Comparison(plan).run(Silent())
    (cell,) = report["cells"]
    assert len(cell["rate"]) == 1
    assert cell["failed"] == ["out of luck"]
    assert report["problems"] == ["hello, waitress: out of luck"]
    assert tables(report)[0].rows[0][0] == "waitress !"


def test_tls_is_compared_and_who_has_none_is_named(tmp_path):
    scenarios, python = ("tls", "tls-fresh"), _fake_waitress(tmp_path, "exit 1")
    plan = peers.Plan(
        scenarios=scenarios, servers=("rocket", "waitress"), python=python, seconds=0.5, warmup=0.0, rounds=1
    )
    report = peers.Comparison(plan).run(Silent())
    assert report["problems"] == []
    assert [cell["scenario"] for cell in report["cells"]] == ["tls", "tls-fresh"]
    for cell in report["cells"]:
        assert cell["rate"][0] > 0
        assert cell["errors"] == [{}]
        assert cell["tls"].startswith("TLSv1.")
    assert report["left_out"] == [{"scenario": name, "server": "waitress", "why": "no TLS"} for name in scenarios]
    assert all(["waitress", "no TLS"] in table.rows for table in tables(report))


def test_wrk_loads_under_tls_but_not_with_a_connection_each():
    if not wrk.available():
        pytest.skip("wrk is not installed")
    plan = peers.Plan(scenarios=("tls", "tls-fresh"), servers=("rocket",), seconds=0.5, warmup=0.0, rounds=1, wrk=True)
    report = peers.Comparison(plan).run(Silent())
    assert report["problems"] == []
    kept, fresh = report["cells"]
    assert kept["rate"][0] > 0
    assert kept["generator_cpu"][0] != kept["generator_cpu"][0]  # nan: wrk
    assert fresh["generator_cpu"][0] > 0


def test_what_is_not_installed_is_told_from_what_cannot_be_imported(tmp_path):
    (tmp_path / "waitress.py").write_text("import no_such_module_of_its_own")
    (tmp_path / "cheroot.py").write_text("raise OSError('no luck')")
    (tmp_path / "bjoern.py").write_text("raise ModuleNotFoundError(name='bjoern')")
    python = _python_that(tmp_path, f'PYTHONPATH={tmp_path} exec {sys.executable} "$@"')
    absent = peers.installed(python).absent
    assert absent["waitress"] == "No module named 'no_such_module_of_its_own'"
    assert absent["cheroot"] == "OSError: no luck"
    assert absent["bjoern"] == "not installed"
    with pytest.raises(ConfigError, match="cheroot: OSError: no luck"):
        peers.Comparison(peers.Plan(servers=("cheroot",), python=python))


def test_ctrl_c_shows_what_is_there_and_leaves_nothing_running(tmp_path):
    arguments = ["--monitors", "poll", "--idle", "0", "--active", "1", "--seconds", "0.5", "--rounds", "1000"]
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
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Monitors under load" in out
    assert "interrupted" in out
    assert json.loads((tmp_path / "monitors.json").read_text())["ended"] == "interrupted"
    until(lambda: not _marked(tmp_path))


def _interrupt_peers(folder, python, *arguments):
    """Run the comparison, send SIGINT once somebody has written to the folder's fifo, and return what was said.

    As a terminal does: to all of the foreground group.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "rocket", "bench", "peers", "--scenarios", "hello", "--python", python, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "BENCH_MARK": str(folder), "PYTHONPATH": f"{ROOT}:{folder}"},
        start_new_session=True,
    )
    try:
        fifo = os.open(folder / "fifo", os.O_RDWR)  # for writing, too, so that it does not wait for the other end
        assert select.select([fifo], [], [], 60)[0]
        os.close(fifo)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    until(lambda: not _marked(folder))
    return out, err


def test_ctrl_c_while_a_server_starts_shows_what_was_measured_before(tmp_path):
    """It fails in the warm-up, and in the first round, after Rocket, it never listens."""
    os.mkfifo(tmp_path / "fifo")
    python = _fake_waitress(
        tmp_path,
        f"if [ ! -e {tmp_path}/once ]; then touch {tmp_path}/once; exit 1; fi; "
        f"echo now > {tmp_path}/fifo; exec sleep 1000",
    )
    arguments = ["--seconds", "0.5", "--servers", "rocket,waitress"]
    out, _ = _interrupt_peers(tmp_path, python, *arguments)
    assert re.search(r"^rocket +[\d,]+ ", out, re.MULTILINE)
    assert "not all was measured: interrupted" in out


def test_ctrl_c_in_the_warm_up_says_that_nothing_was_measured(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    python = _fake_waitress(tmp_path, f"echo now > {tmp_path}/fifo; exec sleep 1000")
    out, err = _interrupt_peers(tmp_path, python, "--servers", "waitress")
    assert out == ""
    assert "nothing was measured to the end: interrupted" in err


def test_ctrl_c_while_peers_are_looked_for_leaves_nothing_running(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    python = _python_that(tmp_path, f"echo now > {tmp_path}/fifo; exec sleep 1000")
    _, err = _interrupt_peers(tmp_path, python)
    assert "nothing was measured" in err


def test_ctrl_c_while_the_picture_is_drawn_keeps_the_figures_and_says_how_to_draw_it(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "matplotlib.py").write_text(
        "import select\n"
        "def use(_):\n"
        f"    with open({str(tmp_path / 'fifo')!r}, 'w') as file:\n"
        "        file.write('now')\n"
        "    while True:\n"
        "        select.select([], [], [], 0.1)\n"
    )
    arguments = ["--seconds", "0.5", "--rounds", "1", "--servers", "rocket", "--output", str(tmp_path / "found")]
    out, err = _interrupt_peers(tmp_path, sys.executable, *arguments)
    assert re.search(r"^rocket +[\d,]+ ", out, re.MULTILINE)
    assert "rocket bench show" in err
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["peers.csv", "peers.json"]


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
        (
            ["monitors", "--monitors", "pol"],
            "monitor 'pol': there is no such monitor (did you mean 'poll'?); this host has",
        ),
        (["monitors", "--seconds", "0"], "seconds (0.0) must be above 0"),
        (["monitors", "--rounds", "-3"], "rounds (-3) must be above 0"),
        (["monitors", "--seconds", "inf"], "seconds (inf) must be above 0"),
        (["monitors", "--options", "'--threads"], "No closing quotation"),
        (["monitors", "--budget", "0"], "budget (0) must be above 0"),
        (["monitors", "--output", "/dev/null/x"], "/dev/null/x"),
        (["monitors", "--idle", "99999999"], "99,999,999 idle connections are left out"),
        (["peers", "--servers", "apache"], "there is no server 'apache'; there are rocket, waitress"),
        (
            ["peers", "--servers", "waitres"],
            "no server 'waitres' (did you mean 'waitress'?); there are rocket,",
        ),
        (
            ["peers", "--scenarios", "tls-frsh"],
            "no scenario 'tls-frsh' (did you mean 'tls-fresh'?); there are",
        ),
        (["peers", "--scenarios", "lunch"], "there is no scenario 'lunch'; there are hello"),
        (["peers", "--servers", "rocket", "--scenarios", "hello,fresh", "--budget", "5"], "budget (5 s) is too short"),
        (["peers", "--servers", "rocket", "--scenarios", "hello,fresh", "--budget", "5"], "take about 12 s"),
        (["peers", "--servers", "rocket", "--scenarios", "hello", "--budget", "nan"], "budget (nan) must be above 0"),
        (["peers", "--python", "/bin/true"], "python '/bin/true' is no Python"),
        (["peers", "--python", "/bin/false"], "python '/bin/false' fails: exit code 1"),
        (["peers", "--python", "/"], "python '/' cannot be run: Permission denied"),
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
