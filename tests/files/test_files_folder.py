"""Folder: what a target names, and what is kept open."""

import errno
import os
import re
import resource

import pytest
from files_helpers import age, opened_in

from rocket.errors import ConfigError
from rocket.files import Folder, Page, Redirect, Resource


def content(found):
    """What a found file holds."""
    assert type(found) is Resource
    return os.pread(found.plain.fd, 1 << 20, 0)


# --- what it is made of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/no/such/folder"}, "the folder to serve does not exist: /no/such/folder"),
        ({"path": ""}, "the folder to serve must be a path, not ''"),
        ({"path": Folder}, "the folder to serve must be a path, not <class"),
        ({"recheck": -1}, "recheck must be 0 or more, not -1"),
        ({"keep_open": -1}, "keep_open must be 0 or more, not -1"),
        ({"path": __file__}, "the folder to serve is not a folder: "),
        ({"index": "index.html"}, "index must be a sequence of names, not 'index.html'"),
        ({"index": ["a/b"]}, "not a name for an index file: 'a/b'"),
        ({"index": [".."]}, r"not a name for an index file: '\.\.'"),
        ({"index": [""]}, "not a name for an index file: ''"),
        ({"cache_control": "a\r\nX: y"}, "cache_control must be printable ASCII text"),
        ({"charset": "utf-8\n"}, "charset must be printable ASCII text"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(world, options, message):
    with pytest.raises(ConfigError, match=message):
        Folder(**{"path": world, **options})


def test_a_relative_folder_stays_where_it_was(world, monkeypatch):
    monkeypatch.chdir(world.parent)
    folder = Folder("www")
    monkeypatch.chdir("/")
    assert content(folder.find("/hello.txt")) == b"hello\n"


# --- what a target names


def test_a_file_and_what_is_said_of_it(world):
    file = Folder(world, cache_control="max-age=60").find("/hello.txt").plain
    assert file.size == 6
    assert file.type == "text/plain; charset=utf-8"
    lines = file.whole.decode().splitlines()
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Length: 6" in lines
    assert "Cache-Control: max-age=60" in lines
    assert "X-Content-Type-Options: nosniff" in lines
    assert f"ETag: {file.validators.etag}" in lines


@pytest.mark.parametrize(
    "target", ["/nothing", "/hello.txt/", "/sub", "/sub/", "/../secret.txt", "/.hidden", "/.git/config"]
)
def test_what_is_not_there(world, target):
    with pytest.raises(FileNotFoundError):
        Folder(world).find(target)


def test_a_folder_stands_for_its_index_file(world):
    folder = Folder(world, index=("default.htm", "page.html", "index.html"))
    assert content(folder.find("/")) == b"<h1>home</h1>"
    assert content(folder.find("/sub/")) == b"<p>page</p>"
    assert folder.find("/sub?x=1") == Redirect("/sub/?x=1")


def test_an_index_that_is_a_folder_or_leads_out_is_none(world):
    (world / "sub" / "index.html").mkdir()
    (world / "sub" / "default.htm").symlink_to("../../secret.txt")
    with pytest.raises(FileNotFoundError):
        Folder(world, index=("index.html", "default.htm")).find("/sub/")


def test_names_that_are_not_utf_8(world):
    name = b"caf\xe9 \xff.txt"
    (world / os.fsdecode(name)).write_bytes(b"coffee")
    folder = Folder(world, listing=True, index=())
    assert content(folder.find("/caf%E9%20%ff.txt")) == b"coffee"
    assert content(folder.find("/caf\xe9%20\xff.txt")) == b"coffee"
    page = folder.find("/").content.decode()
    assert '<a href="./caf%E9%20%FF.txt">caf\ufffd \ufffd.txt</a>' in page


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_permission_error(world):
    (world / "hello.txt").chmod(0)
    with pytest.raises(PermissionError):
        Folder(world).find("/hello.txt")


# --- listings


def rows(page):
    assert type(page) is Page
    return re.findall(r'<a href="(.*?)">(.*?)</a></td><td class="number">(.*?)</td>', page.content.decode())


def test_a_listing_has_folders_first_then_names_and_links_that_work(world):
    (world / "big").write_bytes(b"x" * 1536)
    (world / "to-sub").symlink_to("sub")
    (world / "to-file").symlink_to("hello.txt")
    folder = Folder(world, listing=True, index=())
    assert rows(folder.find("/")) == [
        ("./sub/", "sub/", ""),
        ("./to-sub/", "to-sub/", ""),
        ("./big", "big", "1.5 KiB"),
        ("./hello.txt", "hello.txt", "6 B"),
        ("./index.html", "index.html", "13 B"),
        ("./to-file", "to-file", "6 B"),
    ]
    assert rows(folder.find("/sub/"))[0] == ("../", "../", "")
    assert folder.find("/sub") == Redirect("/sub/")


def test_a_listing_shows_nothing_that_would_not_be_served(world):
    os.mkfifo(world / "fifo")
    (world / "out").symlink_to("../secret.txt")
    (world / "broken").symlink_to("nowhere")
    (world / "loop").symlink_to("loop")
    (world / "to-hidden").symlink_to(".hidden")
    (world / "inside").symlink_to("hello.txt")
    names = [name for _, name, _ in rows(Folder(world, listing=True, index=()).find("/"))]
    assert names == ["sub/", "hello.txt", "index.html", "inside"]
    names = [name for _, name, _ in rows(Folder(world, listing=True, index=(), symlinks=False).find("/"))]
    assert names == ["sub/", "hello.txt", "index.html"]
    names = [name for _, name, _ in rows(Folder(world, listing=True, index=(), dot_files=True).find("/"))]
    assert names[:3] == [".git/", ".well-known/", "sub/"]


@pytest.mark.parametrize(
    ("name", "link", "shown"),
    [
        ("<script>", "./%3Cscript%3E", "&lt;script&gt;"),
        ('"><b c=d>', "./%22%3E%3Cb%20c%3Dd%3E", "&quot;&gt;&lt;b c=d&gt;"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29", "javascript:alert(1)"),
        ("a&b#c?d%65", "./a%26b%23c%3Fd%2565", "a&amp;b#c?d%65"),
        ("{title}", "./%7Btitle%7D", "{title}"),
        ("a\nb", "./a%0Ab", "a\nb"),
    ],
)
def test_names_in_a_listing_are_escaped_and_their_links_lead_to_them(world, name, link, shown):
    (world / name).write_bytes(b"found")
    folder = Folder(world, listing=True, index=())
    page = folder.find("/").content.decode()
    assert f'<a href="{link}">{shown}</a>' in page
    assert content(folder.find(link[1:])) == b"found"


def test_the_title_of_a_listing_is_escaped(world):
    (world / "<b>").mkdir()
    page = Folder(world, listing=True).find("/%3Cb%3E/").content.decode()
    assert "<title>/&lt;b&gt;/</title>" in page
    assert "<b>" not in page


def test_a_listing_ends_somewhere(world, monkeypatch):
    monkeypatch.setattr("rocket.files.listing.MOST", 2)
    assert "<p>1 more are not shown.</p>" in Folder(world, listing=True, index=()).find("/").content.decode()


# --- packed files


def pack(world, ending, data, seconds=3600):
    path = world / f"hello.txt{ending}"
    path.write_bytes(data)
    age(path, seconds)


def test_packed_files_beside_a_file_are_offered_smallest_first(world):
    (world / "hello.txt").write_bytes(b"hello" * 100)
    age(world / "hello.txt")
    pack(world, ".gz", b"12345")
    pack(world, ".br", b"1234")
    pack(world, ".zst", b"123")
    found = Folder(world).find("/hello.txt")
    assert list(found.packed) == ["zstd", "br", "gzip"]
    assert "Vary: Accept-Encoding" in found.plain.fields
    packed = found.packed["br"]
    assert (packed.size, packed.type) == (4, "text/plain; charset=utf-8")
    assert "Content-Encoding: br" in packed.fields
    assert packed.validators.etag != found.plain.validators.etag
    assert not Folder(world, precompressed=False).find("/hello.txt").packed


def test_packed_files_that_are_stale_larger_or_no_files_are_not(world):
    pack(world, ".gz", b"1", 7200)  # older than the file
    pack(world, ".br", b"1234567")  # larger
    (world / "hello.txt.zst").symlink_to("sub/page.html")
    found = Folder(world).find("/hello.txt")
    assert not found.packed
    assert "Vary" not in found.plain.fields


def test_a_packed_file_by_its_own_name_is_what_it_is(world):
    pack(world, ".gz", b"1")
    file = Folder(world).find("/hello.txt.gz").plain
    assert file.type == "application/gzip"
    assert "Content-Encoding" not in file.fields


# --- files that are kept open


def test_a_file_is_opened_once_and_closed_when_its_time_is_over_and_nobody_sends_it(world):
    folder = Folder(world, recheck=3600)
    found = folder.find("/hello.txt")
    assert folder.find("/hello.txt") is found
    assert opened_in(world) == [str(world / "hello.txt")]
    folder._recheck = 0  # what is found from now on is not kept
    for kept in list(folder._kept):
        folder._kept[kept] = folder._kept[kept]._replace(expires=0)
    del found, kept
    folder.find("/sub/page.html")
    assert opened_in(world) == []


@pytest.mark.parametrize("recheck", [0, 3600])
def test_a_change_is_seen_at_once(world, recheck):
    folder = Folder(world, recheck=recheck)
    path = world / "hello.txt"
    etag = folder.find("/hello.txt").plain.validators.etag
    path.write_bytes(b"written over")
    found = folder.find("/hello.txt")
    assert content(found) == b"written over"
    assert found.plain.validators.etag != etag
    (world / "new").write_bytes(b"replaced")
    os.replace(world / "new", path)
    assert content(folder.find("/hello.txt")) == b"replaced"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        folder.find("/hello.txt")


def test_a_path_is_looked_up_again_after_its_time(world):
    folder = Folder(world, recheck=0)
    assert content(folder.find("/sub/page.html")) == b"<p>page</p>"
    os.rename(world / "sub", world / "old")
    with pytest.raises(FileNotFoundError):
        folder.find("/sub/page.html")


def test_no_more_files_are_kept_open_than_allowed(world):
    for number in range(20):
        (world / str(number)).write_bytes(b"x" * number)
    folder = Folder(world, recheck=3600, keep_open=5)
    for number in [*range(20), *range(20)]:
        assert content(folder.find(f"/{number}")) == b"x" * number
        assert content(folder.find(f"/{number}?{number}")) == b"x" * number
    assert len(opened_in(world)) == 5
    assert folder._opened == 5
    del folder
    assert opened_in(world) == []


def test_a_file_that_is_sent_stays_open_when_it_is_not_kept_any_more(world):
    folder = Folder(world, keep_open=0)
    file = folder.find("/hello.txt").plain
    assert not folder._kept
    assert os.pread(file.fd, 10, 0) == b"hello\n"
    release, fd = file.release, file.fd
    del file
    assert os.pread(fd, 10, 0) == b"hello\n"
    del release
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def take_all_descriptors(taken):
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass


def test_out_of_descriptors_what_is_kept_gives_way(world):
    folder = Folder(world, recheck=3600, keep_open=100)
    for number in range(10):
        (world / str(number)).write_bytes(b"x")
        folder.find(f"/{number}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, hard))
        take_all_descriptors(spare)
        assert content(folder.find("/hello.txt")) == b"hello\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)


def test_nothing_stays_open_when_finding_fails_half_way(world, monkeypatch):
    pack(world, ".gz", b"1")

    def fail(fd):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "dup", fail)
    with pytest.raises(OSError, match="too many"):
        Folder(world).find("/hello.txt")
    assert opened_in(world) == []
