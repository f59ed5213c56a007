"""Does `rocket tune` find what can be found by hand? Four applications whose limits are known (bench/tune_apps.py).

    python bench/tune_check.py waits

runs `rocket tune` as a user would, then serves the application with `rocket serve`, with each of many settings and the
one that was recommended, in interleaved rounds. Exit code 0 if the recommended one has at least 95 % of the throughput
of the best, and the limit that was named is the true one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rocket.bench.load import LoadSpec, environment, run_load  # noqa: E402

TRUE = {"waits": "waiting", "computes": "gil", "pooled": "own", "mixes": "gil"}
BY_HAND = [("fixed", n, n) for n in (1, 2, 4, 8, 12, 16, 32, 64, 128, 192)] + [
    ("adaptive", 2, 64),
    ("adaptive", 2, 128),
]
CLOSE = 0.95


def tune(name: str, budget: float, clients: int, folder: Path) -> dict:
    """Run `rocket tune` and return its figures."""
    command = [sys.executable, "-m", "rocket", "tune", f"tune_apps:{name}", "--app-dir", str(ROOT / "bench")]
    command += ["--budget", f"{budget:g}", "--connections", str(clients), "--output", str(folder), "--quiet"]
    subprocess.run(command, check=True, env=environment(), stdout=sys.stderr)
    return json.loads((folder / "tune.json").read_text())


@contextmanager
def served(name: str, scaling: str, low: int, high: int):
    """Serve the application with `rocket serve`; yield the port."""
    command = [sys.executable, "-m", "rocket", "serve", f"tune_apps:{name}", "--app-dir", str(ROOT / "bench")]
    command += ["--bind", "127.0.0.1:0", "--scaling", scaling, "--threads", f"{low}:{high}"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        port = next(
            int(found[1]) for found in (re.search(r"127\.0\.0\.1:(\d+)/", line) for line in process.stderr) if found
        )
        yield port
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("application", choices=TRUE)
    parser.add_argument("--budget", type=float, default=45.0)
    parser.add_argument("--clients", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--picture", type=Path, help="Keep tune's picture here.")
    args = parser.parse_args()
    name = args.application

    with tempfile.TemporaryDirectory() as folder:
        found = tune(name, args.budget, args.clients, Path(folder))
        if args.picture:
            args.picture.write_bytes((Path(folder) / "tune.png").read_bytes())
    chosen = (found["choice"]["scaling"], found["choice"]["min_threads"], found["choice"]["max_threads"])
    rates: dict[tuple[str, int, int], list[float]] = {setting: [] for setting in dict.fromkeys([*BY_HAND, chosen])}
    for _ in range(args.rounds):
        for setting, rounds in rates.items():
            with served(name, *setting) as port:
                load = LoadSpec(port=port, connections=args.clients, seconds=args.seconds, warmup=0.3)
                rounds.append(run_load(load).rate)

    best = max(rates, key=lambda setting: median(rates[setting]))
    print(f"`python bench/tune_check.py {' '.join(sys.argv[1:])}`\n")
    print("| setting | requests/s | lowest to highest | of the best |\n|---|--:|--:|--:|")
    for setting, rounds in sorted(rates.items(), key=lambda item: -median(item[1])):
        scaling, low, high = setting
        mark = " (`rocket tune`)" if setting == chosen else ""
        share = median(rounds) / median(rates[best])
        text = f"{scaling} {high}" if scaling == "fixed" else f"{scaling} {low}:{high}"
        print(f"| {text}{mark} | {median(rounds):,.0f} | {min(rounds):,.0f} to {max(rounds):,.0f} | {share:.2f} |")
    share = median(rates[chosen]) / median(rates[best])
    right = found["limit"]["kind"] == TRUE[name]
    print(f"\nLimit: {found['limit']['name']} ({'right' if right else 'WRONG, it is ' + TRUE[name]}): ", end="")
    print("; ".join(found["limit"]["evidence"]))
    print(f"\n{'within' if share >= CLOSE else 'NOT within'} 5 % of the best by hand: {share:.1%}")
    return 0 if right and share >= CLOSE else 1


if __name__ == "__main__":
    sys.exit(main())
