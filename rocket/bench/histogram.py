"""Durations, counted in classes that are 0.8 % wide: small whatever their number, and two can be added."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Optional

BITS = 7  # of precision: a class is at most 1/128 of its values wide, as in HdrHistogram with two digits
EXACT = 1 << BITS


def class_of(nanoseconds: int) -> int:
    """Return the number of the class that a duration falls into."""
    shift = nanoseconds.bit_length() - BITS - 1
    return nanoseconds if shift <= 0 else (shift << BITS) + (nanoseconds >> shift)


def middle_of(number: int) -> float:
    """Return the middle of a class, in nanoseconds."""
    shift = (number >> BITS) - 1
    if shift <= 0:
        return float(number)
    lowest = (number & (EXACT - 1)) + EXACT << shift
    return lowest + ((1 << shift) - 1) / 2


class Histogram:
    """Count durations, and tell what share of them was below which. Seconds in, seconds out."""

    def __init__(self, counts: Optional[Mapping[int, int]] = None) -> None:
        self.counts = Counter(dict(counts or {}))

    def record(self, seconds: Iterable[float]) -> None:
        """Count each of *seconds*; what is below 0, because a clock was set, counts as 0."""
        self.counts.update(class_of(max(0, int(each * 1e9))) for each in seconds)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.counts + other.counts)

    def quantile(self, share: float) -> float:
        """Return the smallest duration that at least *share* of all do not exceed; nan if there are none.

        By the nearest rank: 0 is the smallest of all, 1 the largest, each within 0.4 %.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a share is between 0 and 1, not {share}")
        wanted = max(1, math.ceil(round(share * len(self), 6)))  # rounded: 0.07 * 100 is above 7
        seen = 0
        for number in sorted(self.counts):
            seen += self.counts[number]
            if seen >= wanted:
                return middle_of(number) / 1e9
        return float("nan")

    def mean(self) -> float:
        """Return the mean; nan if there is nothing to take it of."""
        total = sum(middle_of(number) * count for number, count in self.counts.items())
        return total / len(self) / 1e9 if self.counts else float("nan")
