"""Listening sockets: what is bound, taken over and refused, and what is left behind."""

import errno
import fcntl
import os
import socket
import stat
import struct
import threading

import pytest
from core_helpers import PATIENCE, thread

from rocket import sockets as sockets_module
from rocket.binds import parse_bind, parse_binds
from rocket.errors import BindError
from rocket.sockets import LONGEST_PATH, open_all, open_sockets
from rocket.systemd import PassedSockets

OPTIONS = {"backlog": 64, "dual_stack": True, "defer_accept": False}
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
linux = pytest.mark.skipif(not sockets_module.LINUX, reason="Linux only")
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
no_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may do all")


@pytest.fixture
def listen():
    """What opens the sockets of a bind; they are released at the end."""
    opened = []

    def listen(text, **options):
        found = open_sockets(parse_bind(text), **{**OPTIONS, **options})
        opened.extend(found)
        return found

    yield listen
    for place in opened:
        place.release()


@pytest.fixture
def listening():
    """What makes a plain listening socket, as somebody else would hand one over."""
    made = []

    def make(family=socket.AF_INET, where=("127.0.0.1", 0), kind=socket.SOCK_STREAM, queue=5):
        sock = socket.socket(family, kind)
        made.append(sock)
        sock.bind(where)
        if queue is not None:
            sock.listen(queue)
        return sock

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a short name, the working directory: pytest's own may be too long for a unix socket's path."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def knock(place):
    """Connect to the place, and close."""
    sock = socket.socket(place.sock.family)
    with sock:
        sock.settimeout(PATIENCE)
        sock.connect(place.address if not place.local else place.sock.getsockname())


def next_fd():
    lowest = os.dup(0)
    os.close(lowest)
    return lowest


def refusal(text, **options):
    before = next_fd()
    with pytest.raises(BindError) as caught:
        open_sockets(parse_bind(text), **{**OPTIONS, **options})
    assert next_fd() == before, "a descriptor was left open"
    start = f"cannot bind {text}: "
    assert str(caught.value.strerror).startswith(start)
    return caught.value.strerror[len(start) :]


# ---------------------------------------------------------------------- TCP


def test_port_0_is_a_free_one(listen):
    (place,) = listen("127.0.0.1:0")
    assert place.address[1] > 0
    assert not place.sock.getblocking()
    assert not place.sock.get_inheritable()
    assert place.endpoint == ("127.0.0.1", str(place.address[1]))
    assert place.url == place.describe() == f"http://127.0.0.1:{place.address[1]}/"


def test_taken_port_is_named(listen):
    (place,) = listen("127.0.0.1:0")
    with pytest.raises(BindError, match=rf"127\.0\.0\.1:{place.address[1]}.*[Aa]ddress.*in use") as caught:
        listen(str(place))
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 80, "203.0.113.1"])
def test_host_that_is_not_ours_is_named(host):
    assert refusal(f"{host}:0")


def test_failing_bind_leaves_nothing_open(listen, folder):
    (place,) = listen("127.0.0.1:0")
    before = next_fd()
    with pytest.raises(BindError):
        open_all(parse_binds((":0", "unix:s", str(place))), **OPTIONS)
    assert next_fd() == before
    assert os.listdir(folder) == []


@needs_ipv6
def test_ipv6_address_is_bound(listen):
    (place,) = listen("[::1]:0")
    knock(place)
    assert place.url == f"http://[::1]:{place.address[1]}/"


@needs_ipv6
@pytest.mark.parametrize("bind", [":0", "[::]:0"])
def test_dual_stack_takes_ipv4_and_ipv6_on_one_socket(listen, bind):
    (place,) = listen(bind)
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, place.address[1]), timeout=PATIENCE).close()
    assert place.describe() == f"http://[::1]:{place.address[1]}/ (all addresses of the host)"


