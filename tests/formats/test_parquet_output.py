"""The Parquet file that a scored one becomes: all of the input, and the results."""

import json
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import linux_only

from longclip_cli.errors import InputError, Reason, RowError
from longclip_cli.formats import parquet_output
from longclip_cli.formats.parquet import Parquet
from longclip_cli.options import ScoringOptions
from longclip_cli.storage.source import open_input

FAILED = RowError(Reason.NO_SUCH_FILE, "a.png")
ROWS = pa.table({"image": ["a.png"] * 5, "text": ["a"] * 5})


def scored(folder, table, results, *, name="in.parquet", settings=None, **values):
    """Write a table, and its rows with these results; return both files."""
    path = folder / name
    pq.write_table(table, path, **(settings or {}))
    return pq.ParquetFile(path), written(path, results, **values)


def written(path, results, **values):
    options = ScoringOptions(**({"image_key": "image"} | values))
    with (path.parent / "out.parquet").open("wb") as file:
        Parquet().write_file(file, open_input(str(path)), iter(results), options, "parquet")
    return pq.ParquetFile(path.parent / "out.parquet")


def results_in(file, key="clip_score"):
    table = file.read()
    return table[key].to_pylist(), table[f"{key}_error"].to_pylist()


def columns_of(file):
    """Return the columns of the first row group."""
    group = file.metadata.row_group(0)
    return {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}


def test_both_columns_are_always_added(tmp_path):
    _, after = scored(tmp_path, ROWS, [0.25, FAILED, 1.0, 0.1234567, 0.5])
    assert after.schema_arrow.field("clip_score").type == pa.float64()
    assert after.schema_arrow.field("clip_score_error").type == pa.string()
    assert results_in(after) == ([0.25, None, 1.0, 0.123457, 0.5], [None, str(FAILED), None, None, None])


def test_lists_of_scores_have_the_same_type_in_all_rows(tmp_path):
    results = [(0.1, 0.2), FAILED, 0.5, (0.3, FAILED), (1.0,)]
    _, after = scored(tmp_path, ROWS, results, text_key=("text", "text"))
    assert after.schema_arrow.field("clip_score").type == pa.list_(pa.field("element", pa.float64()))
    scores, errors = results_in(after)
    assert scores == [[0.1, 0.2], None, [0.5], [0.3, None], [1.0]]
    assert errors == [None, str(FAILED), None, f"[1] {FAILED}", None]


def test_types_nesting_and_order_of_columns_are_kept(tmp_path):
    table = pa.table(
        {
            "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
            "image": pa.array([{"bytes": b"1", "path": None}] * 3),
            "times": pa.array([1, None, 3], pa.timestamp("ns", tz="Europe/Berlin")),
            "nested": [[{"a": [1, None]}, None], [], None],
            "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int8())),
            "large": pa.array([["a"], None, []], pa.large_list(pa.large_string())),
            "fixed": pa.array([[1.5, 2], None, [0, 0]], pa.list_(pa.float32(), 2)),
            "decimal": pa.array([1, 2, None]).cast(pa.decimal128(22, 2)),
            "u32": pa.array([2**32 - 1, 0, None], pa.uint32()),
            "view": pa.array(["a", None, "b"], pa.string_view()),
            "null": pa.nulls(3),
            "uuid": pa.array([b"0" * 16] * 3, pa.uuid()),
            "half": pa.array([1.5, None, 0], pa.float16()),
            "required": pa.array([1, 2, 3]),
        }
    )
    required = table.schema.get_field_index("required")
    table = table.cast(table.schema.set(required, pa.field("required", pa.int64(), nullable=False)))
    before, after = scored(tmp_path, table, [0.5] * 3)
    kept = table.schema.names
    assert after.schema_arrow.names == [*kept, "clip_score", "clip_score_error"]
    assert after.read().select(kept).equals(before.read(), check_metadata=True)
    physical = [str(file.schema).splitlines()[2:] for file in (before, after)]
    assert physical[1][: len(physical[0]) - 1] == physical[0][:-1]


