"""Do clients notice when one server process relieves another?

    python bench/handover.py [--by fd|reuseport] [--times 10] [--clients 8]

Clients connect for each request, as fast as they can, while server after server is started on the same port, and its
predecessor stopped by SIGTERM: on one inherited socket (fd), or each on its own (reuseport). With tcp_migrate_req,
without changing it for the host:

    unshare -n sh -c 'ip link set lo up; echo 1 > /proc/sys/net/ipv4/tcp_migrate_req; python bench/handover.py ...'

Loopback only.
"""

import argparse
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
BETWEEN = 0.5  # s: how long two servers run side by side


def start(bind, pass_fds):
    """Start a server; return it when it serves."""
    where = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "rocket", "serve", "binds:hello", "--app-dir", str(HERE), "--bind", bind],
        env={**os.environ, "PYTHONPATH": where},
        pass_fds=pass_fds,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not any("threads, policy" in line for line in process.stderr):
        sys.exit("the server did not start")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return process


def ask(port, end, seen):
    """Ask until *end*, each time over a connection of its own; count what comes in *seen*."""
    while not end.is_set():
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            client.request("GET", "/", headers={"Connection": "close"})
            seen.append("answers" if client.getresponse().read() == b"Hello, World!" else "wrong answers")
        except (OSError, http.client.HTTPException) as exc:
            seen.append(type(exc).__name__)
        finally:
            client.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--by", choices=("fd", "reuseport"), default="fd")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port, fds = sock.getsockname()[1], [sock.fileno()]
    bind = f"fd://{sock.fileno()}"
    if arguments.by == "reuseport":
        sock.close()
        bind, fds = f"127.0.0.1:{port}?reuseport=1", []
    old = start(bind, fds)
    end, seen = threading.Event(), []  # append() is atomic
    clients = [threading.Thread(target=ask, args=(port, end, seen)) for _ in range(arguments.clients)]
    for client in clients:
        client.start()
    try:
        for _ in range(arguments.times):
            new = start(bind, fds)
            end.wait(BETWEEN)
            old.terminate()
            old.wait()
            old = new
    finally:
        end.set()
        for client in clients:
            client.join()
        old.terminate()
        old.wait()
    print(arguments.by, dict(Counter(seen)))


if __name__ == "__main__":
    main()