@needs_ipv6
def test_without_dual_stack_ipv6_is_ipv6_only(listen):
    (place,) = listen("[::]:0", dual_stack=False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", place.address[1]), timeout=PATIENCE)


@needs_ipv6
def test_without_dual_stack_all_addresses_are_two_sockets_with_one_port(listen):
    places = listen(":0", dual_stack=False)
    assert {place.sock.family for place in places} == {socket.AF_INET, socket.AF_INET6}
    assert len({place.address[1] for place in places}) == 1


def test_name_with_several_addresses_has_one_port(listen):
    assert len({place.address[1] for place in listen("localhost:0")}) == 1


@pytest.mark.skipif(sockets_module.REUSEPORT is None, reason="no SO_REUSEPORT here")
def test_port_may_be_shared_by_those_that_all_want_it(listen):
    (one,) = listen("tcp://127.0.0.1:0?reuseport=1")
    (other,) = listen(f"127.0.0.1:{one.address[1]}?reuseport=1")
    assert one.address == other.address
    assert "in use" in refusal(f"127.0.0.1:{one.address[1]}")


# ---------------------------------------------------------------------- unix sockets


def test_unix_socket_is_bound_and_removed(listen, folder):
    (place,) = listen("unix:s.sock")
    assert stat.S_ISSOCK(os.stat("s.sock").st_mode)
    knock(place)
    assert not place.sock.getblocking()
    assert not place.sock.get_inheritable()
    assert place.address == str(folder / "s.sock")
    assert place.endpoint == ("localhost", "80")
    assert place.describe() == f"unix:{folder}/s.sock"
    place.release()
    place.release()
    assert os.listdir(folder) == []


def test_unix_socket_is_removed_also_from_another_working_directory(listen, folder):
    (place,) = listen("unix:s.sock")
    os.chdir("/")
    place.release()
    assert os.listdir(folder) == []


def test_no_tcp_option_is_set_on_a_unix_socket(folder):
    # Asked of the kernel's own view: an option of TCP would have raised EOPNOTSUPP.
    (place,) = open_sockets(parse_bind("unix:s"), backlog=1, dual_stack=True, defer_accept=True)
    place.release()


@linux
def test_abstract_socket_has_no_file(listen, folder):
    name = f"rocket-test-{os.getpid()}-{threading.get_ident()}"
    (place,) = listen(f"unix:@{name}")
    knock(place)
    assert place.address == f"\0{name}"
    assert str(place) == f"unix:@{name}"
    assert os.listdir(folder) == []
    assert "in use" in refusal(f"unix:@{name}")


def test_mode_is_as_asked_for_whatever_the_umask(listen, folder):
    before = os.umask(0o077)
    try:
        listen("unix:s?mode=666")
        listen("unix:t?mode=600")
        listen("unix:u")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(os.stat(name).st_mode) for name in "stu"] == [0o666, 0o600, 0o700]


@root
def test_owner_and_group_are_as_asked_for(listen, folder):
    listen("unix:s?owner=nobody&group=12345&mode=660")
    found = os.stat("s")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 12345, 0o660)


def test_group_of_one_s_own_may_be_given_by_number(listen, folder):
    listen(f"unix:s?group={os.getgid()}")
    assert os.stat("s").st_gid == os.getgid()


@no_root
def test_owner_that_may_not_be_given_is_refused_and_nothing_left(folder):
    assert refusal("unix:s?owner=root").startswith("cannot give it to another owner or group: ")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("parameter", ["owner", "group"])
@pytest.mark.parametrize("name", ["no-such-one", "4294967295", "9" * 20, "9" * 5000])
def test_unknown_owner_is_named(folder, parameter, name):
    what = {"owner": "user", "group": "group"}[parameter]
    assert refusal(f"unix:s?{parameter}={name}") == f"there is no {what} {name!r}"
    assert os.listdir(folder) == []


def test_nobody_can_connect_before_the_mode_is_right(folder, hasty_threads):
    """Whoever gets in as early as possible finds the mode as it is to be."""
    for _ in range(20):
        seen = []
        knocking = threading.Event()

        def knock_early(seen=seen, knocking=knocking):
            while not seen:
                with socket.socket(socket.AF_UNIX) as early:
                    knocking.set()
                    try:
                        early.connect("s")
                    except (FileNotFoundError, ConnectionRefusedError):
                        continue
                    seen.append(stat.S_IMODE(os.stat("s").st_mode))

        with thread(knock_early):
            assert knocking.wait(PATIENCE)
            (place,) = open_sockets(parse_bind("unix:s?mode=600"), **OPTIONS)
        place.release()
        assert seen == [0o600]


@linux
def test_mode_is_not_set_on_what_a_link_leads_to(folder):
    (folder / "victim").touch(0o600)
    os.symlink("victim", "link")
    with pytest.raises(OSError, match=r"symbolic link|replaced"):
        sockets_module._set_access(str(folder / "link"), 0o666, -1, -1)
    assert stat.S_IMODE(os.stat("victim").st_mode) == 0o600