@pytest.mark.parametrize("compliant", [True, False])
def test_elements_of_lists_keep_their_name(tmp_path, compliant):
    table = pa.table({"texts": [["a"]]})
    before, after = scored(tmp_path, table, [0.5], settings={"use_compliant_nested_type": compliant})
    assert before.schema.column(0).path == after.schema.column(0).path


def test_compression_and_dictionaries_are_kept_per_column(tmp_path):
    table = pa.table({name: ["text"] * 50 for name in ("snappy", "zstd", "gzip", "brotli", "lz4", "none")})
    settings = {"compression": {name: name for name in table.column_names}, "use_dictionary": ["zstd", "gzip"]}
    before, after = scored(tmp_path, table, [0.5] * 50, settings=settings)
    for name, column in columns_of(before).items():
        assert columns_of(after)[name].compression == column.compression
        assert columns_of(after)[name].has_dictionary_page == (name in ("zstd", "gzip"))
    assert columns_of(after)["clip_score"].compression == "LZ4"


def test_old_results_are_replaced_and_come_last(tmp_path):
    table = pa.table({"clip_score": ["old"] * 2, "text": ["a", "b"], "clip_score_error": [1, 2], "x": [1, 2]})
    _, after = scored(tmp_path, table, [0.5, FAILED])
    assert after.schema_arrow.names == ["text", "x", "clip_score", "clip_score_error"]
    assert results_in(after) == ([0.5, None], [None, str(FAILED)])
    assert after.read()["x"].to_pylist() == [1, 2]


