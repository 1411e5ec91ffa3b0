"""Lines to records and back: the score is added and nothing else changes."""

import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.detect import FORMATS
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.jsonl import Record, read_line
from longclip_cli.formats.lines import BLANK_BYTES, Line
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark, Row, RowInputs
from longclip_cli.storage.source import open_input

KEY = "clip_score"
JSONL = FORMATS["jsonl"]
OPTIONS = ScoringOptions()
FIELDS = InputFields(OPTIONS)


def row_of(content: bytes, number: int = 1) -> Row:
    return read_line(Line(number, content, 0), FIELDS)


def encode(content: bytes, result: float | RowError = 0.5) -> bytes:
    return JSONL.encode_line(row_of(content), KEY, result)


def exact_members(line: bytes) -> list[tuple[str, object]]:
    """Return the members of a JSON object in order, with duplicates, and numbers as written."""
    return json.loads(line.decode(), parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=list)


numbers = st.integers() | st.floats() | st.integers(min_value=10**29, max_value=10**40)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(), max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
keys = st.text(max_size=6) | st.sampled_from(["image_path", "text", '"', "\\", "}", "a{b", "clip_score_input"])
objects = st.dictionaries(keys.filter(lambda key: key not in (KEY, f"{KEY}_error")), values, max_size=5)
layouts = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\t: "), (",\r", " :")]),
    }
)
endings = st.sampled_from([b"", b"\n", b"\r\n", b" \t\n", b" "])


def dump(value: object, layout: dict) -> bytes:
    # JSON can hold lone surrogates only as escapes.
    try:
        return json.dumps(value, **layout).encode()
    except UnicodeEncodeError:
        return json.dumps(value, **(layout | {"ensure_ascii": True})).encode()


@given(objects, layouts, endings)
def test_a_new_score_is_added_and_every_other_byte_stays(fields, layout, ending):
    line = dump(fields, layout) + ending
    output = encode(line, 0.25)
    body = line[: line.rindex(b"}")]
    assert output.startswith(body)
    assert output.endswith(b"\n")
    assert output.count(b"\n") == 1
    assert exact_members(output) == [*exact_members(line), (KEY, "0.25")]


@given(objects, objects, values, layouts, endings)
def test_an_old_score_and_error_are_replaced_and_the_rest_stays(before, after, old, layout, ending):
    fields = {**before, KEY: old, f"{KEY}_error": old, **{f"{name}'": value for name, value in after.items()}}
    line = dump(fields, layout) + ending
    kept = [member for member in exact_members(line) if member[0] not in (KEY, f"{KEY}_error")]
    assert exact_members(encode(line, 0.25)) == [*kept, (KEY, "0.25")]


@given(objects, layouts)
def test_an_error_is_added_with_a_null_score(fields, layout):
    line = dump(fields, layout)
    *kept, score, error = exact_members(encode(line, RowError(Reason.NO_SUCH_FILE, 'a "b"\ud800.png')))
    assert kept == exact_members(line)
    assert score == (KEY, None)
    assert error == (f"{KEY}_error", 'image: no such file: a "b"\\ud800.png')


@given(st.binary(max_size=40).filter(lambda content: b"\n" not in content))
@example(b"\xff\xfe{")
@example(b"[" * 100_000)
@example(b'{"a":' * 3000 + b"1" + b"}" * 3000)
@example(b"[1, 2]")
@example(b'"text"')
@example(b'{"a": "tab\tin a string"}')
def test_a_line_that_is_not_an_object_is_kept_as_a_string(content):
    row = row_of(content, 17)
    if isinstance(row.origin.keys, RowError):
        output = orjson.loads(JSONL.encode_line(row, KEY, row.inputs))
        assert output[KEY] is None
        assert output[f"{KEY}_error"].startswith(("line 17: not ", "line 17: nested "))
        expected = content.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        assert output[f"{KEY}_input"] == expected
    else:
        assert isinstance(json.loads(content.decode()), dict)


def test_a_byte_order_mark_is_accepted_only_in_the_first_line():
    assert row_of(b"\xef\xbb\xbf{}", 1).origin.keys == ()
    assert isinstance(row_of(b"\xef\xbb\xbf{}", 2).origin.keys, RowError)


def test_a_row_keeps_its_field_names_and_not_their_values():
    content = b'{"image_path": "a.png", "text": "a cat", "long": "value"}'
    row = row_of(content)
    assert row.inputs == RowInputs(("a.png",), ("a cat",))
    assert row.origin == Record(content, ("image_path", "text", "long"))
    assert JSONL.fields_of(row) == {"image_path": "a.png", "text": "a cat", "long": "value"}


def test_a_long_run_of_blank_lines_is_a_pause(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"{}\n" + b"\n" * (BLANK_BYTES + 2) + b"{}\n")
    rows = JSONL.read_rows(open_input(str(tmp_path / "in.jsonl")), OPTIONS, whole=True)
    assert [row if row is Mark.PAUSE else row.number for row in rows] == [1, Mark.PAUSE, BLANK_BYTES + 4]


@pytest.mark.parametrize("error", [RuntimeError("no"), MemoryError()])
def test_any_error_while_a_line_is_parsed_is_a_row_error(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr("longclip_cli.formats.json_text.orjson.loads", fail)
    monkeypatch.setattr("longclip_cli.formats.json_text.LENIENT_JSON.decode", fail)
    row = row_of(b"{}")
    assert row.inputs.reason.startswith("row: ")
    assert json.loads(JSONL.encode_line(row, KEY, row.inputs)) | {f"{KEY}_error": ""} == {
        KEY: None,
        f"{KEY}_error": "",
        f"{KEY}_input": "{}",
    }