def test_socket_that_a_dead_server_left_is_replaced(listen, listening, folder, caplog):
    caplog.set_level("INFO")
    listening(socket.AF_UNIX, "s").close()
    assert os.path.exists("s")
    (place,) = listen("unix:s")
    knock(place)
    assert "removed the socket" in caplog.text


def test_socket_of_a_live_server_is_left_alone(listen, folder):
    (place,) = listen("unix:s")
    assert refusal("unix:s") == "a server listens there"
    knock(place)


def test_socket_of_a_server_that_is_too_busy_to_accept_is_left_alone(listening, folder):
    listening(socket.AF_UNIX, "s", queue=0)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect("s")  # the backlog is full now
        assert refusal("unix:s") == "a server listens there"
    assert os.path.exists("s")


def test_socket_that_begins_to_listen_a_moment_later_is_left_alone(listening, folder):
    """Somebody who does not take the lock has bound, and does not listen yet."""
    slow = listening(socket.AF_UNIX, "s", queue=None)
    with pytest.raises(OSError, match="a server listens there"):
        sockets_module._remove_stale("s", "s", pause=lambda _: slow.listen(5))
    assert os.path.exists("s")


def test_datagram_socket_is_left_alone(listening, folder):
    listening(socket.AF_UNIX, "s", socket.SOCK_DGRAM, queue=None)
    assert refusal("unix:s") == "a server listens there"


@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe"])
def test_what_is_no_socket_is_never_removed(folder, kind):
    {"file": lambda: (folder / "s").write_text("mine"), "folder": lambda: os.mkdir("s"),
     "link": lambda: os.symlink("nowhere", "s"), "pipe": lambda: os.mkfifo("s")}[kind]()  # fmt: skip
    before = os.lstat("s")
    assert refusal("unix:s") == "there is a file of that name, which is no socket"
    assert os.lstat("s") == before


def test_file_that_somebody_has_put_in_our_socket_s_place_is_not_removed(listen, listening, folder):
    (place,) = listen("unix:s")
    os.unlink("s")
    successor = listening(socket.AF_UNIX, "s")
    place.release()
    assert os.path.exists("s")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("s")
        successor.accept()[0].close()


def test_our_socket_that_somebody_has_removed_is_no_error(listen, folder, caplog):
    (place,) = listen("unix:s")
    os.unlink("s")
    place.release()
    assert caplog.records == []


def test_of_many_that_start_at_once_one_listens(listening, folder, hasty_threads):
    """On a file that a dead server left; the others must not remove the winner's."""
    for _ in range(5):
        listening(socket.AF_UNIX, "s").close()
        barrier = threading.Barrier(6)
        won, lost = [], []

        def start(barrier=barrier, won=won, lost=lost):
            barrier.wait(PATIENCE)
            try:
                won.extend(open_sockets(parse_bind("unix:s"), **OPTIONS))
            except BindError as exc:
                lost.append(exc.strerror)

        with thread(start), thread(start), thread(start), thread(start), thread(start), thread(start):
            pass
        assert lost == ["cannot bind unix:s: a server listens there"] * 5
        (place,) = won
        knock(place)
        place.release()


def test_start_waits_for_the_folder_s_lock(listen, folder):
    """As long as another server is between the look and listen(2)."""
    fd = os.open(folder, os.O_RDONLY)
    waiting, done = threading.Event(), threading.Event()

    def start():
        waiting.set()
        listen("unix:s")
        done.set()

    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with thread(start):
            assert waiting.wait(PATIENCE)
            assert not done.wait(5 * sockets_module.LOCK_PAUSE)
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)
    assert done.is_set()


def test_lock_that_is_never_given_back_is_named(folder):
    lock = sockets_module._locked
    late = pytest.raises(OSError, match=f"another process keeps the folder {folder} locked")
    with lock(str(folder)), late, lock(str(folder), patience=0.0):
        raise AssertionError("locked by two")


@pytest.mark.parametrize("prefix", ["/", "@"])
def test_path_that_is_too_long_is_refused_with_its_length(prefix):
    name = "x" * LONGEST_PATH
    length = len((prefix + name).lstrip("@"))
    if length > LONGEST_PATH:
        assert refusal(f"unix:{prefix}{name}") == (
            f"the path has {length} bytes, a unix socket's has {LONGEST_PATH} at most"
        )
    assert f"the path has {length + 1} bytes" in refusal(f"unix:{prefix}{name}y")


