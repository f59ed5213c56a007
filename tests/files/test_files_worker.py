"""FileWorker: what goes over the wire."""

import email
import logging
import os
import threading
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from files_helpers import age, opened_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workers_helpers import MB, Stand, parse

from rocket import ConfigError, FileWorker, Folder, Server
from rocket.files.ranges import MOST
from rocket.http1 import http_date
from rocket.proxies import Proxies


@pytest.fixture
def stand(world, make_connection):
    """What makes a stand with a FileWorker that serves the world's folder."""

    def make(path=None, *, folder=None, **options):
        connection, theirs = make_connection()
        app = FileWorker.prepare(folder or path or world)
        return Stand(connection, theirs, app, worker=FileWorker, **options)

    return make


def request(path="/hello.txt", *fields, method="GET", version="1.1"):
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *fields, "", ""]).encode("latin-1")


def ask(stand, *args, **options):
    """Ask a stand of its own; return the whole answer."""
    made = stand()
    made.send(request(*args, **options))
    made.turn()
    return parse(made.read_all())


# --- GET and HEAD


def test_a_file_is_sent_whole_with_all_its_fields(stand, world):
    answer = ask(stand)
    assert answer.status == 200
    assert answer.body == b"hello\n"
    assert answer.headers["Content-Length"] == "6"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Last-Modified"] == http_date(int(os.stat(world / "hello.txt").st_mtime))
    assert answer.headers["ETag"].startswith('"')
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Date"]
    assert answer.headers["Server"] == "Rocket"


@pytest.mark.parametrize("path", ["/hello.txt", "/sub/deep/data.bin", "/", "/nothing", "/sub"])
def test_head_has_the_fields_of_get_and_no_body(stand, path):
    got, headed = (ask(stand, path, method=method) for method in ("GET", "HEAD"))
    assert headed.status == got.status
    assert headed.body == b""
    del got.headers["Date"], headed.headers["Date"]
    assert headed.headers.items() == got.headers.items()


def test_kept_connections_and_those_that_are_not(stand):
    made = stand()
    assert made.ask(request()).headers["Connection"] is None
    assert made.did == ["read"]
    assert made.ask(request(version="1.0")).headers["Connection"] == "close"
    assert made.did[-1] == "close"
    made = stand(max_requests=2)
    assert made.ask(request("/", "Connection: keep-alive", version="1.0")).headers["Connection"] == "keep-alive"
    assert made.ask(request()).headers["Connection"] == "close"
    made = stand()
    made.worker.draining = True
    assert made.ask(request()).headers["Connection"] == "close"


def test_pipelined_requests_are_answered_in_order(stand):
    made = stand()
    made.send(request() + request("/sub/page.html") + request("/nothing"))
    while made.turn() == "submit":
        pass
    data = made.received()
    places = [data.index(part) for part in (b"hello\n", b"<p>page</p>", b"404 Not Found")]
    assert places == sorted(places)


def test_an_empty_file(stand, world):
    (world / "empty").touch()
    for fields in ([], ["Range: bytes=0-"]):
        answer = ask(stand, "/empty", *fields)
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("size", [65535, 65536, 65537, 3 * MB])
def test_a_file_of_any_size_arrives_as_it_is(stand, world, size):
    data = os.urandom(size)
    (world / "file").write_bytes(data)
    answer = ask(stand, "/file")
    assert answer.body == data
    assert answer.headers["Content-Length"] == str(size)


def test_a_large_file_is_parked_when_its_reader_is_slow_and_does_not_fill_the_memory(stand, world):
    with open(world / "large", "wb") as file:
        file.truncate(64 * MB)
    made = stand()
    made.send(request("/large"))
    assert made.turn() == "write"
    assert made.connection.output.size == 0  # nothing of it is in memory
    assert len(parse(made.read_all()).body) == 64 * MB


