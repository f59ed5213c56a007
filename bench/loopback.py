"""What several benchmarks share: a free port, waiting for a server there, and a load by wrk."""

import re
import socket
import subprocess
import sys
import time


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def listens(process, port):
    """Wait until somebody listens on *port*. Return False if the process ends before."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def wait_for(process, port, name):
    """Return once the server *name* listens on *port*; end the program if its process ends before."""
    if not listens(process, port):
        sys.exit(f"{name} did not start")


def wrk(url, connections, seconds):
    """Return how many requests were answered, and how many in a second. Ends the program if some were not."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    return int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
