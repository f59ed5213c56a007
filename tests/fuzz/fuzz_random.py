"""Random mutations of good inputs, for as long as you like: what the fuzz targets do without a guide."""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "http1"))

from http1_reader import INTERESTING


def mutate(data, others, rng):
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at:at] = rng.choice(INTERESTING)
        elif kind == 1:
            del data[at : at + rng.randint(1, 8)]
        elif kind == 2:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 3:
            other = rng.choice(others)
            data[at:] = other[rng.randint(0, len(other)) :]
        else:
            end = rng.randint(at, min(len(data), at + 30))
            data[end:end] = data[at:end]
    return bytes(data[:2000])


def random_mode(targets, seconds, seed):
    """Give each check in *targets*, pairs of inputs and check, its inputs, and in turn mutations of them.

    Return how many that were. What a check raises is raised, after the input was printed.
    """
    for inputs, check in targets:
        for data in inputs:
            check(data)
    rng = random.Random(seed)
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        inputs, check = targets[count % len(targets)]
        data = mutate(rng.choice(inputs), inputs, rng)
        try:
            check(data)
        except BaseException:
            print(f"seed {seed}, input {count}: {data!r}", file=sys.stderr)
            raise
        count += 1
    return sum(len(inputs) for inputs, _ in targets) + count


def main(targets, about):
    """Be the command line of *targets*; *about* is for its --help."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"{random_mode(targets, options.seconds, options.seed)} inputs, no fault (seed {options.seed})")
