"""Which scores are kept: thresholds are exact, and ties are kept in the order of rows."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longclip_cli.errors import UsageError
from longclip_cli.jobs.criteria import (
    UNITS,
    Choice,
    Range,
    Top,
    empty_counts,
    percent_of,
    range_of,
    score_text,
    top_of,
    units_of,
)
from longclip_cli.jobs.row_scores import FAILED

bounds = st.integers(0, UNITS)
scores_with_ties = st.lists(st.sampled_from([0, 1, 5, 999_999, UNITS]) | bounds | st.just(FAILED), max_size=60)
percents = st.decimals("0.0001", "100", places=4)


def counted(scores):
    counts = empty_counts()
    for score in scores:
        if score != FAILED:
            counts[score] += 1
    return counts


def kept(criterion, scores):
    """Return the places of the rows that are kept."""
    cut = criterion.cut(counted(scores))
    choice = Choice(cut, cut.ties)
    return [place for place, score in enumerate(scores) if choice(score)]


def top_by_sorting(scores, count):
    """Return the places of the `count` rows of the highest scores, the first of equal ones."""
    scored = [place for place, score in enumerate(scores) if score != FAILED]
    return sorted(sorted(scored, key=lambda place: -scores[place])[:count])


@settings(deadline=None)
@given(scores_with_ties, st.integers(1, 70))
def test_the_top_rows_are_the_first_of_a_sort(scores, count):
    assert kept(Top(rows=count), scores) == top_by_sorting(scores, count)


@settings(deadline=None)
@given(scores_with_ties, percents)
def test_the_top_percent_are_of_scored_rows_and_rounded_down(scores, percent):
    scored = sum(score != FAILED for score in scores)
    count = int(Fraction(scored) * Fraction(percent) / 100)
    assert kept(Top(percent=percent), scores) == top_by_sorting(scores, count)


@settings(deadline=None)
@given(scores_with_ties, bounds, bounds)
def test_a_range_has_both_of_its_bounds(scores, one, other):
    least, most = sorted([one, other])
    expected = [place for place, score in enumerate(scores) if least <= score <= most]
    assert kept(range_of(least / UNITS, most / UNITS), scores) == expected


@settings(deadline=None)
@given(st.floats(0, 1), bounds)
def test_bounds_of_more_decimals_than_scores_are_exact(bound, units):
    """The score 0.612345 is below a bound of 0.6123451, although the two are closer than a unit."""
    score = Decimal(units) / UNITS
    is_above = bool(kept(range_of(bound, None), [units]))
    is_below = bool(kept(range_of(None, bound), [units]))
    assert is_above == (score >= Decimal(repr(bound))) and is_below == (score <= Decimal(repr(bound)))


@settings(deadline=None)
@given(bounds)
def test_scores_survive_text(units):
    assert units_of(float(score_text(units))) == units


def test_a_third_of_a_percent_is_no_rounding_error():
    """As floats, 0.29 * 100 is 28.999999999999996."""
    assert len(kept(Top(percent=Decimal("29")), [1] * 100)) == 29


@pytest.mark.parametrize(("text", "top"), [("30%", Top(percent=Decimal(30))), ("30", Top(rows=30))])
def test_the_top_is_a_number_or_percent(text, top):
    assert top_of(text) == top


@pytest.mark.parametrize("text", ["", "0", "-1", "0.3", "1e3", "abc", "0%", "101%", "%", "1%%", "nan%", "-1%"])
def test_any_other_top_is_rejected(text):
    with pytest.raises(UsageError, match="--top"):
        top_of(text)


def test_percent_needs_its_sign():
    with pytest.raises(UsageError, match="--mismatched 1: give percent"):
        percent_of("--mismatched", "1")


@pytest.mark.parametrize(("least", "most"), [(0.7, 0.6), (-0.1, None), (None, 1.1), (float("nan"), None)])
def test_an_empty_range_is_rejected(least, most):
    with pytest.raises(UsageError, match="--m"):
        range_of(least, most)


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (Range(600_000), "score >= 0.6"),
        (Range(0, 612_345), "score <= 0.612345"),
        (Range(1, 2), "0.000001 <= score <= 0.000002"),
        (Range(), "score >= 0"),
        (Range(UNITS, UNITS), "score >= 1"),
    ],
)
def test_a_cut_is_shown_with_the_decimals_it_needs(criterion, text):
    assert str(criterion.range) == text