# --- methods


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"])
def test_other_methods_are_not_allowed(stand, method):
    answer = ask(stand, method=method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("target", ["*", "/hello.txt", "/nothing"])
def test_options_tells_the_methods(stand, target):
    answer = ask(stand, target, method="OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert answer.headers["Content-Length"] is None


def test_a_body_is_neither_collected_nor_waited_for(stand):
    made = stand()
    answer = made.ask(request("/hello.txt", "Content-Length: 1000000000", method="PUT"))
    assert answer.status == 405
    assert answer.headers["Connection"] == "close"
    assert made.did == ["read"]  # it lingers
    made = stand()
    made.send(request("/hello.txt", "Content-Length: 5", method="POST") + b"12345" + request())
    assert made.turn() == "submit"
    assert parse(made.received()).status == 405
    made.turn()
    assert parse(made.received()).body == b"hello\n"


# --- TLS


@pytest.mark.parametrize(
    ("told", "fields", "status"),
    [
        (None, [], 421),
        (None, ["X-Forwarded-Proto: https"], 200),
        (None, ["X-Forwarded-Proto: http"], 421),
        ({"wsgi.url_scheme": "https"}, [], 200),
        ({"rocket.proxy": "its header has an address, and nothing of TLS"}, [], 421),
    ],
)
def test_https_is_served_to_who_uses_tls_alone(stand, told, fields, status):
    """To us, or to a proxy that is believed: as WSGIWorker does (RFC 9110, 7.4)."""
    made = stand(proxies=Proxies(["192.0.2.1"]))
    made.connection.told = told
    made.send(request("https://x/hello.txt", *fields))
    made.turn()
    assert parse(made.received()).status == status


def test_proxy_that_is_not_believed_changes_nothing(stand):
    made = stand()
    made.send(request("https://x/hello.txt", "X-Forwarded-Proto: https"))
    made.turn()
    assert parse(made.received()).status == 421


# --- refusals


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/nothing", 404),
        ("/hello.txt/", 404),
        ("/hello.txt/more", 404),
        ("/../secret.txt", 404),
        ("/sub/../../secret.txt", 404),
        ("/%2e%2e/secret.txt", 404),
        ("/%252e%252e/secret.txt", 404),
        ("/..%2fsecret.txt", 404),
        ("/..%5csecret.txt", 404),
        ("/..\\secret.txt", 404),
        ("//etc/passwd", 404),
        ("/%2fetc%2fpasswd", 404),
        ("http://x/../secret.txt", 404),
        ("/.hidden", 404),
        ("/%2ehidden", 404),
        ("/.git/config", 404),
        ("/" + "x" * 300, 404),
        ("/x" * 3000, 404),
        ("/%00", 400),
        ("/hello.txt%00.png", 400),
        ("/.well-known/security.txt", 200),
        ("http://other/hello.txt", 200),
        ("/hello.txt?x=%00/../", 200),
    ],
)
def test_targets(stand, target, status):
    answer = ask(stand, target)
    assert answer.status == status
    assert b"secret: outside" not in answer.body


def test_a_folder_without_its_slash_is_redirected_to_this_host(stand, world):
    (world / "evil.example").mkdir()
    (world / "evil.example" / "index.html").touch()
    answer = ask(stand, "//evil.example?a=b")
    assert (answer.status, answer.headers["Location"]) == (301, "/evil.example/?a=b")


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (PermissionError(13, "no"), 403),
        (OSError(24, "too many open files"), 503),
        (OSError(5, "input/output error"), 500),
    ],
)
def test_what_goes_wrong_while_a_file_is_opened_has_its_status(stand, exc, status):
    def fail(target):
        raise exc

    made = stand()
    made.worker.app = SimpleNamespace(find=fail)
    answer = made.ask(request())
    assert answer.status == status
    assert made.did == ["read"]


def test_a_listing_is_a_page_that_runs_nothing(stand, world):
    (world / "<script>").touch()
    made = stand(folder=Folder(world, listing=True, index=()))
    answer = made.ask(request("/"))
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert b"<script>" not in answer.body


# --- conditions and ranges


def test_conditions(stand, world):
    plain = ask(stand)
    etag, modified = plain.headers["ETag"], plain.headers["Last-Modified"]
    for field in (f"If-None-Match: {etag}", f"If-Modified-Since: {modified}"):
        for method in ("GET", "HEAD"):
            answer = ask(stand, "/hello.txt", field, method=method)
            assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
            assert answer.headers["Content-Length"] is None
    assert ask(stand, "/hello.txt", 'If-Match: "other"').status == 412
    assert ask(stand, "/hello.txt", f"If-Match: {etag}").status == 200
    assert ask(stand, "/nothing", "If-Match: *").status == 404


def test_a_304_has_what_a_200_would_tell_caches(world, stand):
    (world / "hello.txt.gz").write_bytes(b"1")
    folder = Folder(world, cache_control="max-age=60")
    made = stand(folder=folder)
    etag = made.ask(request()).headers["ETag"]
    answer = made.ask(request("/hello.txt", f"If-None-Match: {etag}"))
    assert answer.status == 304
    assert answer.headers["Cache-Control"] == "max-age=60"
    assert answer.headers["Vary"] == "Accept-Encoding"


DATA = bytes(range(256)) * 4  # what data.bin holds


def parts_of(answer):
    """The (Content-Range, content) pairs of a multipart answer."""
    assert answer.headers["Content-Length"] == str(len(answer.body))
    kind = answer.headers["Content-Type"].encode()
    message = email.message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + answer.body)
    assert message.is_multipart()
    assert not message.defects
    assert all(part["Content-Type"] == "application/octet-stream" for part in message.get_payload())
    boundary = message.get_boundary().encode()
    blocks = answer.body.split(b"\r\n--" + boundary)
    assert blocks[0] == b""
    assert blocks[-1] == b"--\r\n"
    return [
        (part["Content-Range"], block.partition(b"\r\n\r\n")[2])
        for part, block in zip(message.get_payload(), blocks[1:-1])
    ]


