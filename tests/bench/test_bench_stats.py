"""The rank test beside all orders that there are, and what is said of two."""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocket.bench.stats import chance, noise, order, summary, told_apart


def _brute_force(first, second):
    """Mann and Whitney's p, by going through all the ways to deal the ranks."""
    values = sorted([*first, *second])
    m, n = len(first), len(second)

    def distance(chosen):
        own = [values[i] for i in chosen]
        rest = [values[i] for i in range(m + n) if i not in chosen]
        return abs(sum((x > y) for x in own for y in rest) - m * n / 2)

    found = abs(sum(x > y for x in first for y in second) - m * n / 2)
    deals = list(combinations(range(m + n), m))
    return sum(distance(set(deal)) >= found for deal in deals) / len(deals)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=9, unique=True), st.data())
def test_chance_is_the_share_of_all_orders_that_are_as_one_sided(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    first, second = values[:cut], values[cut:]
    assert chance(first, second) == pytest.approx(_brute_force(first, second))


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=8), st.lists(st.floats(1, 1e6), min_size=1, max_size=8))
def test_chance_does_not_depend_on_who_is_first(first, second):
    assert chance(first, second) == pytest.approx(chance(second, first))
    assert 0 < chance(first, second) <= 1


def test_many_rounds_come_near_the_exact_figure():
    first, second = [2.0 * i for i in range(21)], [2.0 * i + 9 for i in range(21)]
    exact = chance(first[:20], second[:20])
    assert chance(first, second) == pytest.approx(exact, abs=0.03)


def test_equal_rounds_are_no_difference():
    assert chance([5.0] * 6, [5.0] * 6) == 1
    assert chance([], [1.0]) == 1


def test_three_rounds_tell_nothing_and_four_do():
    assert told_apart([1, 2, 3], [101, 102, 103]) == 0
    assert told_apart([1, 2, 3, 4], [101, 102, 103, 104]) == -1
    assert told_apart([101, 102, 103, 104], [1, 2, 3, 4]) == 1


def test_what_is_nearer_than_three_percent_is_not_told_apart_however_steady():
    assert told_apart([100.0, 100.1, 100.2, 100.3, 100.4], [102.0, 102.1, 102.2, 102.3, 102.4]) == 0
    assert told_apart([100.0, 100.1, 100.2, 100.3, 100.4], [104.0, 104.1, 104.2, 104.3, 104.4]) == -1


def test_noise_hides_a_difference():
    assert told_apart([80, 100, 120, 90, 110], [95, 115, 85, 125, 105]) == 0


def test_what_was_not_measured_is_not_told_apart():
    assert told_apart([], [1, 2, 3, 4]) == 0
    assert told_apart([math.nan] * 5, [1, 2, 3, 4, 5]) == 0


def test_order_has_a_sign_between_each_two():
    rounds = {"slow": [1, 2, 3, 4, 5], "quick": [100, 101, 102, 103, 104], "also": [99, 100.5, 101.5, 103.5, 105]}
    assert order(rounds) == "quick ~ also > slow"
    assert order({"alone": [1]}) == "alone"


def test_summary_leaves_out_what_is_not_known():
    found = summary([3.0, math.nan, 1.0, 2.0])
    assert (found.median, found.lowest, found.highest, found.rounds) == (2.0, 1.0, 3.0, 3)
    assert found.spread == 1.0
    assert summary([math.nan]).rounds == 0
    assert summary([0.0]).spread == 0


def test_noise_is_the_median_spread():
    assert noise([[90, 100, 110], [100], [99, 100, 101], [80, 100, 120]]) == pytest.approx(0.2)
    assert noise([[1.0]]) == 0
