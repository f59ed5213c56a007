"""What systemd, or another supervisor, hands over and hears."""

import errno
import os
import socket
import threading

import pytest
from core_helpers import PATIENCE, until

from rocket.systemd import Notifier, PassedSockets, Supervised, watchdog_interval


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    """A socket that hears what is told, and the variable that leads there."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        # Abstract, like the one of a systemd in a container: a path of pytest's may be too long.
        sock.bind("\0" + f"rocket-supervisor-{os.getpid()}-{threading.get_ident()}")
        sock.settimeout(PATIENCE)
        yield sock


def environ(supervisor, **variables):
    return {"NOTIFY_SOCKET": "@" + os.fsdecode(supervisor.getsockname())[1:], **variables}


def heard(supervisor):
    return supervisor.recv(4096).decode().split("\n")


def refusal(environ, name=""):
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the errno is looked at)
        PassedSockets(environ).named(name)
    assert caught.value.errno in {errno.ENOENT, errno.EINVAL}
    return caught.value.strerror


def passed(**variables):
    return {"LISTEN_PID": str(os.getpid()), **{f"LISTEN_{name}": value for name, value in variables.items()}}


# ---------------------------------------------------------------------- sockets


def test_sockets_begin_at_descriptor_3_and_are_called_unknown():
    sockets = PassedSockets(passed(FDS="2"))
    assert sockets.named("") == [3, 4]
    assert sockets.named("unknown") == [3, 4]


def test_several_sockets_may_have_one_name():
    sockets = PassedSockets(passed(FDS="3", FDNAMES="web:admin:web"))
    assert sockets.named("web") == [3, 5]
    sockets.take([3, 5])
    assert sockets.named("") == [4]


def test_variables_are_removed_so_that_no_child_takes_them_for_its_own():
    variables = {**passed(FDS="1", FDNAMES="a"), "PATH": "/bin"}
    PassedSockets(variables).named("a")
    assert variables == {"PATH": "/bin"}


def test_variables_stay_until_somebody_asks():
    variables = passed(FDS="2")
    sockets = PassedSockets(variables)
    sockets.take([])
    assert sockets.unasked() == 2
    assert variables == passed(FDS="2")
    sockets.named("")
    assert sockets.unasked() == 0


@pytest.mark.parametrize("variables", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, passed(FDS="x")])
def test_nothing_is_unasked_where_nothing_was_handed_over_to_us(variables):
    assert PassedSockets(variables).unasked() == 0


def test_why_there_is_no_socket_is_said():
    assert "LISTEN_PID and LISTEN_FDS are not both set" in refusal({})
    assert f"LISTEN_PID is 1, and this process {os.getpid()}" in refusal({"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert refusal(passed(FDS="one")) == "LISTEN_FDS is not possible: 'one'"
    assert refusal(passed(FDS="-1")) == "LISTEN_FDS is not possible: '-1'"
    assert refusal(passed(FDS="999999999")) == "LISTEN_FDS is not possible: '999999999'"
    assert refusal(passed(FDS="0")).endswith("LISTEN_FDS is 0")
    assert refusal(passed(FDS="1", FDNAMES="a:b")) == "LISTEN_FDNAMES has 2 names, LISTEN_FDS says 1"
    assert refusal(passed(FDS="2", FDNAMES="a:b"), "c") == "no socket has that name, but a, b"


# ---------------------------------------------------------------------- notifications


def test_states_are_sent_in_one_message(supervisor):
    Notifier(environ(supervisor)).tell("READY=1", "STATUS=two\nlines")
    assert heard(supervisor) == ["READY=1", "STATUS=two lines"]


def test_supervisor_at_a_path_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = os.path.join(tmp_path, "n")
    if len(path) > 100:
        pytest.skip("the path is too long for a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(PATIENCE)
        Notifier({"NOTIFY_SOCKET": path}).tell("READY=1")
        assert heard(sock) == ["READY=1"]


def test_nobody_is_told_where_nobody_asks(caplog):
    notifier = Notifier({})
    notifier.tell("READY=1")
    assert not notifier
    assert caplog.records == []


@pytest.mark.parametrize("address", ["/no/such/socket", "@" + "x" * 200, "vsock:2:1234"])
def test_supervisor_that_cannot_be_reached_stops_nobody(address, caplog):
    Notifier({"NOTIFY_SOCKET": address}).tell("READY=1")
    assert len(caplog.records) == 1


def test_supervisor_that_does_not_listen_any_more_does_not_hold_us_up(supervisor, caplog):
    notifier = Notifier(environ(supervisor))
    for _ in range(10000):  # more than it keeps for later
        notifier.tell("WATCHDOG=1")
        if caplog.records:
            break
    assert "cannot tell the supervisor WATCHDOG=1" in caplog.text


# ---------------------------------------------------------------------- watchdog


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "17"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "18"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_answered_only_if_it_watches_us(variables, interval):
    assert watchdog_interval(variables, 17) == interval


def test_supervisor_hears_of_a_whole_life(supervisor):
    well = Supervised(environ(supervisor), ailment=lambda: "")
    well.ready("serving")
    well.stopping("ending")
    well.stop()
    assert heard(supervisor) == ["READY=1", "STATUS=serving"]
    assert heard(supervisor) == ["STOPPING=1", "STATUS=ending"]


def test_who_does_not_ask_costs_no_thread(supervisor):
    before = set(threading.enumerate())
    for variables in (environ(supervisor), {"WATCHDOG_USEC": "1000"}):
        quiet = Supervised(variables, ailment=lambda: "")
        quiet.ready("serving")
        assert set(threading.enumerate()) <= before
        quiet.stop()


def test_watchdog_is_answered_while_all_is_well(supervisor, caplog):
    state = [""]
    asked = threading.Semaphore(0)

    def ailment():
        asked.release()
        if state[0] == "broken":
            raise ValueError
        return state[0]

    watched = Supervised(environ(supervisor, WATCHDOG_USEC="2000"), ailment=ailment)
    try:
        watched.ready("serving")
        heard(supervisor)
        assert heard(supervisor) == ["WATCHDOG=1"]
        assert heard(supervisor) == ["WATCHDOG=1"]
        for trouble, logged in (("no worker moves", "no worker moves"), ("broken", "the health check failed")):
            state[0] = trouble
            until(lambda logged=logged: logged in caplog.text)
            supervisor.setblocking(False)
            while True:  # what was sent before
                try:
                    heard(supervisor)
                except BlockingIOError:
                    break
            for _ in range(5):
                assert asked.acquire(timeout=PATIENCE)
            with pytest.raises(BlockingIOError):
                heard(supervisor)
            supervisor.settimeout(PATIENCE)
        state[0] = ""
        assert heard(supervisor) == ["WATCHDOG=1"]
    finally:
        watched.stop()
        watched.stop()
    assert caplog.text.count("no worker moves") == 1
