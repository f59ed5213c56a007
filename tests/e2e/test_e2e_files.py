"""`rocket files` as its users have it: curl's downloads, and what an attacker asks for."""

import gzip
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from e2e_server import PATIENCE, rocket

MB = 1 << 20

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A folder with a page, a large file, and a text with a packed one beside it; an hour old. Not to be changed."""
    around = tmp_path_factory.mktemp("files")
    folder = around / "site"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "index.html").write_text("<h1>Docs</h1>")
    (folder / "large.bin").write_bytes(os.urandom(5 * MB + 7))
    (folder / "text.txt").write_bytes(b"some text\n" * 1000)
    (folder / "text.txt.gz").write_bytes(gzip.compress(b"some text\n" * 1000))
    (folder / ".secret").write_text("secret")
    (around / "secret").write_text("secret")
    for path in folder.rglob("*"):
        status = path.stat()
        os.utime(path, (status.st_mtime - 3600, status.st_mtime - 3600))
    return folder


@pytest.fixture
def site(original, tmp_path):
    """The same for a test of its own, in the current folder of the server that it starts."""
    return Path(shutil.copytree(original, tmp_path / "site"))


@pytest.fixture
def server(shared, original):
    return shared(files=original)


def curl(*arguments):
    """Return what curl prints, and its exit code."""
    done = subprocess.run(["curl", "-sS", *map(str, arguments)], capture_output=True, timeout=PATIENCE, check=False)
    return done.stdout, done.returncode


@needs_curl
def test_curl_downloads_and_resumes(server, original, tmp_path):
    data = (original / "large.bin").read_bytes()
    assert curl(server.url + "/large.bin") == (data, 0)
    half = tmp_path / "half"
    half.write_bytes(data[: 2 * MB])
    assert curl("-C", "-", "-o", half, server.url + "/large.bin")[1] == 0
    assert half.read_bytes() == data
    # All is there already: 416 says so, and curl is content, or says 22 or 33 by its version.
    curl("-C", "-", "-o", half, server.url + "/large.bin")
    assert half.read_bytes() == data


@needs_curl
@pytest.mark.parametrize(
    ("written", "place"), [("0-9", slice(0, 10)), ("-7", slice(-7, None)), ("1000000-3000000", slice(1000000, 3000001))]
)
def test_curl_asks_for_a_range(server, original, written, place):
    assert curl("-r", written, server.url + "/large.bin") == ((original / "large.bin").read_bytes()[place], 0)


@needs_curl
def test_curl_asks_for_several_ranges(server, original):
    data = (original / "large.bin").read_bytes()
    body, code = curl("-r", "5000000-5000009,0-9", server.url + "/large.bin")
    assert code == 0
    assert body.index(data[5000000:5000010]) < body.index(data[:10])
    assert body.count(b"Content-Range: bytes ") == 2


@needs_curl
def test_curl_asks_whether_it_is_newer(serve, site, tmp_path):
    server = serve(files=site)
    url, copy = server.url + "/text.txt", tmp_path / "copy"
    assert curl("-R", "-o", copy, url)[1] == 0  # with the file's time
    assert int(copy.stat().st_mtime) == int((site / "text.txt").stat().st_mtime)
    assert curl("-z", copy, "-w", "%{http_code}", "-o", tmp_path / "new", url)[0] == b"304"
    (site / "text.txt").write_bytes(b"other")
    assert curl("-z", copy, "-w", "%{http_code}", "-o", tmp_path / "new", url)[0] == b"200"
    assert (tmp_path / "new").read_bytes() == b"other"


@needs_curl
def test_curl_compares_tags(server, tmp_path):
    url, tag = server.url + "/large.bin", tmp_path / "tag"
    if curl("--etag-save", tag, "-o", os.devnull, url)[1] == 2:
        pytest.skip("this curl knows no tags")
    assert curl("--etag-compare", tag, "-w", "%{http_code}", url)[0] == b"304"


@needs_curl
def test_curl_unpacks_the_packed_file(server, original):
    body, code = curl("--compressed", "-D", "-", "-H", "Accept-Encoding: gzip", server.url + "/text.txt")
    head, _, body = body.partition(b"\r\n\r\n")
    assert (code, body) == (0, b"some text\n" * 1000)
    assert b"Content-Encoding: gzip" in head
    assert b"Vary: Accept-Encoding" in head
    assert curl(server.url + "/text.txt")[0] == body


@needs_curl
def test_curl_follows_the_redirect_to_a_folder(server):
    assert curl("-L", "-w", "%{url_effective}", server.url + "/docs")[0] == f"<h1>Docs</h1>{server.url}/docs/".encode()


@needs_curl
@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/docs/../../secret",
        "/%2e%2e/secret",
        "/%2e%2e%2fsecret",
        "/..%5csecret",
        "/%252e%252e/secret",
        "//../secret",
        "/.secret",
        "/%2esecret",
        "/",
        "/large.bin/../../secret",
        "/../site/../secret",
    ],
)
def test_nothing_but_the_folder_is_given(server, path):
    body, code = curl("--path-as-is", server.url + path)
    assert code == 0
    assert b"secret" not in body


def test_the_folder_is_listed_if_it_is_wanted(serve, site):
    server = serve("--listing", files=site)
    with urllib.request.urlopen(server.url, timeout=PATIENCE) as response:
        page = response.read().decode()
    assert re.findall(r'href="(.*?)"', page) == ["./docs/", "./large.bin", "./text.txt", "./text.txt.gz"]
    assert server.line(rf"serving {re.escape(str(site))}; folders without index.html are listed")


def test_options_reach_the_folder(serve, site, connect):
    (site / "link").symlink_to("text.txt")
    server = serve(
        *["--cache-control", "max-age=60", "--charset", "", "--no-symlinks", "--no-precompressed"],
        *["--dot-files", "--index", "none.html", "--index", "text.txt"],
        files=site,
    )
    client = connect(server)
    answer = client.ask("/", "GET", "Accept-Encoding: gzip")
    assert answer.body == b"some text\n" * 1000
    assert answer.fields["cache-control"] == "max-age=60"
    assert answer.fields["content-type"] == "text/plain"
    assert client.ask("/link").status == 404
    assert client.ask("/.secret").status == 200


def test_the_current_folder_is_served_if_none_is_named(serve, site, tmp_path):
    (tmp_path / "rocket.toml").write_text("max_threads = 3")
    server = serve(files="")
    with urllib.request.urlopen(server.url + "/site/docs/", timeout=PATIENCE) as response:
        assert response.read() == b"<h1>Docs</h1>"
    server.line("to 3 threads")


def test_a_download_is_finished_when_the_server_is_told_to_stop(serve, site, connect):
    server = serve(files=site)
    client = connect(server, receive_buffer=4096)
    client.get("/large.bin")
    first = client.file.readline()
    assert b"200 OK" in first
    server.signal(signal.SIGTERM)
    server.line("finishing what is in progress")
    assert (site / "large.bin").read_bytes() in client.rest()
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nothing"], "the folder to serve does not exist: "),
        (["site/text.txt"], "the folder to serve is not a folder: "),
        (["site", "--index", "a/b"], "not a name for an index file: 'a/b'"),
        (["site", "--listng"], "No such option"),
        (["site", "--cache-control", "x\ny"], "cache_control must be printable ASCII text"),
    ],
)
def test_mistakes_are_told_in_a_line(site, tmp_path, arguments, problem):
    done = rocket("files", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
