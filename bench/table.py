"""Measure what issue 2 asks for, and write it down: bench/results/*.json, the tables in the documents, the picture.

    python bench/table.py --rocket "PYTHON -m rocket" --peers PYTHON --rounds 3 --seconds 3   (25 minutes)
    python bench/table.py --only hello-64,monitors --rounds 1 --seconds 1                      (to try it)
    python bench/table.py --render                                                             (measure nothing)

The load is ../shared/compare/compare.py's (--compare says where else it is): wrk over loopback, servers in turn.
--rocket is a command that starts Rocket, --peers a Python that has the other servers. This checkout comes first on
PYTHONPATH, so it is what is measured. A row that was not measured this time keeps its figures; each has its date.

In each document of DOCUMENTS the lines between ``<!-- table: NAME -->`` and ``<!-- end -->`` are replaced.
The picture (docs/images/peers.svg and .png) needs matplotlib: ``pip install '.[bench]'``.
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
IMAGES = ROOT / "docs" / "images"
DOCUMENTS = ("README.md", "bench/README.md", "docs/design.md", "docs/tuning.md")
SERVERS = ("rocket", "waitress", "cheroot", "gunicorn", "granian", "bjoern")
COMPILED = {"granian", "bjoern"}  # Rust and C; the others are Python
MONITORS = ("epoll", "poll", "selectors", "select")
MANY = ("--threads", "64", "--options", "--max-threads 64")


@dataclass(frozen=True)
class Row:
    """One kind of work. *must* and *mark* are the issue's figures.

    A peer's name: times its requests/s; "best": times the best peer's; "rate": requests/s; "p99": below every peer's.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    must: dict[str, float]
    mark: dict[str, float]


ROWS = [
    Row("hello-64", "hello, 64 connections", ("--app", "hello", "-c", "64"),
        {"waitress": 8, "granian": 0.75}, {"waitress": 11, "granian": 1.0}),
    Row("hello-4", "hello, 4 connections", ("--app", "hello", "-c", "4"),
        {"waitress": 7, "granian": 1.2}, {"waitress": 9, "granian": 1.7}),
    Row("browser", "hello, a browser's requests", ("--app", "hello", "-c", "64", "--script", "browser.lua"),
        {"waitress": 6, "granian": 0.75}, {"waitress": 8, "granian": 1.0}),
    Row("sleep10", "each waits 10 ms (ideal 6,400)", ("--app", "sleep10", "-c", "64", *MANY),
        {"rate": 5700}, {"rate": 6150}),
    Row("mixed", "1 of 100 waits 100 ms", ("--app", "mixed", "-c", "64", *MANY),
        {"waitress": 5, "granian": 0.8}, {"waitress": 6.7, "granian": 1.0}),
    Row("cpu", "0.5 ms of Python each", ("--app", "cpu", "-c", "64"),
        {"best": 1.0}, {"best": 1.0, "p99": 1.0}),
    Row("echo", "POST of 10 KB and back", ("--app", "echo", "-c", "64"),
        {"waitress": 6, "granian": 0.8}, {"waitress": 10, "granian": 1.5}),
]  # fmt: skip
MONITOR_ROW = ("--app", "hello", "-c", "64", "--servers", "rocket")
MONITOR_MUST, MONITOR_MARK = 0.6, 0.8
SCRIPTS = {"idle": ["idle.py"], "idle-poll": ["idle.py", "--options", "--monitor poll"], "request": ["request.py"]}
ALL = [*(row.name for row in ROWS), "monitors", *SCRIPTS]


# --- Measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """How to measure, as the command line says."""

    compare: Path
    rocket: str
    peers: str
    rounds: int
    seconds: int
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, arguments, rounds):
        load = ["--rocket", self.rocket, "--peers", self.peers, "--rounds", str(rounds), "--seconds", str(self.seconds)]
        return [str(self.compare), *arguments, *load]

    def row(self, row):
        command = self.command(row.arguments, self.rounds)
        servers = run([sys.executable, *command, "--json"])["servers"]
        if "rocket" not in servers:
            sys.exit("Rocket did not start: is --rocket right?")
        save(row.name, {"command": shown(command), "servers": servers, **self.facts()})

    def monitors(self):
        """Measure the monitors in turn, round after round: compare.py would do all rounds of one before the next."""
        runs = {name: [] for name in MONITORS}
        for _ in range(self.rounds):
            for name, found in runs.items():
                command = self.command([*MONITOR_ROW, "--options", f"--monitor {name}"], 1)
                found.append(run([sys.executable, *command, "--json"])["servers"]["rocket"])
        servers = {
            name: {key: statistics.median(each[key] for each in found) for key in ("rps", "p50", "p99")}
            | {"spread": [min(each["rps"] for each in found), max(each["rps"] for each in found)], "errors": ""}
            for name, found in runs.items()
        }
        command = self.command([*MONITOR_ROW, "--options", "--monitor NAME"], 1)
        words = f"{shown(command)}   (each monitor in turn, {self.rounds} times)"
        save("monitors", {"command": words, "servers": servers, **self.facts()})

    def script(self, name):
        """Run one of the scripts beside this one, by the Python that runs Rocket."""
        python = shlex.split(self.rocket)[0]
        script, *arguments = SCRIPTS[name]
        if script == "idle.py":
            arguments += ["--rounds", str(self.rounds), "--seconds", str(self.seconds)]
        found = run([python, str(ROOT / "bench" / script), *arguments, "--json"])
        save(name, {"command": shlex.join(["python", f"bench/{script}", *arguments]), "found": found, **self.facts()})

    def facts(self):
        return {"date": time.strftime("%Y-%m-%d"), "environment": self.environment}


