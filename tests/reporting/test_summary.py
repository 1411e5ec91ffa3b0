"""What a run's summary says."""

import json

import pytest
from helpers import jsonl_row
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import OutputError, Reason, RowError
from longclip_cli.reporting.summary import Summary
from longclip_cli.rows import ScoredRow


def row(result, texts_cut=0):
    return ScoredRow(jsonl_row(), result, texts_cut)


def summary_of(*results):
    summary = Summary()
    summary.add(row(result) for result in results)
    return summary


def test_rows_are_counted_by_their_outcome():
    summary = Summary()
    missing = [row(RowError(Reason.NO_SUCH_FILE, name)) for name in ("1", "2")]
    summary.add([row(0.25, texts_cut=1), *missing])
    summary.add([row(0.75), row(RowError(Reason.BLANK_TEXT))])
    values = summary.as_dict()
    assert (values["rows"], values["scored"], values["failed"], values["texts_cut"]) == (5, 2, 3, 1)
    assert values["failed_by_reason"] == {"image: no such file": 2, "text: blank": 1}
    assert values["mean"] == 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_percentiles_are_right_to_a_ten_thousandth(scores):
    ordered = sorted(scores)
    for name, value in summary_of(*scores).percentiles().items():
        rank = max(1, -(-len(scores) * int(name[1:]) // 100))  # rounded up
        assert value == pytest.approx(ordered[rank - 1], abs=0.5051e-4)


def test_a_run_without_scores_has_no_percentiles():
    values = summary_of(RowError(Reason.UNEXPECTED)).as_dict()
    assert "mean" not in values
    assert "p50" not in values


def test_failures_alike_count_only_from_the_first_row():
    a, b = RowError(Reason.NO_SUCH_FILE), RowError(Reason.BLANK_TEXT)
    assert summary_of(a, a, a).alike_from_start == 3
    assert summary_of(a, a, b, a).alike_from_start == 2
    assert summary_of(0.5, a, a).alike_from_start == 0


def test_a_summary_is_written_as_json(tmp_path):
    summary_of(0.5).write(tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text())["p50"] == 0.5
    with pytest.raises(OutputError, match="cannot write the summary"):
        summary_of(0.5).write(tmp_path / "missing" / "summary.json")
