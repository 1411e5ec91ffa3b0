"""Samples of streams."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.reporting.samples import Highest, Reservoir


def sample(size, count, seed=0):
    reservoir = Reservoir(size, Random(seed))
    for number in range(count):
        if reservoir.is_chosen():
            reservoir.put(number)
    return reservoir.items


@given(st.integers(1, 20), st.integers(0, 300), st.integers())
def test_a_sample_has_different_items_of_the_stream(size, count, seed):
    items = sample(size, count, seed)
    assert len(items) == min(size, count) == len(set(items))
    assert all(0 <= item < count for item in items)


def test_each_item_has_the_same_chance():
    counts = Counter(item for seed in range(4000) for item in sample(5, 50, seed))
    assert len(counts) == 50
    assert all(320 < count < 480 for count in counts.values())  # 400 expected; four standard deviations are 76


def test_one_seed_gives_one_sample():
    assert sample(10, 1000, 1) == sample(10, 1000, 1) != sample(10, 1000, 2)


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_the_highest_are_those_of_a_stable_sort(keys, size):
    highest = Highest(size)
    for number, key in enumerate(keys):
        if highest.is_chosen(key):
            highest.put(key, number)
    expected = sorted(range(len(keys)), key=lambda number: -keys[number])
    assert highest.items == expected[:size]
