"""What does TLS cost? Requests over kept connections, and full handshakes, beside cheroot and gunicorn.

    python bench/tls.py --rocket "PYTHON -m rocket" --peers PYTHON --rounds 3 --seconds 3
    python bench/tls.py --key rsa --only rocket

wrk over loopback, 64 connections, a 13-byte answer, the servers in turn; gunicorn (gthread) and cheroot with 8
threads. "keep" is requests/s over connections that are kept; "close" is requests/s with a new connection for each:
wrk resumes no session, so each is a full handshake. --peers is a Python that has the other servers. Needs wrk, curl and
openssl.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PORT = 8479
KEYS = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]
"""
CHEROOT = f"""
from app import application
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
server = Server(("127.0.0.1", {PORT}), application, numthreads=8, request_queue_size=2048)
server.ssl_adapter = BuiltinSSLAdapter("cert.pem", "key.pem")
server.start()
"""


def commands(rocket, peers):
    where = ["--bind", f"127.0.0.1:{PORT}", "--certfile", "cert.pem", "--keyfile", "key.pem"]
    gunicorn = [
        peers,
        "-m",
        "gunicorn",
        "-k",
        "gthread",
        "--threads",
        "8",
        "--backlog",
        "2048",
        "--log-level",
        "critical",
    ]
    return {
        "rocket": [*shlex.split(rocket), "serve", "app", *where, "--log-level", "error"],
        "gunicorn": [*gunicorn, *where, "app"],
        "cheroot": [peers, "cheroot_server.py"],
    }


def prepare(folder, key):
    (folder / "app.py").write_text(APP)
    (folder / "cheroot_server.py").write_text(CHEROOT)
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", *KEYS[key], "-subj", "/CN=localhost", "-days", "9"]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)


def measure(command, folder, seconds):
    """Start a server, load it in both ways, and stop it; return requests/s by way."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    server = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(server)
        return {way: load(way, seconds) for way in ("keep", "close")}
    finally:
        server.terminate()
        server.wait()


def wait_for(server):
    url = f"https://127.0.0.1:{PORT}/"
    for _ in range(200):
        if server.poll() is not None:
            sys.exit(f"it did not start: {shlex.join(server.args)}")
        if not subprocess.run(["curl", "-sk", url], capture_output=True, check=False).returncode:
            return
        time.sleep(0.05)
    sys.exit(f"it does not answer: {shlex.join(server.args)}")


def load(way, seconds):
    header = ["-H", "Connection: close"] if way == "close" else []
    command = ["wrk", "-t1", "-c64", f"-d{seconds}", *header, f"https://127.0.0.1:{PORT}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"Requests/sec:\s*([\d.]+)", said)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rocket", default=f"{sys.executable} -m rocket")
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--key", choices=KEYS, default="ec")
    parser.add_argument("--only", default="rocket,gunicorn,cheroot")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = args.only.split(",")
    runs = {name: {"keep": [], "close": []} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.key)
        for _ in range(args.rounds):
            for name in names:
                for way, rate in measure(commands(args.rocket, args.peers)[name], folder, args.seconds).items():
                    runs[name][way].append(rate)
    if args.json:
        print(json.dumps(runs))
        return
    for name, found in runs.items():
        shown = (
            f"{way} {statistics.median(rates):8,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
            for way, rates in found.items()
        )
        print(f"{args.key:4} {name:10}", "   ".join(shown))


if __name__ == "__main__":
    main()