def run(command):
    """Return what *command*, a script with --json, has found."""
    print("$", shlex.join(command), file=sys.stderr, flush=True)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join(filter(None, [str(ROOT), inherited]))
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(f"it ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def shown(command):
    """Return *command* as a person would type it, wherever compare.py and the environments are."""
    places = {"--rocket": "VENV/bin/python -m rocket", "--peers": "PEERS/bin/python"}
    words = [places.get(before, word) for before, word in zip(command, command[1:])]
    return shlex.join(["python", "compare.py", *words])


def save(name, result):
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def environment(rocket, peers):
    """Return what the figures depend on."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    listing = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in %r if %s), sep=', ')"
    here = "any(d.metadata['Name'] == n for d in m.distributions())"
    asked = {
        "rocket": [*shlex.split(rocket), "--version"],
        "commit": ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        "peers": [peers, "-c", listing % (SERVERS[1:], here)],
        "peers_python": [peers, "-c", "import platform; print(platform.python_version())"],
        "wrk": ["wrk", "-v"],  # which it answers with exit code 1
    }
    first = {}
    for name, command in asked.items():
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        first[name] = (done.stdout.strip().splitlines() or [""])[0]
    first["wrk"] = re.sub(r" \[.*", "", first["wrk"])
    return {
        **first,
        "machine": f"{os.cpu_count()} CPUs, {_cpu()}; {platform.system()} {platform.release()}",
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }


def _cpu():
    try:
        return re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


# --- Tables ----------------------------------------------------------------------------------------------------------


def load():
    """Return the results that there are, by name."""
    # policies.json is another script's.
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    return {name: result for name, result in found.items() if "environment" in result}


def tables(results):
    """Return the text of each table that can be filled, by name."""
    made = {}
    rows = [row for row in ROWS if row.name in results]
    for row in rows:
        made[row.name] = _servers(results[row.name], f"{row.title}: ")
    if rows:
        made["summary"] = _summary(rows, results)
        made["hello"] = _servers(results["hello-64"], "") if "hello-64" in results else ""
    if "monitors" in results:
        made["monitors"] = _monitors(results["monitors"])
    for name in ("idle", "idle-poll"):
        if name in results:
            made[name] = _idle(results[name])
    if "request" in results:
        made["request"] = _request(results["request"])
    if results:
        made["environment"] = _environment(results)
        made["commands"] = _code(f"# {result['date']}\n{result['command']}" for result in results.values())
    return {name: text for name, text in made.items() if text}


def _table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|--:" * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _servers(result, before):
    base = result["servers"]["rocket"]["rps"]
    rows = []
    for name, found in result["servers"].items():
        ratio = f"{base / found['rps']:.2f}x" if name != "rocket" and found["rps"] else ""
        rows.append([*_cells(name, found), ratio, found["errors"].replace("|", ";")])
    head = ["server", *COLUMNS, "Rocket is", "errors"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return "\n".join([f"{before}`{result['command']}`, {result['date']}", "", *_table(head, rows)])


COLUMNS = ["requests/s", "lowest to highest", "p50 ms", "p99 ms"]


def _cells(name, found):
    spread = "{:,.0f} to {:,.0f}".format(*found["spread"])
    return [name, f"{found['rps']:,.0f}", spread, f"{found['p50']:.2f}", f"{found['p99']:.2f}"]


def goal(targets, servers):
    """Return the issue's *targets* in words, what was measured, and whether they are reached ("?": no such peer)."""
    rocket = servers["rocket"]
    peers = {name: found for name, found in servers.items() if name != "rocket" and found["rps"]}
    words, measured, reached = [], [], []
    for name, figure in targets.items():
        if name == "rate":
            words.append(f"{figure:,}/s")
            measured.append(f"{rocket['rps']:,.0f}/s")
            reached.append(rocket["rps"] >= figure)
        elif name == "best":
            words.append("the best peer's rate")
            best = max(peers, key=lambda peer: peers[peer]["rps"], default=None)
            measured.append(f"{rocket['rps'] / peers[best]['rps']:.2f}x {best}" if best else "?")
            reached.append(rocket["rps"] >= figure * peers[best]["rps"] if best else None)
        elif name == "p99":
            words.append("p99 below every peer's")
            best = min(peers, key=lambda peer: peers[peer]["p99"], default=None)
            measured.append(f"p99 {rocket['p99']:.1f} ms, {best} {peers[best]['p99']:.1f}" if best else "?")
            reached.append(rocket["p99"] < peers[best]["p99"] if best else None)
        else:
            words.append(f"{figure:g}x {name}")
            ratio = rocket["rps"] / peers[name]["rps"] if name in peers else None
            measured.append("?" if ratio is None else f"{ratio:.2f}x {name}")
            reached.append(None if ratio is None else ratio >= figure)
    verdict = "?" if None in reached else "yes" if all(reached) else "no"
    return ", ".join(words), ", ".join(measured), verdict


def _summary(rows, results):
    lines = []
    for row in rows:
        servers = results[row.name]["servers"]
        must, _, must_reached = goal(row.must, servers)
        mark, measured, mark_reached = goal(row.mark, servers)
        lines.append((row.title, f"{servers['rocket']['rps']:,.0f}", measured, must, must_reached, mark, mark_reached))
    if "monitors" in results:
        lines += _summary_of_monitors(results["monitors"]["servers"])
    if "idle" in results:
        lines += _summary_of_idle(results["idle"]["found"])
    return "\n".join(_table(["work", "Rocket, requests/s", "Rocket is", "must", "reached", "mark", "reached"], lines))


def _summary_of_monitors(servers):
    for name in ("poll", "selectors"):
        ratio = servers[name]["rps"] / servers["epoll"]["rps"]
        must = (f"{MONITOR_MUST}x epoll", _yes(ratio >= MONITOR_MUST))
        mark = (f"{MONITOR_MARK}x epoll", _yes(ratio >= MONITOR_MARK))
        yield f"hello, monitor {name}", f"{servers[name]['rps']:,.0f}", f"{ratio:.2f}x epoll", *must, *mark


def _summary_of_idle(found):
    count, size, loss = found["connections"], found["bytes_per_connection"], found["loss"]
    calls, cpu = found["calls_at_rest"]["without"], found["cpu_at_rest"]["without"]
    lost = f"{loss:.1%} slower" if loss > 0 else "no slower"
    yield f"hello beside {count:,} idle", f"{found['with']:,}", lost, "< 10 % slower", _yes(loss < 0.1), "", ""
    size_reached = _yes(size < 2048), "0.4 KB, the sketch", _yes(size <= 410)
    yield "an idle connection", "", f"{size:,} bytes", "< 2 KB", *size_reached
    yield (
        f"rest, {found['rest_seconds']} s",
        "",
        f"{calls} calls, {cpu:.2f} s CPU",
        "none",
        _yes(not calls + cpu),
        "",
        "",
    )


def _yes(reached):
    return "yes" if reached else "no"


def _monitors(result):
    servers = result["servers"]
    rows = [[*_cells(name, found), f"{found['rps'] / servers['epoll']['rps']:.2f}x"] for name, found in servers.items()]
    return "\n".join([f"`{result['command']}`, {result['date']}", "", *_table(["monitor", *COLUMNS, "of epoll"], rows)])


def _idle(result):
    found = result["found"]
    rows = [
        ["requests/s, 64 connections", f"{found['with']:,}", f"{found['without']:,}"],
        [f"CPU at rest, s in {found['rest_seconds']} s"]
        + [f"{found['cpu_at_rest'][which]:.2f}" for which in ("with", "without")],
        [f"system calls at rest in {found['rest_seconds']} s"]
        + [f"{found['calls_at_rest'][which]}" for which in ("with", "without")],
        ["resident memory for each, bytes", f"{found['bytes_per_connection']:,}", ""],
    ]
    head = ["", f"{found['connections']:,} idle connections", "none"]
    return "\n".join([f"`{result['command']}`, {result['date']}", "", *_table(head, rows)])


def _request(result):
    found = result["found"]
    rows = [[words, f"{figure:.2f}"] for words, figure in found["microseconds"].items()]
    head = ["request", "us"]
    return "\n".join([f"`{result['command']}`, {result['date']}, Python {found['python']}", "", *_table(head, rows)])


def _environment(results):
    seen = {}
    for name, result in results.items():
        facts = result["environment"]
        text = (
            f"{result['date']}, commit {facts['commit']}: {facts['machine']}. {facts['rocket']}. "
            f"Peers on Python {facts['peers_python']}: {facts['peers']}. {facts['wrk']}."
        )
        seen.setdefault(text, []).append(name)
    return "\n".join(f"* {', '.join(names)}: {text}" for text, names in seen.items())


def _code(lines):
    return "\n".join(["```sh", *lines, "```"])


def fill(text, made):
    """Return *text* with the tables of *made* in the places marked for them."""

    def table(match):
        found = made.get(match[1])
        return match[0] if found is None else f"<!-- table: {match[1]} -->\n\n{found}\n\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def render(results):
    made = tables(results)
    for name in DOCUMENTS:
        path = ROOT / name
        if path.exists():
            before = path.read_text()
            after = fill(before, made)
            if after != before:
                path.write_text(after)
                print(f"filled {name}", file=sys.stderr)
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (pip install '.[bench]')", file=sys.stderr)
        return
    matplotlib.use("Agg")
    draw(results)


# --- The picture -----------------------------------------------------------------------------------------------------

# Okabe and Ito's colours, told apart by all kinds of colour vision, and by their lightness when printed grey.
BLUE, GREY, ORANGE, INK = "#0072b2", "#b0b0b0", "#e69f00", "#222222"


def draw(results):
    """Draw the rows as bars, six panels, into docs/images/peers.svg and peers.png."""
    from matplotlib import pyplot

    rows = [row for row in ROWS if row.name in results and row.name != "hello-4"]
    if not rows:
        return
    pyplot.rcParams.update({"font.size": 10, "svg.hashsalt": "rocket", "text.color": INK, "axes.labelcolor": INK})
    height = (len(rows) + 1) // 2
    figure, axes = pyplot.subplots(height, 2, figsize=(9, 0.9 + 2.3 * height), squeeze=False, layout="constrained")
    for panel in axes.flat[len(rows) :]:
        panel.set_visible(False)
    for panel, row in zip(axes.flat, rows):
        _panel(panel, row, results[row.name])
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in (BLUE, GREY, ORANGE)]
    words = ["Rocket (Python)", "other servers in Python", "servers in Rust (granian) and C (bjoern)"]
    figure.legend(handles, words, loc="outside lower center", ncols=3, frameon=False)
    dates = sorted({results[row.name]["date"] for row in rows})
    machine = results[rows[0].name]["environment"]["machine"]
    figure.suptitle(
        f"Requests per second on {machine.split(';')[0]} with wrk beside it\n"
        f"longer is better; line: lowest to highest round; {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}",
        fontsize=10.5,
    )
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / "peers.svg", facecolor="white", metadata={"Date": None})
    figure.savefig(IMAGES / "peers.png", facecolor="white", dpi=110)
    print("drew docs/images/peers.svg and peers.png", file=sys.stderr)


