"""Where records end and which fields they have, compared with Python's csv module."""

import csv
import io

import pytest
from csv_files import input_of
from hypothesis import assume, example, given
from hypothesis import strategies as st

from longclip_cli.errors import InputError
from longclip_cli.formats.dialects import Dialect, split_end
from longclip_cli.formats.records import read_records

DIALECTS = {delimiter: Dialect(delimiter.encode()) for delimiter in ",\t"}
delimiters = st.sampled_from(list(DIALECTS))
values = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8) | st.text(',\t"\n\r x', max_size=6)
tables = st.lists(st.lists(values, min_size=2, max_size=4), min_size=1, max_size=5)


def contents_of(content: bytes, delimiter: str = ",") -> list[bytes]:
    return [record.content for record in read_records(input_of(content), DIALECTS[delimiter])]


def values_of(content: bytes, delimiter: str = ",") -> list[str]:
    dialect, body = DIALECTS[delimiter], split_end(content)[0]
    return [dialect.unquote(field).decode() for field in dialect.split(body, len(body) + 1)]


def read_by_csv(text: str, delimiter: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(map(str.strip, row))]


@given(st.text(',\t"\n xé', max_size=30), delimiters, st.sampled_from(["\n", "\r\n"]))
@example('5" disk,"a ""b"",\nc"\n"d" e,f""\n', ",", "\n")
@example('"""",""\n"\n\n"\n', ",", "\r\n")
def test_fields_are_those_that_the_csv_module_reads(text, delimiter, end):
    """Also where quotes are not as RFC 4180 has them."""
    text = text.replace("\n", end)
    try:
        records = contents_of(text.encode(), delimiter)
    except InputError as error:
        assert "lacks a closing quotation mark" in str(error)
        with pytest.raises(csv.Error, match=r"unexpected end|expected after"):
            list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        return
    read = [row for record in records if any(map(str.strip, row := values_of(record, delimiter)))]
    assert read == read_by_csv(text, delimiter)


@given(st.text(',"\n x', max_size=30))
def test_text_after_a_closing_quote_is_noticed(text):
    assume(text.strip())
    try:
        records = contents_of(text.encode())
    except InputError:
        return
    for record in records:
        try:
            list(csv.reader(io.StringIO(record.decode(), newline=""), strict=True))
        except csv.Error:
            assert not DIALECTS[","].is_well_formed(split_end(record)[0])
        else:
            assert DIALECTS[","].is_well_formed(split_end(record)[0])


@given(tables, delimiters, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_the_csv_module_writes_is_read(table, delimiter, end, is_all_quoted):
    has_bare_cr = any("\r" in value for row in table for value in row)  # which it does not quote by itself
    quoting = csv.QUOTE_ALL if is_all_quoted or has_bare_cr else csv.QUOTE_MINIMAL
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(table)
    text = file.getvalue()
    records = contents_of(text.encode(), delimiter)
    blank = [row for row in table if quoting == csv.QUOTE_MINIMAL and not delimiter.join(row).strip(" \t")]
    assume(not blank)
    assert [values_of(record, delimiter) for record in records] == table
    assert b"".join(records) == text.encode()


@given(st.lists(values, min_size=2, max_size=5), delimiters)
def test_quoted_values_are_read_by_the_csv_module(row, delimiter):
    dialect = DIALECTS[delimiter]
    line = dialect.delimiter.join(dialect.quote(value.encode()) for value in row) + b"\r\n"
    assert list(csv.reader(io.StringIO(line.decode(), newline=""), delimiter=delimiter)) == [row]
    assert values_of(line, delimiter) == row


@given(st.lists(values, min_size=1, max_size=6), st.integers(1, 5))
def test_a_split_stops_after_the_fields_that_are_wanted(row, most):
    dialect = DIALECTS[","]
    fields = [dialect.quote(value.encode()) for value in row]
    split = dialect.split(b",".join(fields), most)
    assert split == [*fields[:most], *([b",".join(fields[most:])] if len(fields) > most else [])]


def test_numbers_are_those_of_first_lines():
    content = b'\n a,b\n"1\n2",3\n  \r\n\r\n4,5'
    records = list(read_records(input_of(content), DIALECTS[","]))
    assert [(record.number, record.content) for record in records] == [
        (2, b" a,b\n"),
        (3, b'"1\n2",3\n'),
        (7, b"4,5"),
    ]


def test_a_record_of_empty_fields_is_not_blank():
    assert contents_of(b",\n \t\n", ",") == [b",\n"]
    assert contents_of(b"\t\n , \n  \n", "\t") == [b"\t\n", b" , \n"]


@pytest.mark.parametrize(
    ("content", "where"), [(b'a,b\n1,"2', "line 2 "), (b'a,b\n1,2\n3,"4\n5,6\n', "lines 3 to 4, the last one ")]
)
def test_an_open_quote_at_the_end_is_an_error(content, where):
    with pytest.raises(InputError, match=f"in.csv: the record in {where}lacks a closing quotation mark"):
        contents_of(content)


def test_an_open_quote_does_not_swallow_the_file(monkeypatch):
    monkeypatch.setattr("longclip_cli.formats.records.MAX_LINE_BYTES", 1000)
    content = b"a,b\n" + b"1,2\n" * 7 + b'3,"4\n' + b"1,2\n" * 1000
    records = read_records(input_of(content), DIALECTS[","])
    assert [next(records).number for _ in range(8)] == list(range(1, 9))
    with pytest.raises(InputError, match="the record that begins in line 9 has more than 1000 bytes; does it lack"):
        next(records)


def test_a_long_record_and_blank_lines_are_pauses(monkeypatch):
    monkeypatch.setattr("longclip_cli.formats.records.BLANK_BYTES", 1000)
    content = b'a\n"' + b"x\n" * 1400 + b'"\n' + b"\n" * 1500 + b"b\n"
    records = list(read_records(input_of(content), DIALECTS[","]))
    assert [len(record.content) for record in records] == [2, 0, 0, 2803, 0, 2]
