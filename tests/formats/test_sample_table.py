"""Samples and their results as Parquet files."""

import io
import json
import sys

import pyarrow
import pyarrow.parquet
import pytest
from helpers import IMAGES, tar_of

from longclip_cli.errors import InputError, OutputError, Reason, RowError
from longclip_cli.formats import sample_table
from longclip_cli.formats.webdataset import WebDataset
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark
from longclip_cli.storage.source import open_input

PNG = (IMAGES / "tiny.png").read_bytes()
FORMAT = WebDataset()
MEMBERS = {
    "a.png": PNG,
    "a.txt": b"A cat",
    "b.png": PNG,
    "b.txt": b"A dog",
    "b.json": b'{\n "n": 1.10\n}',
    "c.cap": b"x",
}
FAILED = RowError(Reason.NO_IMAGE_MEMBER)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in.tar").write_bytes(tar_of(MEMBERS))
    return tmp_path / "in.tar"


def written(path, results, **options):
    """Return the table that is written from an archive and results, and its row groups."""
    file = io.BytesIO()
    FORMAT.write_file(file, open_input(str(path)), iter(results), ScoringOptions(**options), "parquet")
    return parsed(file.getvalue())


def parsed(content):
    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    return file.read(), file.num_row_groups


def test_text_and_json_members_and_results_are_columns(path):
    table, groups = written(path, [0.25, 0.1234567, FAILED])
    assert groups == 1
    assert table.schema.remove_metadata() == pyarrow.schema(
        [(name, pyarrow.string()) for name in ("__key__", "__url__", "txt", "json", "cap")]
        + [("clip_score", pyarrow.float64()), ("clip_score_error", pyarrow.string())]
    )
    assert table.to_pylist() == [
        dict(zip(table.column_names, row, strict=True))
        for row in (
            ("a", str(path), "A cat", None, None, 0.25, None),
            ("b", str(path), "A dog", '{"n": 1.10}', None, 0.123457, None),
            ("c", str(path), None, None, "x", None, "image: no member is an image"),
        )
    ]


def test_results_may_end_before_the_rows(path):
    assert written(path, [0.5])[0]["__key__"].to_pylist() == ["a"]
    assert written(path, [])[0].num_rows == 0


def test_scores_of_a_list_are_a_list_column(tmp_path):
    members = {"a.png": PNG, "a.json": b'["A cat", "A dog"]', "b.png": PNG, "b.json": b'"A bird"'}
    members |= {"c.png": PNG, "c.json": b"[]"}
    (tmp_path / "in.tar").write_bytes(tar_of(members))
    results = [(0.25, FAILED), 0.5, FAILED]
    table, _ = written(tmp_path / "in.tar", results, text_key=(".json",))
    assert table.schema.field("clip_score").type == pyarrow.list_(pyarrow.float64())
    assert table["clip_score"].to_pylist() == [[0.25, None], [0.5], None]
    assert table["clip_score_error"].to_pylist() == ["[1] image: no member is an image", None, str(FAILED)]
    reduced, _ = written(tmp_path / "in.tar", [0.25, 0.5, FAILED], text_key=(".json",), reduce="mean")
    assert reduced.schema.field("clip_score").type == pyarrow.float64()


def test_columns_with_the_output_key_are_replaced(path):
    table, _ = written(path, [0.25, 0.5, 0.75], output_key="cap")
    assert table.column_names == ["__key__", "__url__", "txt", "json", "cap", "cap_error"]
    assert table["cap"].to_pylist() == [0.25, 0.5, 0.75]


def test_row_groups_are_bounded_in_rows_and_bytes(path, monkeypatch):
    monkeypatch.setattr(sample_table, "GROUP_ROWS", 2)
    assert written(path, [0.5] * 3)[1] == 2
    monkeypatch.setattr(sample_table, "GROUP_BYTES", 10)
    assert written(path, [0.5] * 3)[1] == 3


def test_too_many_columns_are_an_error(path, monkeypatch):
    monkeypatch.setattr(sample_table, "MOST_COLUMNS", 4)
    with pytest.raises(OutputError, match="more than 4 different members; write JSONL"):
        written(path, [0.5] * 3)


def test_an_archive_that_has_changed_is_an_error(path):
    source = open_input(str(path))
    path.write_bytes(tar_of({}))
    with pytest.raises(InputError, match="changed while it was read"):
        FORMAT.write_file(io.BytesIO(), source, iter([0.5]), ScoringOptions(), "parquet")


@pytest.mark.parametrize("output_key", ["clip_score", "json", "score.txt", "x_error"])
def test_lines_give_the_same_table_as_the_archive(path, output_key):
    options = ScoringOptions(output_key=output_key)
    rows = [row for row in FORMAT.read_rows(open_input(str(path)), options, whole=True) if row is not Mark.PAUSE]
    results = [0.25, 0.5, FAILED]
    lines = [FORMAT.encode_line(row, output_key, result) for row, result in zip(rows, results, strict=True)]
    file = io.BytesIO()
    FORMAT.write_lines(file, lines)
    assert parsed(file.getvalue())[0].equals(written(path, results, output_key=output_key)[0])


def test_no_lines_give_an_empty_table():
    file = io.BytesIO()
    FORMAT.write_lines(file, [])
    assert parsed(file.getvalue())[0].column_names == ["clip_score", "clip_score_error"]


def test_without_pyarrow_the_error_names_the_extra(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(OutputError, match=r"pip install 'longclip-cli\[parquet\]'"):
        FORMAT.read_rows(open_input(str(path)), ScoringOptions(), whole=False)


def test_pandas_reads_the_table(path):
    pandas = pytest.importorskip("pandas")
    file = io.BytesIO()
    FORMAT.write_file(file, open_input(str(path)), iter([0.25, 0.5, 0.75]), ScoringOptions(), "parquet")
    frame = pandas.read_parquet(io.BytesIO(file.getvalue()))
    assert frame["clip_score"].tolist() == [0.25, 0.5, 0.75]
    assert json.loads(frame["json"][1]) == {"n": 1.1}
