"""CSV and TSV: records keep their bytes, and what is wrong with one is said."""

import csv
import io
import json
import os
import random
import tracemalloc
from dataclasses import replace

import pandas
import pytest
from helpers import MEBIBYTE
from hypothesis import assume, given
from hypothesis import strategies as st

from longclip_cli.errors import InputError, LongCLIPError, Reason, RowError
from longclip_cli.formats.csv_text import Csv, SeparatedText, Tsv
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark, Row
from longclip_cli.storage.source import Input, open_input

KEY = "clip_score"
OPTIONS = ScoringOptions()
HEAD = b"image_path,text\n"
FAILED = RowError(Reason.NO_SUCH_FILE, 'a "b",\nc')
numbers = st.sampled_from([0.0, 0.25, 0.6180339, 1.0])
results = numbers | st.just(FAILED) | st.lists(numbers | st.just(FAILED), min_size=1, max_size=3)
values = st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=8) | st.text(',\t"\n x', max_size=6)


def input_of(content: bytes) -> Input:
    file = io.BytesIO(content)
    return Input("in.csv", file, file, len(content), "in.csv")


def read(
    content: bytes, options: ScoringOptions = OPTIONS, kind: type[SeparatedText] = Csv
) -> tuple[SeparatedText, list[Row]]:
    """Return the format that has read the content, and the rows."""
    text = kind()
    rows = [row for row in text.read_rows(input_of(content), options, whole=True) if row is not Mark.PAUSE]
    return text, rows


def scored(content: bytes, *scores, options: ScoringOptions = OPTIONS, kind: type[SeparatedText] = Csv) -> bytes:
    """Return the finished file, which is the same whether it is streamed or assembled at the end."""
    text, rows = read(content, options, kind)
    results = [*scores, *[0.5] * (len(rows) - len(scores))]
    streamed = [text.encode_row(row, options.output_key, result) for row, result in zip(rows, results, strict=True)]
    file = io.BytesIO()
    kind().write_file(file, input_of(content), iter(results), options, kind.name)
    assert file.getvalue() == b"".join([text.stream_start(), *streamed])
    return file.getvalue()


def through_jsonl(content: bytes, *scores, options: ScoringOptions = OPTIONS, kind: type[SeparatedText] = Csv) -> bytes:
    """Return the finished file of an input that cannot be read again."""
    text, rows = read(content, options, kind)
    file = io.BytesIO()
    lines = [text.encode_line(row, options.output_key, score) for row, score in zip(rows, scores, strict=True)]
    text.write_lines(file, iter(lines))
    return file.getvalue()


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
    content = b"\xef\xbb\xbf" * has_bom + text.encode()
    content = content.removesuffix(end.encode()) if is_cut else content
    scores = [tuple(row[3]) if isinstance(row[3], list) else row[3] for row in table]
    output = scored(content, *scores, kind=kind)
    expected = [[*names, KEY, f"{KEY}_error"], *([*row[:3], *cells_of(row[3])] for row in table)]
    assert table_of(output.removeprefix(b"\xef\xbb\xbf"), delimiter) == expected
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
        (
            b"\xef\xbb\xbf" + HEAD + b'a,"b"\n\n\n',
            b'\xef\xbb\xbfimage_path,text,clip_score,clip_score_error\na,"b",0.5,\n',
        ),
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
            'text after a closing quotation mark: is one missing, or not doubled ("")?',
            [b"a", b'"b"c', b"d"],
        ),
        (rb'a,"b \"c\"",d', 'text after a closing quotation mark: is one missing, or not doubled ("")?', None),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; its first line should name the columns"),
        (b"\n \r\n", "empty; its first line should name the columns"),
        (
            b"image_path;text\na;b\n",
            "its fields seem to be separated by ;: convert it, for example with pandas.read_csv",
        ),
        (b"image_path\ttext\na\tb\n", "its fields seem to be separated by tabs: use --input-format tsv"),
        (b"image_path,text,text\na,b,c\n", "2 columns have the name 'text', which is to be read; rename them"),
        ("image_path,text,é\n".encode("latin-1"), "not UTF-8: byte 0xe9 at position 17; convert it to UTF-8"),
        ("image_path,text\n".encode("utf-16"), "looks like UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8"),
        ("image_path,text\n".encode("utf-16-le"), "looks like UTF-16 text; convert it with iconv"),
        (b"image_path,text\ra,b\rc,d\r", r"its lines end with CR only; convert them with tr '\r' '\n'"),
        (b'image_path,text\ra,"b\n,"\r', r"its lines end with CR only"),
        (b'image_path,"text"x\n', "line 1: text after a closing quotation mark"),
        (b"image_path,text," + b"x," * 2**19 + b"\n", "has more than 1048576 bytes"),
        (b'image_path,"text\n1,2\n', "the record in lines 1 to 2, the last one lacks a closing quotation mark"),
        (b"\x1f\x8b\x08", "is compressed; pipe it through zcat"),
        (b"PAR1\x15\x04\0\n", "line 1: a NUL byte: at position 7; the file looks like a Parquet file"),
    ],
)
def test_an_input_without_a_usable_header_is_an_error(content, message):
    with pytest.raises(InputError) as error:
        read(content)
    assert str(error.value).startswith("in.csv: ")
    assert message in str(error.value)


