"""Standard error that nobody waits for."""

import io
import os
import subprocess
import sys
import threading
import types

import pytest

from rocket.stderr import KEPT, Patient, patient_stderr, quiet_handshakes


class Blocked(io.StringIO):
    """A stream that takes nothing until it is told to."""

    def __init__(self):
        super().__init__()
        self.asked = threading.Event()
        self.open = threading.Event()

    def write(self, text):
        self.asked.set()
        self.open.wait(20)
        return super().write(text)


class Broken(io.StringIO):
    def write(self, text):
        raise OSError("No space left on device")


def printed(stream, *texts):
    patient = Patient(stream)
    patient.start()
    for text in texts:
        patient.write(text)
    patient.stop()
    return stream.getvalue()


def test_what_is_written_is_printed_in_order():
    assert printed(io.StringIO(), "one\n", "two\n", "", "three\n") == "one\ntwo\nthree\n"


def test_writing_does_not_wait_for_the_reader_and_what_is_too_much_is_dropped_and_counted():
    stream = Blocked()
    patient = Patient(stream)
    patient.start()
    patient.write("first\n")
    stream.asked.wait(20)
    for _ in range(5):
        patient.write((KEPT // 4) * "x")
    patient.write("small ones still fit\n")
    stream.open.set()
    patient.stop()
    text = stream.getvalue()
    assert text.count("x") == 3 * (KEPT // 4)
    assert "small ones still fit\n" in text
    assert text.endswith("rocket: 2 messages dropped here: nobody read them\n")


def test_what_was_printed_makes_room_again():
    stream = Blocked()
    stream.open.set()
    patient = Patient(stream)
    patient.start()
    for _ in range(8):
        stream.asked.clear()
        patient.write((KEPT // 2) * "x")
        assert stream.asked.wait(20)
    patient.stop()
    assert stream.getvalue().count("x") >= 4 * (KEPT // 2)


def test_a_stream_that_fails_harms_nobody():
    assert printed(Broken(), "one\n", "two\n") == ""


def test_a_stream_that_is_blocked_does_not_delay_the_end_for_long():
    stream = Blocked()
    patient = Patient(stream)
    patient.start()
    patient.write("never printed\n")
    patient.stop()  # returns
    stream.open.set()


def test_whoever_writes_after_the_end_prints_directly():
    stream = io.StringIO()
    patient = Patient(stream)
    patient.start()
    patient.stop()
    patient.write("late\n")
    assert stream.getvalue() == "late\n"


def test_only_text_is_taken():
    patient = Patient(io.StringIO())
    patient.start()
    with pytest.raises(TypeError, match="bytes"):
        patient.write(b"bytes")
    patient.stop()


def test_it_is_a_file_as_far_as_others_ask(tmp_path):
    with open(tmp_path / "log", "w", encoding="ascii") as file:
        patient = Patient(file)
        patient.start()
        assert (patient.fileno(), patient.isatty(), patient.writable()) == (file.fileno(), False, True)
        assert (patient.encoding, patient.errors) == ("ascii", "backslashreplace")
        print("d\u00e9j\u00e0", "\udcff", file=patient)
        patient.stop()
    assert (tmp_path / "log").read_text() == "d\\xe9j\\xe0 \\udcff\n"


def test_a_forked_child_prints_too(tmp_path):
    with open(tmp_path / "log", "w") as file:
        patient = Patient(file)
        patient.start()
        pid = os.fork()
        if pid == 0:
            patient.write("from the child\n")
            os._exit(0)
        os.waitpid(pid, 0)
        patient.stop()
    assert (tmp_path / "log").read_text() == "from the child\n"


def test_stderr_is_what_it_was_afterwards():
    before = sys.stderr
    with patient_stderr():
        assert isinstance(sys.stderr, Patient)
    assert sys.stderr is before


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_are_opened(tmp_path, closed):
    code = (
        "import os, sys; from rocket.stderr import open_standard_descriptors as f; f(); f()\n"
        "print('to nobody'); print('to nobody', file=sys.stderr); sys.stdin.read()\n"
        f"open({str(tmp_path / 'fds')!r}, 'w').write(repr([os.get_inheritable(fd) for fd in range(3)]))"
    )
    given = [sys.executable, "-c", code]
    subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *given], check=True, stdin=subprocess.DEVNULL, timeout=20)
    assert (tmp_path / "fds").read_text() == "[True, True, True]"


def unraisable(exc, function):
    """Return what `sys.unraisablehook` gets when *exc* was raised while *function* called it."""
    try:
        function(exc)
    except type(exc) as raised:
        return types.SimpleNamespace(exc_type=type(raised), exc_traceback=raised.__traceback__.tb_next)


def test_only_names_that_tls_cannot_decode_are_not_reported(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    def do_handshake(exc):
        raise exc

    def other(exc):
        raise exc

    name = UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range(128)")
    with quiet_handshakes():
        sys.unraisablehook(unraisable(name, do_handshake))
        assert told == []
        others = [unraisable(name, other), unraisable(KeyError("x"), do_handshake)]
        for each in others:
            sys.unraisablehook(each)
        sys.unraisablehook(types.SimpleNamespace(exc_type=UnicodeDecodeError, exc_traceback=None))
        assert told[:2] == others
        assert len(told) == 3
    assert sys.unraisablehook == told.append
