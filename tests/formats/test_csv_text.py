"""CSV and TSV: records keep their bytes, and what is wrong with one is said."""

import csv
import io
import json
import os
from dataclasses import replace
from io import BufferedReader, FileIO

import pandas
import pytest
from csv_files import BOM, HEAD, KEY, OPTIONS, input_of, read, scored, through_jsonl
from hypothesis import assume, given
from hypothesis import strategies as st

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.csv_text import Csv, Tsv
from longclip_cli.storage.source import Input

BROKEN_QUOTES = 'text after a closing quotation mark: is one missing, or not doubled ("")?'
FAILED = RowError(Reason.NO_SUCH_FILE, 'a "b",\nc')
numbers = st.sampled_from([0.0, 0.25, 0.6180339, 1.0])
results = numbers | st.just(FAILED) | st.lists(numbers | st.just(FAILED), min_size=1, max_size=3)
values = st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=8) | st.text(',\t"\n x', max_size=6)


def errors_of(content: bytes) -> list[str | None]:
    return [str(row.inputs) if isinstance(row.inputs, RowError) else None for row in read(content)[1]]


def table_of(content: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter))


def cells_of(result) -> list[str]:
    if isinstance(result, RowError):
        return ["", str(result)]
    if isinstance(result, float):
        return [json.dumps(round(result, 6)), ""]
    score = json.dumps([None if isinstance(each, RowError) else round(each, 6) for each in result])
    errors = [f"[{index}] {each}" for index, each in enumerate(result) if isinstance(each, RowError)]
    return [score, "; ".join(errors)]


@given(
    st.lists(st.tuples(values, values, values, results), max_size=4),
    st.sampled_from([Csv, Tsv]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_records_keep_their_bytes_and_get_two_columns(table, kind, end, is_quoted, has_bom, is_cut):
    delimiter = kind.dialect.delimiter.decode()
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL
    names = ["image_path", "text", 'the "rest"']
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
    ends = [file.tell() for row in [names, *(row[:3] for row in table)] if writer.writerow(row)]
    text = file.getvalue()
    assume(all(delimiter in part.replace(" ", "") for part in text.splitlines()[:1]))
    content = BOM * has_bom + text.encode()
    content = content.removesuffix(end.encode()) if is_cut else content
    scores = [tuple(row[3]) if isinstance(row[3], list) else row[3] for row in table]
    output = scored(content, *scores, kind=kind)
    expected = [[*names, KEY, f"{KEY}_error"], *([*row[:3], *cells_of(row[3])] for row in table)]
    assert table_of(output.removeprefix(BOM), delimiter) == expected
    assert output.endswith(end.encode()) != is_cut
    begin = 0
    for stop in ends:
        body = text[begin:stop].removesuffix(end).encode()
        begin = stop
        position = output.index(body + delimiter.encode())
        output = output[position + len(body) :]


@given(st.lists(st.tuples(values, values, values, results), max_size=4), st.sampled_from([Csv, Tsv]))
def test_rows_of_a_pipe_keep_their_values(table, kind):
    delimiter = kind.dialect.delimiter.decode()
    file = io.StringIO(newline="")
    names = ["image_path", "text", "text 2"]
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([names, *(row[:3] for row in table)])
    scores = [tuple(row[3]) if isinstance(row[3], list) else row[3] for row in table]
    output = through_jsonl(file.getvalue().encode(), *scores, kind=kind)
    expected = [[*names, KEY, f"{KEY}_error"], *([*row[:3], *cells_of(row[3])] for row in table)]
    assert table_of(output, delimiter) == [[str(value) for value in row] for row in expected]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEAD + b"a,b\n", b"image_path,text,clip_score,clip_score_error\na,b,0.5,\n"),
        (HEAD.replace(b"\n", b"\r\n") + b"a,b", b"image_path,text,clip_score,clip_score_error\r\na,b,0.5,"),
        (BOM + HEAD + b'a,"b"\n\n', BOM + b'image_path,text,clip_score,clip_score_error\na,"b",0.5,\n'),
        (b'\xef\xbb\xbf"image_path","a,\nb",text\n1,2,3\n', None),
        (HEAD + b"a,b\r\r\n", b"image_path,text,clip_score,clip_score_error\na,b,0.5,\r\r\n"),
        (HEAD, b"image_path,text,clip_score,clip_score_error\n"),
        (b"image_path,text", b"image_path,text,clip_score,clip_score_error"),
    ],
    ids=[
        "plain",
        "crlf, no last line end",
        "bom, blank lines",
        "bom, quoted header",
        "two CRs",
        "no row",
        "no line end",
    ],
)
def test_line_ends_and_a_byte_order_mark_stay(content, expected):
    expected = expected or b'\xef\xbb\xbf"image_path","a,\nb",text,clip_score,clip_score_error\n1,2,3,0.5,\n'
    assert scored(content) == expected


def test_columns_of_the_result_are_replaced_at_the_end():
    content = b'clip_score,image_path,"clip_score_error",text,clip_score\n0.1,"a",x,b,0.2\n1,2,3,4\n'
    assert scored(content) == b'image_path,text,clip_score,clip_score_error\n"a",b,0.5,\n2,4,0.5,\n'
    text, rows = read(content)
    assert text.encode_line(rows[0], KEY, 0.5) == b'{"image_path": "a", "text": "b", "clip_score": 0.5}\n'


def test_another_output_key_names_both_columns():
    options = replace(OPTIONS, output_key='my "score", new')
    assert scored(HEAD + b"a,b\n", options=options).startswith(
        b'image_path,text,"my ""score"", new","my ""score"", new_error"\n'
    )


