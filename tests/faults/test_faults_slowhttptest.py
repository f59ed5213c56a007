"""slowhttptest (Debian) attacks; a normal client does not notice."""

import re
import shutil
import subprocess

import pytest
from e2e_server import until
from faults_client import Normal, allowed

MODES = {
    "header": ["-H", "-i", "2", "-x", "24"],
    "body": ["-B", "-i", "2", "-s", "8192", "-x", "10"],
    "read": ["-X", "-w", "10", "-y", "20", "-n", "2", "-z", "32", "-k", "3"],
}


@pytest.mark.skipif(not shutil.which("slowhttptest"), reason="no slowhttptest")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("connections", "seconds"), [(300, 2), pytest.param(2000, 30, marks=pytest.mark.slow)])
def test_a_normal_client_is_served_throughout(serve, mode, connections, seconds):
    server = serve("--threads", "8")
    server.warm_up()
    path = "/big?mb=1" if mode == "read" else "/upload"
    attack = ["slowhttptest", *MODES[mode], "-c", str(connections), "-r", str(connections // 2), "-l", str(seconds)]
    with Normal(server.address) as normal:
        done = subprocess.run(
            [*attack, "-p", "5", "-u", server.url + path], capture_output=True, text=True, timeout=120, check=False
        )
        until(lambda: len(normal.times) > 50, "a normal client is served")
    assert "service available:   YES" in _plain(done.stdout)[-2000:], done.stdout[-2000:]
    assert normal.median < allowed(0.1)


def _plain(text):
    """Return *text* without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