def test_one_range(stand):
    for value, expected, told in (
        ("bytes=0-9", DATA[:10], "bytes 0-9/1024"),
        ("bytes=1000-", DATA[1000:], "bytes 1000-1023/1024"),
        ("bytes=-24", DATA[1000:], "bytes 1000-1023/1024"),
        ("bytes=0-5,3-9", DATA[:10], "bytes 0-9/1024"),
        ("bytes=0-9,5000-", DATA[:10], "bytes 0-9/1024"),
    ):
        answer = ask(stand, "/sub/deep/data.bin", f"Range: {value}")
        assert (answer.status, answer.body) == (206, expected)
        assert answer.headers["Content-Range"] == told
        assert answer.headers["Content-Length"] == str(len(expected))
        assert answer.headers["ETag"]


def test_several_ranges(stand):
    answer = ask(stand, "/sub/deep/data.bin", "Range: bytes=500-509,0-9,-10")
    assert answer.status == 206
    assert answer.headers["Content-Range"] is None
    assert parts_of(answer) == [
        ("bytes 500-509/1024", DATA[500:510]),
        ("bytes 0-9/1024", DATA[:10]),
        ("bytes 1014-1023/1024", DATA[-10:]),
    ]


def test_several_ranges_of_a_large_file_to_a_slow_reader(stand, world):
    data = os.urandom(8 * MB)
    (world / "large").write_bytes(data)
    made = stand()
    made.send(request("/large", f"Range: bytes=0-{3 * MB - 1},{4 * MB}-,{3 * MB + 5}-{3 * MB + 6}"))
    assert made.turn() == "write"
    found = parse(made.read_all())
    blocks = found.body.split(b"--" + found.headers["Content-Type"].partition("boundary=")[2].encode())
    bodies = [block.partition(b"\r\n\r\n")[2][:-2] for block in blocks[1:-1]]
    assert bodies == [data[: 3 * MB], data[4 * MB :], data[3 * MB + 5 : 3 * MB + 7]]
    assert found.headers["Content-Length"] == str(len(found.body))


def test_ranges_that_are_not_there(stand):
    answer = ask(stand, "/sub/deep/data.bin", "Range: bytes=1024-")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize(
    "value", ["lines=0-1", "bytes=5-1", "bytes=x", "bytes=" + ",".join(f"{3 * i}-{3 * i}" for i in range(MOST + 1))]
)
def test_ranges_that_are_ignored(stand, value):
    answer = ask(stand, "/sub/deep/data.bin", f"Range: {value}")
    assert (answer.status, answer.body) == (200, DATA)


def test_overlapping_ranges_send_no_byte_twice(stand):
    """CVE-2011-3192."""
    value = "bytes=" + ",".join(f"{i}-" for i in range(MOST))
    answer = ask(stand, "/sub/deep/data.bin", f"Range: {value}")
    assert (answer.status, answer.body) == (206, DATA)


def test_head_ignores_ranges(stand):
    answer = ask(stand, "/sub/deep/data.bin", "Range: bytes=0-9", method="HEAD")
    assert (answer.status, answer.headers["Content-Length"]) == (200, "1024")


def test_if_range(stand):
    plain = ask(stand, "/sub/deep/data.bin", method="HEAD")
    for value, status in (
        (plain.headers["ETag"], 206),
        (plain.headers["Last-Modified"], 206),
        ('"other"', 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ):
        assert ask(stand, "/sub/deep/data.bin", "Range: bytes=0-9", f"If-Range: {value}").status == status
    answer = ask(stand, "/sub/deep/data.bin", "Range: bytes=0-9", f"If-None-Match: {plain.headers['ETag']}")
    assert answer.status == 304


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 1100)), min_size=1, max_size=6))
def test_whatever_the_ranges_the_bytes_are_those_of_the_file(stand, specs):
    value = ",".join(f"{min(spec)}-{max(spec)}" for spec in specs)
    answer = ask(stand, "/sub/deep/data.bin", f"Range: bytes={value}")
    if answer.status == 416:
        assert all(min(spec) >= 1024 for spec in specs)
        return
    assert answer.status == 206
    single = answer.headers["Content-Range"]
    for told, body in [(single, answer.body)] if single else parts_of(answer):
        first, last = map(int, told.split()[1].partition("/")[0].split("-"))
        assert body == DATA[first : last + 1]


# --- encodings


