"""Results as members of a JSON object, and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.results import decode_result, encode_result
from longclip_cli.rows import RowInputs, row_result


@pytest.mark.parametrize(
    "score", ["7.5", "-0.1", "true", "NaN", "1e999", "null", '"0.5"', "[]", "[7.5]", "[0.5, null]", "1" * 400]
)
def test_an_impossible_score_is_not_a_result(score):
    assert decode_result(f'{{"clip_score": {score}}}\n'.encode(), "clip_score") is None


@pytest.mark.parametrize("score", ["0", "1", "0.5", "1.0"])
def test_a_score_from_0_to_1_is_a_result(score):
    assert decode_result(f'{{"clip_score": {score}}}\n'.encode(), "clip_score") == float(score)


def test_a_result_after_a_byte_order_mark_is_read():
    assert decode_result(b'\xef\xbb\xbf{"clip_score": 0.5}\n', "clip_score") == 0.5


def test_a_score_is_rounded_to_six_decimals():
    assert encode_result("clip_score", 0.123456789) == b'{"clip_score": 0.123457}\n'
    assert json.loads(encode_result("clip_score", 1e-6)) == {"clip_score": 1e-6}


SCORES = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
ERRORS = st.builds(RowError, st.sampled_from(Reason), st.sampled_from(["a.png", "[1] b.png"]))
PAIRS = st.lists(SCORES | ERRORS, min_size=1, max_size=4).map(tuple)


@given(PAIRS, st.sampled_from([None, "none", "mean", "min", "max"]))
def test_a_result_that_was_written_is_read_again(scores, reduce):
    result = row_result(scores, RowInputs(("a.png",), ("A cat",) * len(scores), reduce))
    line = encode_result("clip_score", result)
    found = decode_result(line, "clip_score")
    assert found is not None
    assert encode_result("clip_score", found) == line
