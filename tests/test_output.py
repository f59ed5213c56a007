"""What a peer has not taken yet: its order, its limits, and that files are given back."""

import os
import resource
import tempfile
from contextlib import contextmanager

import pytest
from core_helpers import Miser, count_descriptors, fill_file
from hypothesis import given, settings
from hypothesis import strategies as st

from rocket.output import FLUSH_BYTES, Output


@settings(deadline=None)
@given(
    blocks=st.lists(st.one_of(st.binary(min_size=1, max_size=60), st.integers(1, 60)), max_size=12),
    appetite=st.lists(st.one_of(st.none(), st.integers(1, 30)), max_size=60),
)
def test_files_and_bytes_go_in_order(blocks, appetite):
    content = bytes(range(256))
    done = []
    output = Output(memory=30, spool=100, secure=True)
    sock = Miser(appetite)
    with tempfile.TemporaryFile() as file:
        fill_file(file, content)
        for block in blocks:
            if isinstance(block, int):
                output.add_file(file.fileno(), block, block, lambda: done.append(1))
            else:
                output.add(block)
        while not output.flush(sock):
            pass
    assert sock.taken == b"".join(content[b : 2 * b] if isinstance(b, int) else b for b in blocks)
    assert len(done) == sum(isinstance(block, int) for block in blocks)
    assert output.size == 0


def test_output_spools_past_its_memory():
    output = Output(memory=10, spool=100, secure=True)
    output.add(b"x" * 10)
    assert not output.full
    output.add(b"y" * 10)
    assert output._held == 10
    assert not output.full
    output.add(b"z" * 90)
    assert output.full
    sock = Miser()
    assert output.flush(sock)
    assert sock.taken == b"x" * 10 + b"y" * 10 + b"z" * 90
    assert not output.full


def test_spool_files_are_given_back():
    before = count_descriptors()
    output = Output(memory=1, spool=50, secure=True)
    output.add(b"some more")
    for _ in range(200):
        output.add(b"0123456789")
        output.flush(Miser([10, None]))
    assert count_descriptors() - before <= 2
    output.close()
    assert count_descriptors() == before


def test_spool_does_not_grow_for_ever():
    # A reader who is always a byte behind: what was sent is given back with a file at the latest.
    output = Output(memory=1, spool=1000, secure=True)
    sock = Miser()
    for _ in range(100):
        output.add(b"x" * 100)
        sock.appetite = iter([99, None])
        output.flush(sock)
        assert sum(os.fstat(part.fd).st_size for part in output._parts if hasattr(part, "fd")) <= 2 * 1100
    output.close()


def test_without_a_descriptor_for_the_spool_bytes_stay_in_memory(scarce_descriptors):
    output = Output(memory=1, spool=1000, secure=True)
    with scarce_descriptors():
        output.add(b"one")
        output.add(b"two")
    assert output.full
    output.add(b"three")
    sock = Miser([2, None, 1, None])
    while not output.flush(sock):
        pass
    assert sock.taken == b"onetwothree"


@pytest.fixture
def scarce_descriptors():
    @contextmanager
    def scarce():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return scarce


def test_full_disk_keeps_the_order():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    output = Output(memory=1, spool=1000, secure=True)
    output.add(b"1")
    output.add(b"22")
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))  # EFBIG instead of ENOSPC
    try:
        output.add(b"333")
        output.add(b"4444")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert output.full
    assert output.size == 10
    sock = Miser([1, 1, None, 1, 2, None])
    while not output.flush(sock):
        pass
    assert sock.taken == b"1223334444"
    assert output.size == 0


def test_peer_that_takes_as_fast_as_we_send_holds_no_turn():
    output = Output(memory=1 << 30, secure=True)
    for _ in range(10):
        output.add(b"x" * FLUSH_BYTES)
    sock = Miser()
    assert not output.flush(sock)
    assert len(sock.taken) == FLUSH_BYTES


def test_small_pieces_are_kept_together():
    output = Output(memory=1 << 20, spool=0)
    for _ in range(100_000):
        output.add(b"x")
    assert len(output._parts) == 2
    assert output.size == 100_000
