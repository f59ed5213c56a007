"""Medians, spread, and whether two servers can be told apart. Values in, values out.

Two are told apart by the rank test of Mann and Whitney (On a Test of Whether one of Two Random Variables is
Stochastically Larger than the Other, Annals of Mathematical Statistics 18, 1947), two-sided, exact, at 5 %. It asks for
no distribution, and a round that something disturbed does no more harm than any other. It needs four rounds each: of
three and three no order is rarer than 10 %. What it finds must also be worth the word: medians that are nearer than
`TOO_NEAR` are not told apart, however steady. The place of code and data in memory alone moves figures that far from
one start to the next (Mytkowicz et al., Producing Wrong Data Without Doing Anything Obviously Wrong!, ASPLOS 2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

SIGNIFICANT = 0.05
TOO_NEAR = 0.03  # of the smaller median
NOISY = 0.10  # a spread above this is worth a warning
ROUNDS_NEEDED = 4  # fewer cannot tell anything apart
_EXACT = 20  # rounds; above that the normal approximation is good to the third digit


@dataclass(frozen=True)
class Summary:
    """What rounds of the same measurement say."""

    median: float
    lowest: float
    highest: float
    rounds: int

    @property
    def spread(self) -> float:
        """Lowest to highest, as a share of the median; 0 with one round."""
        return (self.highest - self.lowest) / abs(self.median) if self.median else 0.0


def summary(values: Iterable[float]) -> Summary:
    """Return the summary of *values*, without nan; one of nan if there are none."""
    kept = [each for each in values if not math.isnan(each)]
    if not kept:
        return Summary(math.nan, math.nan, math.nan, 0)
    return Summary(median(kept), min(kept), max(kept), len(kept))


def chance(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how likely an order as one-sided as that of *first* and *second* is if there is no difference.

    The two-sided p of Mann and Whitney's test. Equal values count half; with them, or above 20 rounds, the normal
    approximation with correction for ties and continuity is used, else the exact distribution.
    """
    m, n = len(first), len(second)
    if not m or not n:
        return 1.0
    above = sum((x > y) + (x == y) / 2 for x in first for y in second)
    extreme = max(above, m * n - above)
    ties = [count for count in _counts([*first, *second]) if count > 1]
    if not ties and max(m, n) <= _EXACT:
        ways = [_ways(m, n, u) for u in range(int(extreme), m * n + 1)]
        return min(1.0, 2 * sum(ways) / math.comb(m + n, m))
    total = m + n
    correction = sum(count**3 - count for count in ties) / (total * (total - 1))
    variance = m * n / 12 * (total + 1 - correction)
    if variance <= 0:
        return 1.0
    distance = max(0.0, extreme - m * n / 2 - 0.5) / math.sqrt(variance)
    return math.erfc(distance / math.sqrt(2))


def _counts(values: Iterable[float]) -> list[int]:
    counts: dict[float, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return list(counts.values())


@cache
def _ways(m: int, n: int, u: int) -> int:
    """Return how many orders of *m* and *n* values have *u* pairs in which the first's is above the second's."""
    if u < 0 or u > m * n:
        return 0
    if not m or not n:
        return 1
    # The largest of all is one of the first's (above all n of the second's), or one of the second's.
    return _ways(m - 1, n, u - n) + _ways(m, n - 1, u)


def told_apart(first: Sequence[float], second: Sequence[float]) -> int:
    """Return 1 if *first* is higher, -1 if *second* is, 0 if one cannot tell."""
    one, other = summary(first), summary(second)
    if not one.rounds or not other.rounds:
        return 0
    if abs(one.median - other.median) < TOO_NEAR * min(abs(one.median), abs(other.median)):
        return 0
    if chance(first, second) >= SIGNIFICANT:
        return 0
    return 1 if one.median > other.median else -1


def order(rounds: Mapping[str, Sequence[float]]) -> str:
    """Return the names from the highest median to the lowest: `epoll > poll`, or `epoll ~ poll` if one cannot tell.

    Each sign is about the two names beside it.
    """
    names = sorted(rounds, key=lambda name: -summary(rounds[name]).median if rounds[name] else math.inf)
    text = names[:1]
    for better, worse in zip(names, names[1:]):
        text += [">" if told_apart(rounds[better], rounds[worse]) else "~", worse]
    return " ".join(text)


def noise(measured: Iterable[Sequence[float]]) -> float:
    """Return the median spread of measurements, each with its rounds; 0 if none has two."""
    spreads = [summary(values).spread for values in measured if len(values) > 1]
    return median(spreads) if spreads else 0.0