def test_packed_files_go_to_who_takes_them(stand, world):
    (world / "hello.txt").write_bytes(b"hello" * 100)
    (world / "hello.txt.gz").write_bytes(b"packed")
    plain = b"hello" * 100
    for accept, body, coding in (("gzip", b"packed", "gzip"), ("br", plain, None), ("gzip;q=0", plain, None)):
        answer = ask(stand, "/hello.txt", f"Accept-Encoding: {accept}")
        assert (answer.body, answer.headers["Content-Encoding"]) == (body, coding)
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    etags = {ask(stand, "/hello.txt", f"Accept-Encoding: {accept}").headers["ETag"] for accept in ("gzip", "br")}
    assert len(etags) == 2
    answer = ask(stand, "/hello.txt", "Accept-Encoding: gzip", "Range: bytes=1-3")
    assert (answer.status, answer.body, answer.headers["Content-Encoding"]) == (206, b"ack", "gzip")


def test_a_packed_file_that_is_being_written_is_not_sent(stand, world):
    (world / "hello.txt.gz").write_bytes(b"x")
    made = stand(folder=Folder(world, recheck=3600))
    assert made.ask(request("/hello.txt", "Accept-Encoding: gzip")).body == b"x"
    (world / "hello.txt.gz").write_bytes(b"ab")
    assert made.ask(request("/hello.txt", "Accept-Encoding: gzip")).body == b"hello\n"


# --- files that change while they are sent


@pytest.fixture
def large(world):
    """A file that is half sent when its reader has taken nothing yet."""
    path = world / "large"
    path.write_bytes(b"x" * (16 * MB))
    age(path)
    return path


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection_and_is_logged(stand, large, caplog):
    made = stand()
    made.send(request("/large"))
    assert made.turn() == "write"
    os.truncate(large, 4 * MB)
    with caplog.at_level(logging.WARNING, logger="rocket"):
        answer = parse(made.read_all())
    assert made.did[-1] == "close"
    assert len(answer.body) == 4 * MB < int(answer.headers["Content-Length"])
    assert "has become shorter" in caplog.text


def test_a_file_that_grows_while_it_is_sent_is_sent_as_long_as_it_was(stand, large):
    made = stand()
    made.send(request("/large") + request("/hello.txt"))
    assert made.turn() == "write"
    with large.open("ab") as file:
        file.write(b"more")
    data = made.read_all()
    while made.did[-1] == "submit":
        made.turn()
        data += made.read_all()
    first, _, rest = data.partition(b"\r\n\r\n")
    assert b"Content-Length: 16777216" in first
    assert rest[: 16 * MB] == b"x" * (16 * MB)
    assert parse(rest[16 * MB :]).body == b"hello\n"


def test_a_file_that_shrinks_before_it_is_read_is_never_answered_with_too_little(stand, world, monkeypatch, caplog):
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: real(fd, count - 1, offset))
    monkeypatch.setattr(os, "sendfile", lambda *args: 0)
    made = stand()
    with caplog.at_level(logging.WARNING, logger="rocket"):
        answer = made.ask(request())
    assert answer.body == b""
    assert made.did == ["close"]
    assert "has become shorter" in caplog.text


def test_a_file_that_sendfile_cannot_read_is_read(stand, large, monkeypatch):
    def fail(*args):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", fail)
    made = stand()
    made.send(request("/large"))
    made.turn()
    assert parse(made.read_all()).body == b"x" * (16 * MB)


def test_nothing_stays_open_when_the_reader_vanishes(stand, large):
    made = stand(folder=Folder(large.parent, keep_open=0))
    made.send(request("/large"))
    assert made.turn() == "write"
    made.theirs.close()
    assert made.turn() == "close"
    assert opened_in(large.parent) == []


# --- the server


def test_a_path_is_enough(world):
    with Server(world, worker=FileWorker, bind="127.0.0.1:0") as server, urlopen(server.url + "hello.txt") as response:
        assert response.read() == b"hello\n"


def test_a_folder_that_is_not_there_is_told_when_the_server_is_made(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        Server(tmp_path / "nothing", worker=FileWorker)
    with pytest.raises(ConfigError, match=r"say worker=rocket\.FileWorker"):
        Server(str(tmp_path))


def test_many_threads_share_a_folder_and_get_the_right_files(world, hasty_threads):
    for number in range(50):
        (world / str(number)).write_bytes(b"%d" % number * 100)
    folder = Folder(world, recheck=0.01, keep_open=10)
    failures = []

    def run(seed):
        for turn in range(200):
            number = (seed * 37 + turn * 11) % 50
            file = folder.find(f"/{number}").plain
            data = os.pread(file.fd, 1000, 0)
            if data != b"%d" % number * 100 or file.size != len(data):
                failures.append((number, data))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures
    assert folder._opened == sum(1 + len(kept.packed) for kept in folder._kept.values()) <= 10
