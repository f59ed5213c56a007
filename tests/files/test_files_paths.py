"""Paths: from a target to an open file, and never out of the folder."""

import os
import socket
import stat

import pytest
from files_helpers import opened_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocket.errors import BadRequest
from rocket.files.paths import open_beneath, split_path


def read(root, *names, symlinks=True, dot_files=False):
    """Return what the file at *names* holds."""
    opened = open_beneath(
        os.fsencode(root), [os.fsencode(name) for name in names], symlinks=symlinks, dot_files=dot_files
    )
    try:
        return os.read(opened.fd, 1 << 20)
    finally:
        opened.close()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(tmp_path):
    yield
    assert opened_in(tmp_path) == []


# --- targets


@pytest.mark.parametrize(
    ("target", "names", "is_folder"),
    [
        ("/", (), True),
        ("/a", (b"a",), False),
        ("/a/", (b"a",), True),
        ("/a/b.txt?x=/../y", (b"a", b"b.txt"), False),
        ("//a///b", (b"a", b"b"), False),
        ("/%61%20b", (b"a b",), False),
        ("/%C3%A9", "\u00e9".encode(), False),
        ("/\xe9", (b"\xe9",), False),
        ("/%ff%zz%", (b"\xff%zz%",), False),
        ("/a+b", (b"a+b",), False),
        ("/%252e%252e/a", (b"%2e%2e", b"a"), False),
        ("/a%5C..%5Cb", (b"a\\..\\b",), False),
        ("/...", (b"...",), False),
        ("http://host", (), True),
        ("http://host:80/a/b?c", (b"a", b"b"), False),
        ("HTTPS://host?c", (), True),
    ],
)
def test_target_is_split_and_decoded_once(target, names, is_folder):
    path = split_path(target)
    assert path.names == ((names,) if isinstance(names, bytes) else names)
    assert path.is_folder == is_folder


@pytest.mark.parametrize(
    "target",
    [
        "/..",
        "/../a",
        "/a/../b",
        "/a/..",
        "/.",
        "/./a",
        "/%2e%2E/a",
        "/.%2e/a",
        "/a%2Fb",
        "/..%2f..%2fetc",
        "/%2f",
        "http://x/..",
    ],
)
def test_target_that_can_name_no_file(target):
    assert split_path(target) is None


@pytest.mark.parametrize("target", ["/%00", "/a%00.txt", "/a/%00/b"])
def test_nul_is_a_bad_request(target):
    with pytest.raises(BadRequest, match="%00"):
        split_path(target)


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/a", "/a/"),
        ("/a?b=c", "/a/?b=c"),
        ("//evil.example/a", "/evil.example/a/"),
        ("///evil.example", "/evil.example/"),
        ("/%5Cevil.example", "/%5Cevil.example/"),
        ("/%09/evil.example", "/%09/evil.example/"),
        ("/%0d%0aX:%20y", "/%0D%0AX%3A%20y/"),
        ("/javascript:x", "/javascript%3Ax/"),
        ("http://other/a", "/a/"),
    ],
)
def test_redirect_stays_on_the_host(target, url):
    assert split_path(target).folder_url == url


# --- the walk


def test_files_and_folders_are_opened(world):
    assert read(world, "hello.txt") == b"hello\n"
    assert len(read(world, "sub", "deep", "data.bin")) == 1024
    opened = open_beneath(os.fsencode(world), [b"sub"], symlinks=True, dot_files=False)
    assert stat.S_ISDIR(opened.status.st_mode)
    opened.close()
    opened = open_beneath(os.fsencode(world), [], symlinks=True, dot_files=False)
    assert os.path.samestat(opened.status, os.stat(world))
    opened.close()


@pytest.mark.parametrize(
    "names",
    [
        ["nothing"],
        ["hello.txt", "more"],
        ["..", "secret.txt"],
        ["sub", "..", "..", "secret.txt"],
        [".hidden"],
        [".git", "config"],
        ["sub", ".well-known"],
        ["x" * 300],
    ],
)
def test_what_is_not_there_or_not_to_be_seen(world, names):
    with pytest.raises(OSError, match="Errno") as caught:
        read(world, *names)
    assert not isinstance(caught.value, PermissionError)


def test_dot_files_if_they_are_wanted_and_well_known_always(world):
    assert read(world, ".git", "config", dot_files=True) == b"hidden"
    assert read(world, ".well-known", "security.txt") == b"Contact: x"


@pytest.mark.parametrize(
    "target",
    [
        "hello.txt",
        "./hello.txt",
        "sub/../hello.txt",
        "sub//deep/../../hello.txt",
        "other",  # a link to a link
        "{www}/hello.txt",
        "{www}/sub/../hello.txt",
        "folder/../../hello.txt",  # through a link to sub/deep: its parent is sub
    ],
)
def test_links_within_the_folder_are_followed_if_they_may_be(world, target):
    (world / "other").symlink_to("hello.txt")
    (world / "folder").symlink_to("sub/deep")
    (world / "link").symlink_to(target.format(www=world))
    assert read(world, "link") == b"hello\n"
    with pytest.raises(FileNotFoundError):
        read(world, "link", symlinks=False)


