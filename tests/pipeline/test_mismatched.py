"""Mismatched pairs: images beside texts of other rows."""

import pytest
import torch
from torch.nn import functional as F

from longclip_cli.pipeline.cache import ImageInput, TextInput
from longclip_cli.pipeline.load import Pair
from longclip_cli.pipeline.mismatched import DRAWN, RECENT, MismatchedPairs


def encoded(kind, seed):
    features = torch.randn(8, generator=torch.Generator().manual_seed(seed))
    return kind(None, F.normalize(features, dim=0))


def pairs_of(count, *, captions=1):
    """Return encoded pairs: each image with a few captions, one pair after another."""
    return [
        Pair(image, encoded(TextInput, 1000 + captions * i + j))
        for i in range(count)
        for image in [encoded(ImageInput, i)]
        for j in range(captions)
    ]


def test_each_image_is_scored_beside_a_few_texts_of_others():
    pairs = pairs_of(40)
    scores = MismatchedPairs().draw(pairs).wait()
    assert len(scores) == 40 and all(len(drawn) == DRAWN for drawn in scores)
    for pair, drawn in zip(pairs, scores, strict=True):
        possible = [(float(pair.image.features @ other.text.features) + 1) / 2 for other in pairs if other is not pair]
        for score in drawn:
            assert score in [pytest.approx(each, abs=1e-6) for each in possible]


def test_an_image_is_never_beside_a_text_of_its_own():
    pairs = pairs_of(3, captions=5)
    own = {}
    for pair in pairs:
        own.setdefault(id(pair.image), set()).add(id(pair.text))
    sample = MismatchedPairs()
    sample._remember(pairs)
    for _ in range(200):
        for place, other in sample._draw(pairs):
            assert other.image is not pairs[place].image
            assert id(other.text) not in own[id(pairs[place].image)]


def test_rows_that_share_a_text_are_not_mismatched():
    text = encoded(TextInput, 1)
    pairs = [Pair(encoded(ImageInput, i), text) for i in range(10)]
    assert MismatchedPairs().draw(pairs).wait() == [()] * 10


def test_an_image_with_many_captions_is_drawn_for_once():
    scores = MismatchedPairs().draw(pairs_of(10, captions=5)).wait()
    assert sum(map(bool, scores)) == 10
    assert all(scores[5 * i] for i in range(10))


def test_a_single_image_has_no_mismatched_pair():
    assert MismatchedPairs().draw(pairs_of(1, captions=3)).wait() == [()] * 3
    assert MismatchedPairs().draw([]).wait() == []


def test_texts_of_earlier_chunks_are_drawn():
    sample = MismatchedPairs()
    sample.draw(pairs_of(50))
    (scores,) = sample.draw([Pair(encoded(ImageInput, 5000), encoded(TextInput, 5001))]).wait()
    assert len(scores) == DRAWN


def test_the_sample_is_bounded_and_the_same_each_time():
    pairs = pairs_of(RECENT + 200)
    samples = [MismatchedPairs(), MismatchedPairs()]
    drawn = [[sample.draw(pairs[i : i + 50]).wait() for i in range(0, len(pairs), 50)] for sample in samples]
    assert drawn[0] == drawn[1]
    assert len(samples[0]._recent) == RECENT


def test_a_number_that_is_none_is_left_out():
    pairs = pairs_of(4)
    for pair in pairs:
        pair.text.features.fill_(float("nan"))
    assert MismatchedPairs().draw(pairs).wait() == [()] * 4
