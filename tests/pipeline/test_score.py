"""Loaded rows and their scores."""

import math

import pytest
from helpers import RECORD

from longclip_cli.errors import RowError
from longclip_cli.pipeline.cache import ImageInput, TextInput
from longclip_cli.pipeline.load import LoadedRow, Pair
from longclip_cli.pipeline.score import join

PAIR = Pair(ImageInput(None), TextInput(None, is_cut=True))


def test_scores_go_to_the_rows_that_have_no_error():
    failed = RowError("test")
    rows = [LoadedRow(RECORD, pair) for pair in (PAIR, failed, PAIR)]
    assert [row.result for row in join(rows, [0.25, 0.75])] == [0.25, failed, 0.75]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_an_error_and_no_score(score):
    (row,) = join([LoadedRow(RECORD, PAIR)], [score])
    assert isinstance(row.result, RowError)
    assert str(row.result).startswith("score: the network gave no number; try --precision fp32")
