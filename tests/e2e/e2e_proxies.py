"""nginx and HAProxy, each with a configuration of the test's own; never the host's service."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from e2e_server import PATIENCE, listens_on, until

from rocket.bench.processes import free_port

CLIENT = "127.0.0.5"  # where the tests' clients come from; the proxies are at 127.0.0.1
STARTS = 5  # until a port was free for good

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
{modules}
events {{}}
"""
NGINX_HTTP = """
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {text}
}}
"""
HAPROXY = """
global
    log stderr local0 warning
defaults
    timeout connect 5s
    timeout client 20s
    timeout server 20s
{text}
"""


class Proxy:
    """A proxy's process. *text* is its configuration with {port} where it listens; *name* is nginx or haproxy."""

    def __init__(self, name, text, folder):
        self.name = name
        self._program = program(name)
        self._folder = folder
        for _ in range(STARTS):
            self.port = free_port()
            # Not by format(): the configurations are full of braces.
            self._start(text.replace("{port}", str(self.port)))
            if self._listens():
                return
            self.stop()
        raise AssertionError(f"{name} does not start:\n{self.log}")

    def _start(self, text):
        file = self._folder / f"{self.name}.conf"
        file.write_text(text)
        self._output = (self._folder / f"{self.name}.out").open("w+b")
        arguments = ["-c", file, "-p", self._folder, "-e", self._folder / "nginx.log"]
        if self.name == "haproxy":
            arguments = ["-db", "-f", file]
        self._process = subprocess.Popen(
            [self._program, *arguments], stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT
        )

    def _listens(self):
        def answers():
            if self._process.poll() is not None:
                return "ended"
            return "listens" if self.port in listens_on(self._process.pid) else None

        return until(answers, f"{self.name} listens") == "listens"

    @property
    def log(self):
        files = [self._folder / f"{self.name}.out", self._folder / "nginx.log"]
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def stop(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        self._output.close()


def program(name):
    """Return the program's path. Skips the test if it is not there: Debian has it in sbin, which not all paths have."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install {name})")
    return found


def stream_module():
    """Return the line that loads nginx's stream module."""
    built = subprocess.run([program("nginx"), "-V"], capture_output=True, text=True, check=True).stderr
    if re.search(r"--with-stream(\s|$)", built):
        return ""
    folder = re.search(r"--modules-path=(\S+)", built)
    file = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_stream_module.so"
    if not file.exists():
        pytest.skip("nginx has no stream module (apt-get install libnginx-mod-stream)")
    return f"load_module {file};"


def make_certificate(folder):
    """Make a self-signed certificate for localhost; return the files of certificate, key, and both."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate for a proxy's TLS")
    certificate, key, both = folder / "cert.pem", folder / "key.pem", folder / "both.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(
        [openssl, "req", "-x509", *kind, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    both.write_text(certificate.read_text() + key.read_text())
    return certificate, key, both


def ask(port, *, tls=False, path="/", host="site.example:8443", **fields):
    """Send a request through the proxy at *port* as a client at `CLIENT`; return status, environ or text, and our port.

    *fields* are header fields, with _ for -.
    """
    options = {"timeout": PATIENCE, "source_address": (CLIENT, 0)}
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client = http.client.HTTPSConnection("127.0.0.1", port, context=context, **options)
    else:
        client = http.client.HTTPConnection("127.0.0.1", port, **options)
    try:
        client.connect()
        own = str(client.sock.getsockname()[1])
        client.request(
            "GET", path, headers={"Host": host, **{name.replace("_", "-"): text for name, text in fields.items()}}
        )
        answer = client.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else body.decode(), own
    finally:
        client.close()