def test_row_groups_are_kept(tmp_path):
    path = tmp_path / "in.parquet"
    with pq.ParquetWriter(path, ROWS.schema) as writer:
        for size in (2, 5, 0, 1):
            writer.write_table(ROWS.slice(0, size))
    after = written(path, [0.5] * 8)
    assert [after.metadata.row_group(i).num_rows for i in range(4)] == [2, 5, 0, 1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_rows_end_where_the_results_end(tmp_path, count):
    _, after = scored(tmp_path, ROWS, [0.5] * count, settings={"row_group_size": 2})
    assert after.metadata.num_rows == count
    assert all(after.metadata.row_group(i).num_rows for i in range(after.metadata.num_row_groups))


def test_a_row_group_beyond_the_bound_is_split_and_named_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(parquet_output, "ROW_GROUP_BYTES", 2500)
    monkeypatch.setattr(parquet_output, "BATCH_BYTES", 1000)
    table = pa.table({"image": ["a.png"] * 20, "text": [f"{i:1000}" for i in range(20)]})
    before, after = scored(tmp_path, table, [i / 20 for i in range(20)], settings={"row_group_size": 10})
    assert before.metadata.num_row_groups == 2
    assert after.metadata.num_row_groups == 10
    assert after.read().select(["image", "text"]).equals(before.read())
    assert results_in(after)[0] == [i / 20 for i in range(20)]
    assert [record.message for record in caplog.records if "are split" in record.message] != []
    assert len(caplog.records) == 1


def test_metadata_of_other_programs_is_kept(tmp_path):
    path = tmp_path / "in.parquet"
    with pq.ParquetWriter(path, ROWS.schema.with_metadata({"a": "1"})) as writer:
        writer.write_table(ROWS)
        writer.add_key_value_metadata({"later": "2", "huggingface": "not JSON", "pandas": "[]"})
    metadata = written(path, [0.5] * 5).metadata.metadata
    assert {key: metadata[key] for key in metadata if key != b"ARROW:schema"} == {
        b"a": b"1",
        b"later": b"2",
        b"huggingface": b"not JSON",
        b"pandas": b"[]",
    }


def test_a_file_without_arrow_schema_gets_none(tmp_path):
    _, after = scored(tmp_path, ROWS, [0.5] * 5, settings={"store_schema": False})
    assert b"ARROW:schema" not in (after.metadata.metadata or {})


def test_int96_timestamps_are_kept(tmp_path):
    table = pa.table({"at": pa.array([1, 2], pa.timestamp("ns"))})
    before, after = scored(tmp_path, table, [0.5] * 2, settings={"use_deprecated_int96_timestamps": True})
    assert after.schema.column(0).physical_type == before.schema.column(0).physical_type == "INT96"
    assert after.read()["at"].equals(before.read()["at"])


@pytest.mark.parametrize("index", [None, "name"])
@pytest.mark.parametrize("results", [[0.5, FAILED], [0.5]])
def test_pandas_reads_the_result_with_its_index(tmp_path, index, results):
    frame = pandas.DataFrame({"name": ["x", "y"], "text": ["a", "b"], "clip_score": [7, 8]})
    frame = frame.set_index(index) if index else frame
    path = tmp_path / "in.parquet"
    frame.to_parquet(path)
    written(path, results)
    after = pandas.read_parquet(tmp_path / "out.parquet")
    assert list(after.index) == list(frame.index)[: len(results)]
    assert after["clip_score"].tolist()[0] == 0.5
    assert after["clip_score"].dtype == "float64"
    about = json.loads(pq.read_metadata(tmp_path / "out.parquet").metadata[b"pandas"])
    assert [column["field_name"] for column in about["columns"]].count("clip_score") == 1


@pytest.mark.parametrize("keys", [("text",), ("text", "text")])
def test_features_of_hugging_face_are_extended(tmp_path, keys):
    features = {"image": {"_type": "Image"}, "clip_score": {"dtype": "int64", "_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}, "fingerprint": "x"})}
    _, after = scored(tmp_path, ROWS.replace_schema_metadata(metadata), [0.5] * 5, text_key=keys)
    score = {"dtype": "float64", "_type": "Value"}
    expected = {
        "image": {"_type": "Image"},
        "clip_score": score if len(keys) == 1 else {"feature": score, "_type": "List"},
        "clip_score_error": {"dtype": "string", "_type": "Value"},
    }
    about = json.loads(after.metadata.metadata[b"huggingface"])
    assert about == {"info": {"features": expected}, "fingerprint": "x"}
    assert list(about["info"]["features"]) == list(expected)


def test_the_schema_that_spark_reads_is_extended(tmp_path):
    key = "org.apache.spark.sql.parquet.row.metadata"
    text = {"name": "text", "type": "string", "nullable": True, "metadata": {}}
    metadata = {key: json.dumps({"type": "struct", "fields": [text]})}
    _, after = scored(tmp_path, ROWS.replace_schema_metadata(metadata), [0.5] * 5)
    fields = json.loads(after.metadata.metadata[key.encode()])["fields"]
    assert [(field["name"], field["type"]) for field in fields] == [
        ("text", "string"),
        ("clip_score", "double"),
        ("clip_score_error", "string"),
    ]


def test_duplicate_and_empty_column_names_are_kept(tmp_path):
    names = ["image", "text", "x", "x", ""]
    table = pa.table([pa.array([value]) for value in ("a.png", "a", 1, 2, 3)], names=names)
    _, after = scored(tmp_path, table, [0.5])
    assert after.schema_arrow.names == [*names, "clip_score", "clip_score_error"]
    columns = after.read().columns
    assert [column.to_pylist() for column in columns] == [["a.png"], ["a"], [1], [2], [3], [0.5], [None]]


def test_a_file_without_columns_gives_those_of_the_result(tmp_path):
    _, after = scored(tmp_path, pa.table({}), [])
    assert after.schema_arrow.names == ["clip_score", "clip_score_error"]


def test_lone_surrogates_in_an_error_are_escaped(tmp_path):
    _, after = scored(tmp_path, ROWS, [RowError(Reason.NO_SUCH_FILE, "\ud800.png")] * 5)
    assert results_in(after)[1][0].endswith(r": \ud800.png")


def test_what_pyarrow_cannot_write_is_an_error_of_the_input(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise pa.ArrowNotImplementedError("no such type")

    pq.write_table(ROWS, tmp_path / "in.parquet")
    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(InputError, match=r"pyarrow cannot write it again: no such type; use -o FILE.jsonl"):
        written(tmp_path / "in.parquet", [0.5] * 5)


@linux_only
def test_an_error_of_the_disk_stays_one(tmp_path):
    pq.write_table(ROWS, tmp_path / "in.parquet")
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        source = open_input(str(tmp_path / "in.parquet"))
        Parquet().write_file(file, source, iter([0.5] * 5), ScoringOptions(image_key="image"), "parquet")
