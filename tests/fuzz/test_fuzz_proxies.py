"""The fuzz target for a moment, so that it stays in order."""

from fuzz_proxies import TARGETS
from fuzz_random import random_mode


def test_some_mutations_show_no_fault():
    assert random_mode(TARGETS, seconds=1.0, seed=1) > 0
