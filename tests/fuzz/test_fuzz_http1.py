"""The fuzz target on its corpus, and for a moment at random, so that it stays in order."""

from fuzz_http1 import TARGETS
from fuzz_random import random_mode


def test_the_corpus_and_some_mutations_of_it_show_no_fault():
    assert random_mode(TARGETS, seconds=1.0, seed=1) > 0
