"""What a report tells of rows, from one pass over them."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from helpers import IMAGES, encoded_image
from PIL import Image

from longclip_cli.errors import Reason, RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.reporting.examples import MOST_CHARACTERS, MOST_IMAGE_BYTES, Origin
from longclip_cli.reporting.galleries import around, galleries, spread
from longclip_cli.reporting.report_rows import EXAMPLES_PER_REASON, GALLERY, MOST_REASONS, OTHER_REASONS, ReportRows
from longclip_cli.rows import EncodedImage, Row, RowInputs

ORIGIN = Origin("scored.jsonl", ScoringOptions(image_root=IMAGES))


def row(number, text="A cat", image="rgb.png"):
    return Row(number, RowInputs((image,), (text,)))


def rows_of(scores):
    rows = ReportRows()
    for number, score in enumerate(scores, 1):
        rows.add(ORIGIN, row(number, f"text {number}"), score)
    return rows


SCORES = [round(random.gauss(0.6, 0.05), 6) for random in [Random(1)] for _ in range(3000)]


def test_the_best_and_the_worst_are_those_of_a_sort():
    rows = rows_of(SCORES)
    assert [each.score for each in rows.best.items] == sorted(SCORES, reverse=True)[:GALLERY]
    assert [each.score for each in rows.worst.items] == sorted(SCORES)[:GALLERY]
    for example in rows.examples:
        assert SCORES[example.number - 1] == example.score
        assert example.captions[0].text == f"text {example.number}"


@pytest.mark.parametrize("threshold", [0.4999, 0.6, 0.6123, 0.7])
def test_counts_from_a_threshold_on_are_exact(threshold):
    places = rows_of([*SCORES, 0.0, 1.0, 0.6123, 0.612299]).places
    expected = sum(score >= threshold for score in [*SCORES, 0.0, 1.0, 0.6123, 0.612299])
    assert sum(count for place, count in places.items() if place >= round(threshold * 10_000)) == expected


def test_the_same_rows_give_the_same_examples():
    assert rows_of(SCORES).examples == rows_of(SCORES).examples
    assert rows_of(SCORES).sample.items == rows_of(SCORES).sample.items


def test_examples_around_a_threshold_are_near_it_on_both_sides():
    found = [each.score for each in around(rows_of(SCORES).examples, 0.6)]
    assert found == sorted(found, reverse=True)
    assert sum(score >= 0.6 for score in found) == sum(score < 0.6 for score in found) == GALLERY // 2
    assert all(abs(score - 0.6) < 0.01 for score in found)


def test_examples_over_the_range_are_at_equal_distances():
    found = [each.score for each in spread(rows_of(SCORES).examples, 5)]
    low, high = min(SCORES), max(SCORES)
    assert found == pytest.approx([high - step * (high - low) / 4 for step in range(5)], abs=0.02)
    assert spread([], 5) == []


def test_few_rows_are_shown_once_in_a_gallery():
    for gallery in galleries(rows_of([0.5, 0.6]), 5500, 100):
        assert sorted(card.example.number for card in gallery.cards) == [1, 2]


def test_failures_are_counted_by_reason_with_some_examples():
    rows = ReportRows()
    for number in range(10):
        rows.add(ORIGIN, row(number), RowError(Reason.NO_SUCH_FILE, f"{number}.png"))
    (label,) = rows.failures
    assert rows.failed_scores == {Reason.NO_SUCH_FILE.value: 10}
    assert len(rows.failures[label].items) == EXAMPLES_PER_REASON
    assert rows.counts.failed == 10


def test_made_up_reasons_and_long_messages_do_not_fill_memory():
    rows = ReportRows()
    for number in range(MOST_REASONS + 50):
        message = f"{Reason.NO_TEXT_FIELD} '{number}' {'x' * 10_000}"
        rows.add(ORIGIN, row(number), RowError.from_message(message))
    assert rows.failed_scores[OTHER_REASONS] == 50
    assert len(rows.failures) == MOST_REASONS + 1
    assert all(len(label) < 400 for label in rows.failures)
    assert all(len(each.error) < 400 for kept in rows.failures.values() for each in kept.items)


def test_each_score_of_a_list_has_its_own_text():
    rows = ReportRows()
    listed = Row(1, RowInputs(("rgb.png",), ("one", "two", "three"), "none"))
    rows.add(ORIGIN, listed, (0.5, RowError(Reason.BLANK_TEXT), 0.7))
    assert [(each.element, each.captions[0].text) for each in rows.examples] == [(0, "one"), (2, "three")]
    assert rows.has_lists
    assert rows.places == Counter({5000: 1, 7000: 1})


def test_a_reduced_score_has_all_texts():
    rows = ReportRows()
    rows.add(ORIGIN, Row(1, RowInputs(("rgb.png",), ("one", "two"), "mean")), 0.5)
    (example,) = rows.examples
    assert [caption.text for caption in example.captions] == ["one", "two"]


def test_a_row_whose_fields_cannot_be_read_is_counted():
    rows = ReportRows()
    rows.add(ORIGIN, Row(1, RowError.missing_field(Reason.NO_TEXT_FIELD, "text")), 0.5)
    rows.add(ORIGIN, row(2), None)
    assert (rows.counts.scores, rows.rows_without_result) == (1, 1)
    assert rows.examples[0].captions == ()


def test_large_images_and_texts_are_not_held():
    noise = Image.frombytes("RGB", (300, 300), Random(0).randbytes(300 * 300 * 3))
    image = EncodedImage(encoded_image(noise, "BMP"), "noise.bmp")
    assert len(image.content) > MOST_IMAGE_BYTES
    rows = ReportRows()
    rows.add(ORIGIN, row(1, "x" * 1_000_000, image), 0.5)
    (example,) = rows.examples
    assert len(example.image.content) < MOST_IMAGE_BYTES
    assert len(example.captions[0].text) == MOST_CHARACTERS
    assert example.captions[0].dropped == 1_000_000 - MOST_CHARACTERS
    (sampled,) = rows.sample.items
    assert sampled.image is None
    assert sampled.size == (300, 300)


def test_an_origin_is_kept_with_each_example():
    rows = ReportRows()
    rows.add(replace(ORIGIN, file="a"), row(1), 0.5)
    rows.add(replace(ORIGIN, file="b"), row(1), 0.5)
    assert [each.origin.file for each in rows.examples] == ["a", "b"]
