"""Scores of rows in a temporary file."""

from hypothesis import given, settings
from hypothesis import strategies as st

from longclip_cli.jobs import row_scores
from longclip_cli.jobs.row_scores import FAILED, RowScores


@settings(deadline=None)
@given(st.lists(st.sampled_from([FAILED, 0, 1, 1_000_000]), max_size=30), st.data(), st.integers(1, 7))
def test_scores_are_read_as_they_were_added(scores, data, block_rows):
    start = data.draw(st.integers(0, len(scores)))
    end = data.draw(st.integers(start, len(scores)))
    was, row_scores.BLOCK_ROWS = row_scores.BLOCK_ROWS, block_rows
    try:
        with RowScores() as kept:
            for score in scores[:end]:
                kept.add(score)
            assert list(kept.between(start, end)) == scores[start:end]
            for score in scores[end:]:
                kept.add(score)
            assert list(kept.between(start, len(scores))) == scores[start:]
            assert (kept.rows, kept.failed) == (len(scores), scores.count(FAILED))
            assert kept.counts[1] == scores.count(1)
    finally:
        row_scores.BLOCK_ROWS = was
