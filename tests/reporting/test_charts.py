"""Shapes of charts."""

import re

from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.reporting.charts import HEIGHT, MOST_STEPS, WIDTH, axis_over, curves, trend_axis, trend_columns
from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.trends import Range

HISTOGRAMS = st.dictionaries(st.integers(0, BINS), st.integers(1, 10**9), min_size=1)


def test_ticks_are_round_scores():
    assert axis_over([5123, 7010]).ticks == ["0.50", "0.55", "0.60", "0.65", "0.70", "0.75"]
    assert axis_over([5000]).ticks == ["0.5000", "0.5001"]
    assert axis_over([]).ticks == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


@given(HISTOGRAMS, HISTOGRAMS)
def test_all_scores_are_on_the_axis(pairs, mismatched):
    axis = axis_over([*pairs, *mismatched])
    assert 2 <= len(axis.ticks) <= MOST_STEPS + 1
    assert all(0 <= axis.along(place, WIDTH) <= WIDTH for place in (*pairs, *mismatched))


@given(HISTOGRAMS)
def test_a_curve_stays_in_its_chart_and_has_the_highest_column(pairs):
    (curve,) = curves(axis_over(list(pairs)), pairs)
    tops = [float(top) for top in re.findall(r"V([\d.]+)", curve.path)]
    assert min(tops) == 10
    assert max(tops) == HEIGHT
    assert all(0 <= float(x) <= WIDTH for x in re.findall(r"H([\d.]+)", curve.path))


def test_columns_stand_side_by_side_and_higher_scores_are_higher():
    ranges = [Range(1, 2, 9, (0.1, 0.2, 0.3, 0.4, 0.5)), Range(2, 4, 0, ())]
    first, second = trend_columns(trend_axis(ranges), ranges)
    assert first.left + first.width == second.left
    assert list(first.tops) == sorted(first.tops, reverse=True)
    assert second.tops == ()


def test_a_column_of_equal_scores_is_cut_so_that_others_are_seen():
    pairs = dict.fromkeys(range(0, 9900, 100), 10) | {9950: 100_000}
    (curve,) = curves(axis_over(list(pairs)), pairs)
    assert curve.is_cut
    assert f"V{HEIGHT - (HEIGHT - 10) / 2:.1f}H" in curve.path
    assert not curves(axis_over([1000, 9000]), {1000: 1, 9000: 9})[0].is_cut
