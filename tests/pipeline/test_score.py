"""Loaded rows and their scores."""

from longclip_cli.errors import Reason, RowError
from longclip_cli.pipeline.cache import ImageInput, TextInput
from longclip_cli.pipeline.load import LoadedRow, Pair
from longclip_cli.pipeline.score import join
from longclip_cli.rows import Row, RowInputs

ROW = Row(1, RowInputs(("a.png",), ("A cat",)))
PAIR = Pair(ImageInput(None), TextInput(None, is_cut=True))


def test_scores_go_to_the_rows_that_have_no_error():
    failed = RowError(Reason.UNEXPECTED)
    rows = [LoadedRow(ROW, pairs) for pairs in ((PAIR,), failed, (PAIR,))]
    scored = list(join(rows, [0.25, 0.75], [(0.1, 0.2), ()]))
    assert [row.result for row in scored] == [0.25, failed, 0.75]
    assert [row.mismatched for row in scored] == [(0.1, 0.2), (), ()]
