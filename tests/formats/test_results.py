"""Results as members of a JSON object, and back."""

import pytest

from longclip_cli.formats.results import decode_result


@pytest.mark.parametrize("score", ["7.5", "-0.1", "true", "NaN", "1e999", "null", '"0.5"', "[]", "[7.5]", "[0.5, null]", "1" * 400])
def test_an_impossible_score_is_not_a_result(score):
    assert decode_result(f'{{"clip_score": {score}}}\n'.encode(), "clip_score") is None


@pytest.mark.parametrize("score", ["0", "1", "0.5", "1.0"])
def test_a_score_from_0_to_1_is_a_result(score):
    assert decode_result(f'{{"clip_score": {score}}}\n'.encode(), "clip_score") == float(score)