def test_longest_path_is_bound(listen, folder):
    (place,) = listen("unix:" + "x" * LONGEST_PATH)  # relative: the whole path is longer
    knock(place)
    place.release()
    assert os.listdir(folder) == []


def test_folder_that_is_not_there_is_named(folder):
    assert refusal("unix:no/s") == f"cannot open the folder {folder}/no: No such file or directory"


@no_root
def test_folder_that_may_not_be_written_is_an_error(folder):
    os.chmod(folder, 0o500)
    try:
        assert "ermission denied" in refusal("unix:s")
    finally:
        os.chmod(folder, 0o700)


# ---------------------------------------------------------------------- inherited sockets


@pytest.mark.parametrize("kind", ["ipv4", "ipv6", "unix"])
def test_inherited_socket_is_taken_over(listen, listening, folder, kind):
    if kind == "ipv6" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    given = {
        "ipv4": listening,
        "ipv6": lambda: listening(socket.AF_INET6, ("::1", 0)),
        "unix": lambda: listening(socket.AF_UNIX, "s"),
    }[kind]()
    family = given.family
    given.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10))  # close(2) would wait
    fd = given.detach()
    os.set_inheritable(fd, True)
    (place,) = listen(f"fd://{fd}")
    assert (place.sock.fileno(), place.sock.family) == (fd, family)
    assert not place.sock.getblocking()
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    assert struct.unpack("ii", place.sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0] == 0
    knock(place)
    assert place.describe().endswith(f" (fd://{fd})")
    place.release()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    assert os.path.exists("s") == (kind == "unix")  # who made it sees to it


def test_descriptor_that_was_not_inherited_is_named():
    assert refusal("fd://999") == "no descriptor 999 was inherited"


@pytest.mark.parametrize(
    ("kind", "queue", "reason"),
    [
        (socket.SOCK_STREAM, None, "is a socket that does not listen (systemd: Accept=no)"),
        (socket.SOCK_DGRAM, None, "is no stream socket"),
    ],
)
def test_socket_that_does_not_fit_is_refused_and_stays_open(listening, kind, queue, reason):
    given = listening(kind=kind, queue=queue)
    os.set_inheritable(given.fileno(), True)
    assert refusal(f"fd://{given.fileno()}") == f"descriptor {given.fileno()} {reason}"
    given.getsockname()
    assert given.getblocking()
    assert os.get_inheritable(given.fileno())


def test_file_is_no_socket():
    with open(os.devnull) as file:
        assert refusal(f"fd://{file.fileno()}") == f"descriptor {file.fileno()} is no socket"
        os.fstat(file.fileno())


def test_descriptor_is_not_taken_twice(listening):
    fd = listening().detach()
    passed = PassedSockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, first=fd)
    with pytest.raises(BindError, match=rf"cannot bind fd://{fd}: 127.0.0.1:\d+ has that descriptor already"):
        open_all(parse_binds(("systemd:", f"fd://{fd}")), **OPTIONS, passed=passed)


def test_sockets_of_systemd_are_taken_by_name_and_once(listening):
    first, second = listening(), listening()
    numbers = sorted([first.fileno(), second.fileno()])
    if numbers[1] != numbers[0] + 1:
        pytest.skip("another test's thread has taken the descriptor in between")
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:admin", "OTHER": "1"}
    passed = PassedSockets(environ, first=numbers[0])
    (admin,) = open_all(parse_binds(("systemd:admin",)), **OPTIONS, passed=passed)
    assert admin.sock.fileno() == numbers[1]
    assert environ == {"OTHER": "1"}
    assert refusal("systemd:admin", passed=passed) == "no socket has that name, but web"
    (web,) = open_all(parse_binds(("systemd:",)), **OPTIONS, passed=passed)
    assert web.sock.fileno() == numbers[0]
    assert web.describe().endswith("(from systemd)")
    assert refusal("systemd:", passed=passed) == "all are taken"
    for place in (admin, web):
        place.sock.detach()


def test_sockets_of_systemd_stay_to_be_taken_if_one_does_not_fit(listening):
    given = listening(queue=None)
    passed = PassedSockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, first=given.fileno())
    assert "does not listen" in refusal("systemd:", passed=passed)
    given.listen(1)
    taken = listening().getsockname()[1]
    with pytest.raises(BindError):
        open_all(parse_binds(("systemd:", f"127.0.0.1:{taken}")), **OPTIONS, passed=passed)
    (place,) = open_all(parse_binds(("systemd:unknown",)), **OPTIONS, passed=passed)
    place.sock.detach()
