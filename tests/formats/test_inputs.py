"""Fields to what is scored: lists, several keys, what is stripped."""

import pytest

from longclip_cli.errors import Reason, RowError, UsageError
from longclip_cli.formats.inputs import InputFields
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import EncodedImage, error_of, row_result


def find(fields, **options):
    return InputFields(ScoringOptions(image_key="image", **options)).find(fields)


def test_a_path_and_a_text_are_one_pair():
    inputs = find({"image": "a.png", "text": "A cat"})
    assert inputs.pairs == [("a.png", "A cat")]
    assert inputs.reduce is None


def test_a_list_of_one_image_is_that_image():
    inputs = find({"image": ["a.png"], "text": "A cat"})
    assert inputs.pairs == [("a.png", "A cat")] and inputs.reduce is None


@pytest.mark.parametrize("texts", [["A cat"], ["A cat", "A dog"]])
def test_a_list_of_texts_gives_a_list_of_scores(texts):
    inputs = find({"image": "a.png", "text": texts})
    assert inputs.pairs == [("a.png", text) for text in texts]
    assert inputs.reduce == "none"


def test_several_images_make_a_pair_with_the_text_each():
    assert find({"image": ["a.png", "b.png"], "text": "A cat"}).pairs == [("a.png", "A cat"), ("b.png", "A cat")]
    assert find({"image": ["a.png", "b.png"], "text": ["A cat"]}).pairs == [("a.png", "A cat"), ("b.png", "A cat")]


def test_several_keys_give_their_texts_one_after_another():
    inputs = find({"image": "a.png", "long": ["A", "B"], "short": "C"}, text_key=("long", "short"))
    assert inputs.pairs == [("a.png", "A"), ("a.png", "B"), ("a.png", "C")]


def test_all_elements_of_a_path_are_a_list():
    fields = {"image": "a.png", "turns": [{"value": "A"}]}
    assert find(fields, text_key=(".turns[].value",)).reduce == "none"
    assert find(fields, text_key=(".turns[0].value",)).reduce is None


def test_a_plain_name_keeps_its_dots():
    fields = {"image": "a.png", "meta.text": "right", "meta": {"text": "wrong"}}
    assert find(fields, text_key=("meta.text",)).texts == ("right",)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": [], "text": "A"}, Reason.NO_IMAGES),
        ({"image": "a.png", "text": []}, Reason.NO_TEXTS),
        ({"image": ["a.png", "b.png"], "text": ["A", "B"]}, Reason.SEVERAL_OF_BOTH),
        ({"image": "a.png", "text": ["A"] * 4097}, Reason.TOO_MANY_ELEMENTS),
        ({"text": "A"}, Reason.NO_IMAGE_FIELD),
        ({"image": "a.png"}, Reason.NO_TEXT_FIELD),
        ({"image": None, "text": "A"}, Reason.NOT_A_PATH),
        ({"image": [["a.png"]], "text": "A"}, Reason.NOT_A_PATH),
        ({"image": "a.png", "text": {"en": "A"}}, Reason.NOT_A_STRING),
    ],
)
def test_what_cannot_be_scored_is_the_rows_error(fields, reason):
    error = find(fields)
    assert isinstance(error, RowError) and error.reason is reason


def test_an_element_that_cannot_be_scored_is_its_own_error():
    inputs = find({"image": "a.png", "text": ["A", " ", 3]})
    whole, blank, number = inputs.texts
    assert whole == "A"
    assert str(blank) == "text: blank: 'text[1]'" and str(number) == "text: not a string: 'text[2]' is a number"
    first, second = find({"image": ["a.png", 7], "text": "A"}).images
    assert first == "a.png" and second.reason is Reason.NOT_A_PATH


def test_what_is_stripped_is_no_part_of_a_text():
    text = "<image>\n<__dj__image> A cat <|__dj__eoc|>"
    options = dict(strip=("<image>", "<__dj__image>", "<|__dj__eoc|>"))
    assert find({"image": "a.png", "text": text}, **options).texts[0].split() == ["A", "cat"]
    assert find({"image": "a.png", "text": "<image>\n"}, **options).reason is Reason.BLANK_TEXT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"bytes": b"png", "path": "a.png"}, EncodedImage(b"png", "a.png")),
        ({"bytes": b"png", "path": None}, EncodedImage(b"png", "image")),
        ({"bytes": None, "path": "a.png"}, "a.png"),
        ({"path": "a.png"}, "a.png"),
        (b"png", EncodedImage(b"png", "image")),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
    ],
)
def test_an_image_may_be_a_path_bytes_or_both(value, expected):
    assert find({"image": value, "text": "A"}).images == (expected,)
    assert find({"image": [value], "text": "A"}).images[0] in (expected, EncodedImage(b"png", "image"))


@pytest.mark.parametrize("key", [".clip_score", ".clip_score.a", ".clip_score_error[0]"])
def test_a_path_into_the_field_that_is_written_is_refused(key):
    with pytest.raises(UsageError, match=r"--output-key clip_score would overwrite what"):
        InputFields(ScoringOptions(text_key=("text", key)))


FAILED = RowError(Reason.BLANK_TEXT, "'text[1]'")


@pytest.mark.parametrize(("reduce", "result"), [("none", (0.2, 0.7, 0.6)), ("mean", 0.5), ("min", 0.2), ("max", 0.7)])
def test_scores_of_a_list_are_kept_or_reduced(reduce, result):
    inputs = find({"image": "a.png", "text": ["A", "B", "C"]}, reduce=reduce)
    assert row_result((0.2, 0.7, 0.6), inputs) == pytest.approx(result)


@pytest.mark.parametrize("reduce", ["mean", "min", "max"])
def test_a_reduced_score_of_a_row_with_an_error_is_that_error(reduce):
    inputs = find({"image": "a.png", "text": ["A", " "]}, reduce=reduce)
    result = row_result((0.2, FAILED), inputs)
    assert isinstance(result, RowError) and str(result) == "[1] text: blank: 'text[1]'"


def test_reducing_leaves_a_single_score_as_it_is():
    assert row_result((0.25,), find({"image": "a.png", "text": "A"}, reduce="mean")) == 0.25


def test_the_error_of_a_list_names_all_elements_that_failed():
    assert str(error_of((FAILED, 0.5, FAILED))) == "[0] text: blank: 'text[1]'; [2] text: blank: 'text[1]'"
    assert error_of((0.5, 0.6)) is None
