"""Files that have been scored: the results of their rows, and some of the rows with their bytes."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import InputError, Reason, RowError
from longclip_cli.formats.detect import FORMATS
from longclip_cli.formats.results import decode_result, encode_result
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import RowInputs
from longclip_cli.storage.source import Input

OPTIONS = ScoringOptions()
FAILED = RowError(Reason.NO_SUCH_FILE, 'a "b",\nc')
numbers = st.sampled_from([0.0, 0.25, 0.618034, 1.0])
results = numbers | st.just(FAILED) | st.lists(numbers | st.just(FAILED), min_size=1, max_size=3).map(tuple)
texts = st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
tables = st.lists(st.tuples(texts, results), max_size=6)
kinds = pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])


def input_of(content: bytes) -> Input:
    file = io.BytesIO(content)
    return Input("in", file, io.BufferedReader(io.BytesIO(content)), len(content), "in")


def unscored(kind, table) -> bytes:
    rows = [{"image_path": "a.png", "text": text} for text, _ in table]
    if kind == "jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
    writer.writerows([["image_path", "text"], *(row.values() for row in rows)])
    return file.getvalue().encode()


def scored(kind, table) -> bytes:
    """Return the bytes of a scored file, as the format itself writes them."""
    file, read = io.BytesIO(), FORMATS[kind].for_input()
    if kind == "jsonl":
        rows = read.read_rows(input_of(unscored(kind, table)), OPTIONS, whole=True)
        file.writelines(
            read.encode_line(row, "clip_score", result) for row, (_, result) in zip(rows, table, strict=True)
        )
    else:
        read.write_file(file, input_of(unscored(kind, table)), (result for _, result in table), OPTIONS, kind)
    return file.getvalue()


def read_results(kind, content, options=OPTIONS):
    return list(FORMATS[kind].for_input().read_results(input_of(content), options))


def chosen(kind, content, wanted) -> bytes:
    file = io.BytesIO()
    FORMATS[kind].for_input().write_chosen(file, input_of(content), iter(wanted))
    return file.getvalue()


def shown(result):
    return None if result is None else encode_result("clip_score", result)


@kinds
@given(table=tables)
def test_results_are_read_as_they_were_written(kind, table):
    found = read_results(kind, scored(kind, table))
    assert [shown(result) for _, result in found] == [shown(result) for _, result in table]
    assert [row.inputs for row, _ in found] == [RowInputs(("a.png",), (text,)) for text, _ in table]


@kinds
@given(table=tables, data=st.data())
def test_chosen_rows_are_those_of_a_file_without_the_others(kind, table, data):
    wanted = data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table)))
    content = scored(kind, table)
    expected = [row for row, is_wanted in zip(table, wanted, strict=True) if is_wanted]
    if kind == "json":  # whose rows have indentation
        assert json.loads(chosen(kind, content, wanted)) == json.loads(scored(kind, expected))
    else:
        assert chosen(kind, content, wanted) == scored(kind, expected)


@kinds
def test_a_row_without_a_result_of_a_run_has_none(kind):
    ((row, result),) = read_results(kind, unscored(kind, [("A cat", 0.5)]))
    assert result is None and row.number


@pytest.mark.parametrize("value", ["0.5x", "2", "true", '"0.5"', "[]", "[0.5, 7]", "{}", "null"])
def test_a_value_that_is_no_score_is_no_result(value):
    rows = {
        "jsonl": b'{"text": "a", "clip_score": %b}\n',
        "json": b'[{"text": "a", "clip_score": %b}]',
        "csv": b'text,clip_score\na,"%b"\n',
        "tsv": b'text\tclip_score\na\t"%b"\n',
    }
    for kind, row in rows.items():
        cell = value.replace('"', '""') if kind in ("csv", "tsv") else value
        assert [result for _, result in read_results(kind, row % cell.encode())] == [None]


def test_elements_keep_their_bytes():
    content = b'[\n  {"clip_score" : 0.5e0,\n   "id": 1.10}  , {"clip_score":1},{"clip_score":0}]'
    kept = b'[\n{"clip_score" : 0.5e0,\n   "id": 1.10},\n{"clip_score":0}\n]\n'
    assert chosen("json", content, [True, False, True]) == kept
    assert chosen("json", content, [False] * 3) == b"[]\n"


def test_lines_keep_their_bytes_and_get_a_line_end():
    content = b'\n{"clip_score": 1.0, "a": 1, "a": 2}\r\n\n  {"clip_score": 0}'
    assert chosen("jsonl", content, [True, True]) == b'{"clip_score": 1.0, "a": 1, "a": 2}\r\n  {"clip_score": 0}\n'


def test_a_header_keeps_its_bytes_and_the_order_of_its_columns():
    content = b'\xef\xbb\xbf"id",clip_score,text\r\n1,0.5,"a\nb"\r\n\r\n2,,c'
    assert chosen("csv", content, [True, False]) == b'\xef\xbb\xbf"id",clip_score,text\r\n1,0.5,"a\nb"\r\n'
    assert chosen("csv", content, [False, True]) == b'\xef\xbb\xbf"id",clip_score,text\r\n2,,c\n'


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_the_start_of_a_stream_is_the_header_as_read(kind):
    read = FORMATS[kind].for_input()
    content = b'"id"\tclip_score\r\n1\t0.5\r\n'.replace(b"\t", read.dialect.delimiter)
    assert len(list(read.read_results(input_of(content), OPTIONS))) == 1
    assert content.startswith(read.start_as_read()) and read.start_as_read().endswith(b"\r\n")


def test_a_line_that_is_no_object_is_a_row_without_a_result():
    ((row, result),) = read_results("jsonl", b"7\n")
    assert result is None and isinstance(row.inputs, RowError)


def test_a_scored_line_that_was_no_object_has_its_error():
    row = b'{"clip_score": null, "clip_score_error": "line 1: not JSON: x", "clip_score_input": "x"}'
    ((_, result),) = read_results("jsonl", row)
    assert isinstance(result, RowError) and decode_result(row, "clip_score").reason is result.reason


@kinds
def test_another_output_key_is_read(kind):
    content = scored(kind, [("A cat", 0.25)]).replace(b"clip_score", b"other")
    ((_, result),) = read_results(kind, content, ScoringOptions(output_key="other"))
    assert result == 0.25


def test_a_format_that_holds_no_scores_says_so(monkeypatch):
    from longclip_cli.formats.format import Format

    with pytest.raises(InputError, match="in: jsonl holds no scores"):
        Format.read_results(FORMATS["jsonl"], input_of(b""), OPTIONS)