def test_links_to_folders_are_gone_through(world):
    (world / "latest").symlink_to("sub")
    assert read(world, "latest", "page.html") == b"<p>page</p>"
    with pytest.raises(FileNotFoundError):
        read(world, "latest", "page.html", symlinks=False)


@pytest.mark.parametrize(
    "target",
    [
        "../secret.txt",
        "sub/../../secret.txt",
        "{outside}/secret.txt",
        "{www}-other/secret.txt",
        "{www}/../secret.txt",
        "/proc/self/root{outside}/secret.txt",
        "/etc/passwd",
        ".hidden",
        ".git/config",
        "link",  # to itself
        "ping",
        "nowhere",
        "/",
        "..",
    ],
)
def test_links_lead_neither_out_nor_to_what_is_hidden(world, target):
    (world / "ping").symlink_to("pong")
    (world / "pong").symlink_to("ping")
    (world / "link").symlink_to(target.format(www=world, outside=world.parent))
    with pytest.raises(OSError, match="Errno"):
        read(world, "link")


def test_a_link_to_a_folder_outside_leads_nowhere(world):
    (world / "up").symlink_to("..")
    (world / "root").symlink_to("/")
    for names in (["up", "secret.txt"], ["up", "www", "hello.txt"], ["root", "etc", "passwd"]):
        with pytest.raises(FileNotFoundError):
            read(world, *names)


def test_the_folder_itself_may_be_a_link_and_may_be_switched(world, tmp_path):
    (tmp_path / "current").symlink_to("www")
    (world / "absolute").symlink_to(world / "hello.txt")
    assert read(tmp_path / "current", "hello.txt") == b"hello\n"
    assert read(tmp_path / "current", "absolute") == b"hello\n"
    (tmp_path / "next").symlink_to("www-other")
    os.replace(tmp_path / "next", tmp_path / "current")
    assert read(tmp_path / "current", "secret.txt").startswith(b"secret")


def test_what_is_no_file_is_not_opened(world, monkeypatch):
    os.mkfifo(world / "fifo")  # open() would wait for a writer
    (world / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as sock:
        monkeypatch.chdir(world)  # a path of 108 bytes at most
        sock.bind("socket")
        for name in ("fifo", "socket", "null"):
            with pytest.raises(FileNotFoundError):
                read(world, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_devices_are_not_opened(world):
    try:
        os.mknod(world / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("not in this container")
    with pytest.raises(FileNotFoundError):
        read(world, "zero")


def test_a_folder_that_becomes_a_link_between_look_and_open_leads_nowhere(world, monkeypatch):
    """The race that a check of the whole path before the opening loses: forced, at each look."""
    real = os.stat

    def look(name, **options):
        status = real(name, **options)
        if name == b"sub" and not os.path.islink(world / "sub"):
            os.rename(world / "sub", world / "moved")
            (world / "sub").symlink_to("../www-other")
        return status

    monkeypatch.setattr(os, "stat", look)
    with pytest.raises(OSError, match="Errno"):
        read(world, "sub", "secret.txt")


def test_a_file_that_becomes_a_link_or_a_fifo_between_look_and_open(world, monkeypatch):
    real = os.stat

    def look(name, **options):
        status = real(name, **options)
        if name == b"hello.txt":
            os.unlink(world / "hello.txt")
            (world / "hello.txt").symlink_to("../secret.txt")
        if name == b"index.html":
            os.unlink(world / "index.html")
            os.mkfifo(world / "index.html")
        return status

    monkeypatch.setattr(os, "stat", look)
    for name in ("hello.txt", "index.html"):
        with pytest.raises(OSError, match="Errno"):
            read(world, name)


# --- any target


NAMES = """.. . %2e%2e %2E. %252e%252e ..%2f %2f %5c ..\\ %ff fifo .git sub deep hello.txt up root to-sub loop out
    secret.txt www www-other etc passwd proc self"""
SEGMENTS = st.one_of(
    st.sampled_from(["", *NAMES.split()]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, blacklist_characters="\x7f#?"), max_size=8),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segments=st.lists(SEGMENTS, max_size=8), prefix=st.sampled_from(["/", "//", "http://host/", "/../", "/%2e%2e/"]))
def test_whatever_the_target_the_opened_file_is_inside_the_folder(world, segments, prefix):
    links = {"up": "..", "root": "/", "to-sub": "sub", "loop": "loop", "out": str(world.parent / "secret.txt")}
    for name, target in links.items():
        if not os.path.lexists(world / name):
            (world / name).symlink_to(target)
            (world / "sub" / name).symlink_to(target)
    try:
        path = split_path(prefix + "/".join(segments))
        if path is None:
            return
        opened = open_beneath(os.fsencode(world), path.names, symlinks=True, dot_files=True)
    except (OSError, BadRequest):
        return
    try:
        real = os.path.realpath(f"/proc/self/fd/{opened.fd}")
    finally:
        opened.close()
    assert real == str(world) or real.startswith(f"{world}/")