def _panel(panel, row, result):
    servers = [(name, found) for name, found in result["servers"].items() if found["rps"]][::-1]
    longest = max(found["spread"][1] for _, found in servers)
    for place, (name, found) in enumerate(servers):
        colour = BLUE if name == "rocket" else ORANGE if name in COMPILED else GREY
        panel.barh(place, found["rps"], color=colour, height=0.72)
        panel.plot(found["spread"], [place, place], color=INK, linewidth=1)
        words = f"{found['rps']:,.0f}   p99 {_short(found['p99'])} ms"
        panel.text(max(found["rps"], found["spread"][1]) + 0.02 * longest, place, words, va="center", fontsize=8.5)
    panel.set_yticks(range(len(servers)), [name for name, _ in servers])
    panel.set_xlim(0, longest * 1.55)  # room for the words behind the longest bar
    panel.set_title(row.title, fontsize=10.5, loc="left", fontweight="bold")
    panel.set_xlabel("requests/s", fontsize=8.5)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panel.locator_params(axis="x", nbins=5)
    panel.set_xticks([tick for tick in panel.get_xticks() if 0 <= tick <= longest * 1.05])
    panel.tick_params(axis="x", labelsize=8)
    panel.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _short(milliseconds):
    return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:,.0f}"


# --- The command line ------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, default=ROOT.parent / "shared" / "compare" / "compare.py")
    parser.add_argument("--rocket", default=f"{sys.executable} -m rocket")
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", default=",".join(ALL), help=f"some of {','.join(ALL)}")
    parser.add_argument("--render", action="store_true", help="measure nothing: fill in and draw what was measured")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if not set(wanted) <= set(ALL):
        parser.error(f"--only: there are {', '.join(ALL)}")
    if not args.render:
        if not args.compare.exists():
            parser.error(f"{args.compare} does not exist: say --compare PATH")
        bench = Bench(args.compare, args.rocket, args.peers, args.rounds, args.seconds)
        bench.environment = environment(args.rocket, args.peers)
        for row in ROWS:
            if row.name in wanted:
                bench.row(row)
        if "monitors" in wanted:
            bench.monitors()
        for name in SCRIPTS:
            if name in wanted:
                bench.script(name)
    render(load())


if __name__ == "__main__":
    main()
