"""The histogram, beside a plain sorted list."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocket.bench.histogram import Histogram, class_of, middle_of

durations = st.lists(st.floats(0, 1000, allow_nan=False), min_size=1, max_size=200)


@given(st.integers(0, 1 << 50))
def test_class_is_as_wide_as_it_says(nanoseconds):
    assert abs(middle_of(class_of(nanoseconds)) - nanoseconds) <= nanoseconds / 256


@given(st.integers(0, 1 << 50))
def test_classes_are_in_order_and_without_gaps(nanoseconds):
    assert class_of(nanoseconds + 1) - class_of(nanoseconds) in {0, 1}


@given(durations, st.floats(0, 1))
def test_quantile_is_the_nearest_rank_of_the_sorted_list(seconds, share):
    found = Histogram()
    found.record(seconds)
    exact = sorted(seconds)[max(0, math.ceil(round(share * len(seconds), 6)) - 1)]
    assert found.quantile(share) == pytest.approx(exact, rel=0.005, abs=2e-9)


@given(durations, durations)
def test_sum_is_what_recording_both_gives(first, second):
    one, other, both = Histogram(), Histogram(), Histogram()
    one.record(first)
    other.record(second)
    both.record(first + second)
    assert (one + other).counts == both.counts
    assert len(both) == len(first) + len(second)


@given(durations)
def test_mean_is_near(seconds):
    found = Histogram()
    found.record(seconds)
    assert found.mean() == pytest.approx(sum(seconds) / len(seconds), rel=0.005, abs=2e-9)


def test_nothing_has_no_quantile():
    assert math.isnan(Histogram().quantile(0.5))
    assert math.isnan(Histogram().mean())


def test_clock_that_was_set_back_counts_as_nothing():
    found = Histogram()
    found.record([-1.0])
    assert found.quantile(1) == 0


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=str(share)):
        Histogram({5: 1}).quantile(share)