def test_a_list_of_scores_is_json_in_a_cell():
    assert scored(HEAD + b"a,b\n", (0.61, FAILED)).splitlines()[1].startswith(b'a,b,"[0.61, null]","[1] image: no such')
    assert scored(b"image_path\ttext\na\tb\n", (0.61, 0.5), kind=Tsv).endswith(b"\na\tb\t[0.61, 0.5]\t\n")


def test_selectors_reach_into_cells_that_hold_json():
    options = replace(OPTIONS, image_key=".meta.file", text_key=(".meta.captions[]", "text"))
    cell = json.dumps({"file": "a.png", "captions": ["A cat", "A dog"]}).replace('"', '""')
    _, (row,) = read(f'text,meta\n"[""x""]","{cell}"\n'.encode(), options)
    assert row.inputs.images == ("a.png",)
    assert row.inputs.texts == ("A cat", "A dog", '["x"]')


def test_jsonl_has_strings_only():
    text, (row,) = read(b'image_path,text,n,"","a",a,empty\nx,"say ""hi"",\nthen",1.50,,1,2,\n')
    assert text.encode_line(row, KEY, 0.5) == (
        b'{"image_path": "x", "text": "say \\"hi\\",\\nthen", "n": "1.50", "": "", "a": "1", "a": "2", "empty": "", '
        b'"clip_score": 0.5}\n'
    )


@pytest.mark.parametrize(
    ("record", "error", "kept"),
    [
        (b"a", "too few fields: 1, the header has 3", [b"a", b"", b""]),
        (b'"a\nb",c', "too few fields: 2, the header has 3", [b'"a\nb"', b"c", b""]),
        (b"a,b,c,d,e", "too many fields: the header has 3", [b"a", b"b", b'"c,d,e"']),
        (b'a,b,"c",d "e"', "too many fields: the header has 3", [b"a", b"b", b'"""c"",d ""e"""']),
        (b"a,b\0,c", "a NUL byte: at position 4", [b"a", b"b\0", b"c"]),
        (b"a,b\xe9,c", "not UTF-8: byte 0xe9 at position 4", [b"a", b"b\xe9", b"c"]),
        (
            b'a,"b"c,d',
            BROKEN_QUOTES,
            [b"a", b'"b"c', b"d"],
        ),
        (rb'a,"b \"c\"",d', BROKEN_QUOTES, None),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_broken_record_fails_and_keeps_its_content(record, error, kept, end):
    content = b"image_path,x,text\n1,2,3\n" + record + end + (b"4,5,6\n" if end else b"")
    assert errors_of(content)[:2] == [None, f"line 3: {error}"]
    output = scored(content, 0.5, RowError(Reason.TOO_FEW_FIELDS, "detail"))
    kept = kept or record.split(b",")
    assert b"\n" + b",".join(kept) + b",,line: too few fields: detail" + end in output
    assert not end or output.endswith(b"\n4,5,6,0.5,\n")


@pytest.mark.parametrize("record", [b"a", b"a,b,c,d,e", b'a,b,"c",d "e"', b'a,"b"c,d', b"a,b,"])
def test_output_with_broken_records_is_loaded_by_pandas(record):
    content = b"image_path,x,text\n1,2,3\n" + record + b"\n4,5,6\n"
    for output in (scored(content, 0.25, FAILED, 0.75), through_jsonl(content, 0.25, FAILED, 0.75)):
        table = pandas.read_csv(io.BytesIO(output))
        assert list(table.columns) == ["image_path", "x", "text", KEY, f"{KEY}_error"]
        assert table[KEY].fillna(0).tolist() == [0.25, 0, 0.75]
        assert table[f"{KEY}_error"].isna().tolist() == [True, False, True]


def test_bytes_that_are_not_utf8_are_escaped_in_jsonl():
    text, (row,) = read(HEAD + b"a,b\xe9\n")
    assert json.loads(text.encode_line(row, KEY, row.inputs))["text"] == "b\\xe9"


def test_a_field_may_be_longer_than_the_csv_module_allows():
    limit = csv.field_size_limit()
    long = b'"' + b'x ""y"", ' * 40_000 + b'"'
    output = scored(HEAD + b"a," + long + b"\n")
    assert output.endswith(b"\na," + long + b",0.5,\n")
    assert csv.field_size_limit() == limit


def test_duplicate_and_empty_names_that_are_not_read_are_kept():
    content = b",a,a,image_path,text,\n1,2,3,4,5,6\n"
    assert scored(content) == b",a,a,image_path,text,,clip_score,clip_score_error\n1,2,3,4,5,6,0.5,\n"
    text, (row,) = read(content)
    assert list(text.fields_of(row)) == ["", "a", "image_path", "text"]


def test_a_key_that_no_column_has_fails_each_row():
    assert errors_of(b"image_path,caption\na,b\n") == ["text: no field 'text'"]


def test_results_may_end_before_the_rows():
    file = io.BytesIO()
    Csv().write_file(file, input_of(HEAD + b"a,b\nc,d\n"), iter([0.5]), OPTIONS, "csv")
    assert file.getvalue() == b"image_path,text,clip_score,clip_score_error\na,b,0.5,\n"


def test_each_record_is_read_as_soon_as_it_has_arrived():
    reader, writer = os.pipe()
    with BufferedReader(FileIO(reader)) as file, FileIO(writer, "w") as pipe:
        pipe.write(HEAD + b'a,"b\n')
        rows = Csv().read_rows(Input("a pipe", file, file, None, "a pipe"), OPTIONS, whole=True)
        pipe.write(b'c"\nd,')
        assert next(rows).inputs.texts == ("b\nc",)
        pipe.write(b"e\n")
        row = next(rows)
        assert (row.number, row.offset, row.inputs.texts) == (4, 0, ("e",))