def test_tsv_with_commas_names_the_option():
    with pytest.raises(InputError, match="separated by ,: use --input-format csv"):
        read(HEAD, kind=Tsv)


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
    with open(reader, "rb") as file, open(writer, "wb", buffering=0) as pipe:
        pipe.write(HEAD + b'a,"b\n')
        rows = Csv().read_rows(Input("a pipe", file, file, None, "a pipe"), OPTIONS, whole=True)
        pipe.write(b'c"\nd,')
        assert next(rows).inputs.texts == ("b\nc",)
        pipe.write(b"e\n")
        row = next(rows)
        assert (row.number, row.offset, row.inputs.texts) == (4, 0, ("e",))


def test_memory_for_many_records_is_bounded(tmp_path):
    path = tmp_path / "in.csv"
    record = b'a,"' + b"x" * 2**20 + b'\n"\n'
    with path.open("wb") as file:
        file.writelines([HEAD, *[record] * 60])
    tracemalloc.start()
    with (tmp_path / "out.csv").open("wb") as file:
        Csv().write_file(file, open_input(str(path)), iter([0.5] * 60), OPTIONS, "csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * MEBIBYTE
    assert (tmp_path / "out.csv").stat().st_size == path.stat().st_size + 60 * 5 + 28


@pytest.mark.parametrize(
    "content",
    [
        HEAD + b'a,"' + b'""' * 2**22 + b'"\n',
        HEAD + b"," * 2**23 + b"\n",
        HEAD + b'"",' * 2**21 + b"\n",
        HEAD + b'a,"' + b"\n" * 2**19 + b'"\n',
    ],
    ids=["quotes", "commas", "quoted fields", "lines"],
)
def test_a_hostile_record_needs_little_memory(content):
    source = input_of(content)
    tracemalloc.start()
    (row,) = (row for row in Csv().read_rows(source, OPTIONS, whole=True) if row is not Mark.PAUSE)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.1 * row.size + MEBIBYTE
    assert peak < 10 * len(content) + MEBIBYTE


def flipped(content: bytes, seed: int) -> bytes:
    """Return the content with one to three bytes changed, or cut."""
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(changed))] = chance.choice([chance.randrange(256), *b'",\n\r\0'])
    return bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.1 else changed)


def check_flips(seeds: range) -> None:
    """Each record is a row, or the input an error, and no byte of a record is lost."""
    lines = [f'"{i}",pictures/{i}.png,"A ""cat"",\nno {i}","{{""a"": [1]}}"' for i in range(20)]
    content = "\r\n".join(["id,image_path,text,meta", *lines, ""]).encode()
    for seed in seeds:
        changed = flipped(content, seed)
        try:
            text, rows = read(changed)
        except LongCLIPError as error:
            assert str(error).startswith("in.csv: ")
            continue
        rest = changed[changed.index(b"\n") + 1 :]
        for row in rows:
            blank, _, rest = rest.partition(text.content_of(row))
            assert not blank.strip()
        assert not rest.strip()
        for row in rows:
            result = row.inputs if isinstance(row.inputs, RowError) else 0.5
            output = text.encode_row(row, KEY, result)
            if not isinstance(row.inputs, RowError):
                body = row.origin.rstrip(b"\r\n")
                assert output == body + b",0.5," + row.origin[len(body) :]
            fields = json.loads(text.encode_line(row, KEY, result), object_pairs_hook=list)
            assert [value for name, value in fields if name == KEY] == [None if result is row.inputs else 0.5]
        through_jsonl(changed, *[0.5] * len(rows))


def test_changed_bytes_give_errors_and_lose_nothing():
    check_flips(range(60))


@pytest.mark.stress
def test_changed_bytes_give_errors_and_lose_nothing_500_times():
    check_flips(range(500))
