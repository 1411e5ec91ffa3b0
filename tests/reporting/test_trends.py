"""Scores against a quantity."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.reporting.trends import MOST_RANGES, Trend


def ranges_of(*values, is_centred=False):
    trend = Trend(is_centred=is_centred)
    for quantity, score in values:
        trend.add(quantity, score)
    return trend.ranges()


def test_without_scores_there_are_no_ranges():
    assert ranges_of() == []


def test_percentiles_are_those_of_the_scores_in_a_range():
    (only,) = ranges_of(*((64, score / 100) for score in range(100)))
    assert (only.low, only.count) == (64, 100)
    assert only.percentiles == (0.0405, 0.2405, 0.4905, 0.7405, 0.9405)


def test_a_range_between_others_may_have_no_scores():
    first, second, third = ranges_of((4, 0.5), (9, 0.5))
    assert (first.count, second.count, third.count) == (1, 0, 1)
    assert second.percentiles == ()


def test_square_images_are_in_the_middle_of_a_range():
    (only,) = ranges_of((1.1, 0.5), (1 / 1.1, 0.5), (1, 0.5), is_centred=True)
    assert only.low < 1 / 1.1 < 1.1 < only.high


@given(st.lists(st.tuples(st.floats(1e-6, 1e9), st.floats(0, 1)), min_size=1), st.booleans())
def test_ranges_are_few_and_hold_all_scores(values, is_centred):
    ranges = ranges_of(*values, is_centred=is_centred)
    assert len(ranges) <= MOST_RANGES
    assert sum(each.count for each in ranges) == len(values)
    assert all(first.high == second.low for first, second in pairwise(ranges))
    lowest, highest = min(quantity for quantity, _ in values), max(quantity for quantity, _ in values)
    assert ranges[0].low <= lowest * 1.000001
    assert highest <= ranges[-1].high * 1.000001


def test_a_length_of_zero_is_left_out():
    assert ranges_of((0, 0.5)) == []
