"""Scored Parquet files: results of rows, and chosen rows with all that the file has."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longclip_cli.errors import InputError, Reason, RowError
from longclip_cli.formats.detect import FORMATS
from longclip_cli.formats.results import encode_result
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import RowInputs
from longclip_cli.storage.source import open_input

PARQUET = FORMATS["parquet"]
FAILED = RowError(Reason.NO_SUCH_FILE, "a.png")
OPTIONS = ScoringOptions()
RESULTS = [0.25, FAILED, 1.0, 0.0, 0.5, FAILED, 0.618034]
ROWS = pa.table(
    {
        "image_path": [f"{place}.png" for place in range(7)],
        "text": [None if place == 5 else f"text {place}" for place in range(7)],
        "id": pa.array(range(7), pa.uint8()),
        "label": pa.array(["a", "b", "a", None, "b", "b", "a"]).dictionary_encode(),
        "boxes": pa.array(
            [[[1.5, 2.0]], [], None, [[]], [[3.0]], [[4.0], [5.0]], None], pa.list_(pa.list_(pa.float32()))
        ),
        "meta": pa.array([{"when": place, "raw": b"\xff"} for place in range(7)]),
        "kinds": pa.array([[("a", place)] for place in range(7)], pa.map_(pa.string(), pa.int32())),
    }
).replace_schema_metadata({"huggingface": '{"info": {"features": {}}}', "other": "1"})


@pytest.fixture
def source(tmp_path):
    """Return a scored file of row groups of three rows."""
    path = tmp_path / "in.parquet"
    pq.write_table(ROWS, path, row_group_size=3, compression="zstd", use_dictionary=["label"])
    file = io.BytesIO()
    PARQUET.write_file(file, open_input(str(path)), iter(RESULTS), OPTIONS, "parquet")
    scored = tmp_path / "scored.parquet"
    scored.write_bytes(file.getvalue())
    return str(scored)


def shown(result):
    return None if result is None else encode_result("clip_score", result)


def chosen(source, wanted):
    file = io.BytesIO()
    PARQUET.write_chosen(file, open_input(source), iter(wanted))
    return pq.ParquetFile(io.BytesIO(file.getvalue()))


def test_results_are_read_as_they_were_written(source):
    found = list(PARQUET.read_results(open_input(source), OPTIONS))
    assert [shown(result) for _, result in found] == [shown(result) for result in RESULTS]
    assert found[0][0].inputs == RowInputs(("0.png",), ("text 0",)) and found[6][0].number == 7


def test_chosen_rows_keep_columns_types_metadata_and_row_groups(source):
    wanted = [True, False, True, False, False, False, True]
    was, file = pq.ParquetFile(source), chosen(source, wanted)
    assert file.schema_arrow.equals(was.schema_arrow, check_metadata=True)
    assert file.read() == was.read().filter(pa.array(wanted))
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [2, 1]
    for index in range(was.metadata.num_columns):
        column, before = (each.metadata.row_group(0).column(index) for each in (file, was))
        assert (column.compression, column.encodings) == (before.compression, before.encodings)


@pytest.mark.parametrize("kind", [pa.string_view(), pa.list_(pa.string_view()), pa.struct([("a", pa.binary_view())])])
def test_rows_of_types_that_pyarrow_cannot_take_are_chosen(tmp_path, kind):
    values = {"string_view": ["a", None, "c" * 99], "list": [["a"], [], ["b", None]], "struct": [{"a": b"1"}, None, {}]}
    column = pa.array(values[str(kind).partition("<")[0]], kind)
    pq.write_table(pa.table({"value": column, "clip_score": [0.5] * 3}), tmp_path / "in.parquet")
    file = chosen(str(tmp_path / "in.parquet"), [True, False, True])
    assert file.schema_arrow.field("value").type == kind
    assert file.read()["value"].to_pylist() == [column[0].as_py(), column[2].as_py()]


def test_no_chosen_row_gives_a_file_with_the_columns(source):
    file = chosen(source, [False] * 7)
    assert file.num_row_groups == 0 and file.schema_arrow.equals(pq.read_schema(source), check_metadata=True)


def test_a_large_row_group_is_written_in_parts(source, monkeypatch):
    from longclip_cli.formats import parquet_scored

    monkeypatch.setattr(parquet_scored, "ROW_GROUP_BYTES", 1)
    monkeypatch.setattr(parquet_scored, "MOST_BATCH_ROWS", 2)
    file = chosen(source, [True] * 7)
    assert file.num_row_groups == 5 and file.read() == pq.read_table(source)


@settings(deadline=None)
@given(wanted=st.lists(st.booleans(), max_size=40), group=st.integers(1, 9))
def test_any_rows_can_be_chosen(tmp_path_factory, wanted, group):
    path = tmp_path_factory.mktemp("parquet") / "scored.parquet"
    table = pa.table({"id": pa.array(range(len(wanted)), pa.int64()), "clip_score": [0.5] * len(wanted)})
    pq.write_table(table, path, row_group_size=group)
    rows = chosen(str(path), wanted).read()["id"].to_pylist()
    assert rows == [place for place, is_chosen in enumerate(wanted) if is_chosen]


def test_lists_of_scores_are_results(tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "clip_score": [[0.5, 0.25], [1.0]]}), tmp_path / "in.parquet")
    found = PARQUET.read_results(open_input(str(tmp_path / "in.parquet")), OPTIONS)
    assert [result for _, result in found] == [(0.5, 0.25), (1.0,)]


def test_a_value_that_is_no_score_is_shown_as_a_field(tmp_path):
    pq.write_table(pa.table({"clip_score": [7.0, None]}), tmp_path / "in.parquet")
    found = list(PARQUET.read_results(open_input(str(tmp_path / "in.parquet")), OPTIONS))
    assert [result for _, result in found] == [None, None]
    assert [PARQUET.fields_of(row)["clip_score"] for row, _ in found] == [7.0, None]


def test_a_row_without_a_score_has_none(tmp_path):
    pq.write_table(ROWS, tmp_path / "in.parquet")
    found = list(PARQUET.read_results(open_input(str(tmp_path / "in.parquet")), OPTIONS))
    assert [result for _, result in found] == [None] * 7 and "clip_score" not in PARQUET.fields_of(found[0][0])


def test_two_columns_of_scores_are_an_error(tmp_path):
    table = pa.Table.from_arrays([pa.array([0.5]), pa.array([0.6])], names=["clip_score"] * 2)
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(InputError, match="two columns are named 'clip_score'"):
        list(PARQUET.read_results(open_input(str(tmp_path / "in.parquet")), OPTIONS))
