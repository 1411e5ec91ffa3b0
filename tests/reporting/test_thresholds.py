"""Thresholds, from histograms of pairs and of mismatched pairs."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.thresholds import describe, meaning, separation, threshold_for

BIN = st.integers(0, 50) | st.sampled_from([0, BINS])
HISTOGRAMS = st.dictionaries(BIN, st.integers(1, 20), min_size=1, max_size=20).map(Counter)


def values_of(counts):
    return list(counts.elements())


@given(pairs=HISTOGRAMS, mismatched=HISTOGRAMS, share=st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.5, 1.0]))
def test_the_threshold_is_the_lowest_that_few_enough_reach(pairs, mismatched, share):
    found = threshold_for(share, pairs, mismatched)
    values = values_of(mismatched)

    def passing(place):
        return sum(value >= place for value in values) / len(values)

    place = round(found.score * BINS)
    if max(values) < BINS:
        assert passing(place) <= share
    assert place == 0 or passing(place - 1) > share
    assert found.pairs_kept == pytest.approx(sum(value >= place for value in values_of(pairs)) / pairs.total()) or (
        place == BINS
    )


@given(pairs=HISTOGRAMS, mismatched=HISTOGRAMS)
def test_the_separation_is_the_share_of_comparisons_won(pairs, mismatched):
    comparisons = [(a > b) + (a == b) / 2 for a in values_of(pairs) for b in values_of(mismatched)]
    assert separation(pairs, mismatched) == pytest.approx(sum(comparisons) / len(comparisons))


def test_without_scores_nothing_is_said():
    assert separation(Counter(), Counter({5: 1})) is None
    assert meaning(Counter({9000: 500}), Counter({5000: 99})) == ""
    assert describe(Counter(), Counter())["thresholds"] == {}


def test_a_sentence_says_what_a_threshold_does():
    pairs, mismatched = Counter({9000: 961, 5000: 39}), Counter({5000: 990, 6119: 10})
    assert meaning(pairs, mismatched) == (
        "a threshold of 0.5001 keeps 96.1 % of your pairs and 1.0 % of mismatched ones"
    )


def test_the_summary_holds_thresholds_and_the_histogram():
    described = describe(Counter({9000: 10}), Counter({5000: 98, 5002: 2}))
    assert described["scores"] == 100 and described["separation"] == 1
    assert described["thresholds"]["1%"] == {"threshold": 0.5003, "pairs_kept": 1, "mismatched_kept": 0}
    assert described["thresholds"]["5%"] == {"threshold": 0.5001, "pairs_kept": 1, "mismatched_kept": 0.02}
    assert described["histogram"] == {"bins": BINS, "first": 5000, "counts": [98, 0, 2]}
