"""How fast are files? `rocket files` beside nginx, over loopback, in turn.

    python bench/files.py                                      files of 1 MB, 64 KB and 1 KB
    python bench/files.py --sizes 1048576 -c 64 --rounds 5
    python bench/files.py --rocket new=. --rocket old=../old   two checkouts as well
    python bench/files.py --rocket rocket=. --rocket "one=. --threads 1"

nginx has one worker process, sendfile, tcp_nopush, no access log, and its cache of open files, in a folder and on a
port of its own; the system's nginx is not touched. All servers are measured in each round, in an order by chance;
figures are medians of requests/s as wrk counts them, and of the server's CPU time for a request. Needs nginx and wrk.
"""

import argparse
import os
import random
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from loopback import free_port, wait_for, wrk

HERE = Path(__file__).resolve().parent
NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    open_file_cache max=1000;
    types {{ }}
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def start(checkout, root, folder, options=()):
    """Return the process of Rocket in *checkout* with *options*, of nginx if that is None, and its port."""
    port = free_port()
    if checkout is None:
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, root=root))
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or sys.exit("nginx is not installed")
        process = psutil.Popen([program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")])
    else:
        command = [sys.executable, "-m", "rocket", "files", str(root), "--bind", f"127.0.0.1:{port}"]
        process = psutil.Popen(
            [*command, "--log-level", "error", "--max-requests-per-connection", "0", *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(checkout).resolve())},
        )
    wait_for(process, port, "nginx" if checkout is None else f"the server of {checkout}")
    return process, port


def cpu(process):
    """Return the seconds of CPU that a server and its children have taken."""
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


def measure(process, url, connections, seconds):
    """Return requests/s, and microseconds of CPU for a request."""
    before = cpu(process)
    requests, rate = wrk(url, connections, seconds)
    return rate, (cpu(process) - before) / requests * 1e6


def run(args, folder):
    root = folder / "www"
    root.mkdir()
    for size in args.sizes:
        (root / f"{size}.bin").write_bytes(os.urandom(size))
    folder.chmod(0o755)  # for nginx's worker, which is somebody else if this is root
    servers = {}
    try:
        servers["nginx"] = start(None, root, folder)
        for text in args.rocket or [f"rocket={shlex.quote(str(HERE.parent))}"]:
            name, _, rest = text.partition("=")
            checkout, *options = shlex.split(rest)
            servers[name] = start(checkout, root, folder, options)
        for size in args.sizes:
            found = {name: [] for name in servers}
            for _ in range(args.rounds):
                for name in random.sample(list(servers), len(servers)):
                    process, port = servers[name]
                    url = f"http://127.0.0.1:{port}/{size}.bin"
                    found[name].append(measure(process, url, args.connections, args.seconds))
            show(size, found)
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait()


def show(size, found):
    print(f"\n{size} bytes\n\n| server | requests/s | lowest to highest | MB/s | CPU us a request | of nginx |")
    print("|---|--:|--:|--:|--:|--:|")
    base = statistics.median(rate for rate, _ in found["nginx"])
    for name, runs in found.items():
        rates, costs = zip(*runs)
        rate = statistics.median(rates)
        print(
            f"| {name} | {rate:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} | {rate * size / 1e6:,.0f} "
            f"| {statistics.median(costs):.0f} | {rate / base:.2f}x |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1 << 20, 1 << 16, 1 << 10], metavar="BYTES")
    parser.add_argument("--rocket", action="append", metavar="NAME=CHECKOUT [OPTION]")
    parser.add_argument("-c", "--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(args, Path(folder))
    versions = f"CPython {sys.version.split()[0]}, {args.connections} connections, {args.rounds} rounds"
    print(f"\n{versions} of {args.seconds} s, {time.strftime('%Y-%m-%d', time.gmtime())}")


if __name__ == "__main__":
    main()
