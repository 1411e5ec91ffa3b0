"""JSON arrays: elements to rows and back."""

import io
import json

import pytest
from helpers import parse_jsonl
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.detect import FORMATS
from longclip_cli.formats.results import decode_result
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark
from longclip_cli.storage.source import open_input

JSON = FORMATS["json"]
OPTIONS = ScoringOptions()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture
def source(tmp_path):
    """Return a function that opens an input with this content."""

    def write(content):
        path = tmp_path / "in.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_input(str(path))

    return write


def rows_of(source):
    return [row for row in JSON.read_rows(source, OPTIONS, whole=True) if row is not Mark.PAUSE]


def written(source, results):
    file = io.BytesIO()
    JSON.write_file(file, source, iter(results), OPTIONS, "json")
    return file.getvalue()


def test_elements_are_rows_with_their_numbers(source):
    first, second = rows_of(source('[{"image_path": "a", "text": "b"},\n 7]'))
    assert first.number == 1 and first.inputs.texts == ("b",)
    assert str(second.inputs) == "element 2: not a JSON object: it is a number"
    assert second.inputs.reason is Reason.NOT_AN_OBJECT


def test_elements_keep_their_bytes_in_an_array(source):
    elements = ['{"n": 1.10, "big": 123456789012345678901234567890}', '{ "a" : [ 1,2 ],"a":null }']
    content = written(source("[" + ",".join(elements) + "]"), [0.5, 0.25])
    assert content == (
        b'[\n{"n": 1.10, "big": 123456789012345678901234567890, "clip_score": 0.5},\n'
        b'{ "a" : [ 1,2 ],"a":null , "clip_score": 0.25}\n]\n'
    )


def test_a_member_of_an_indented_element_has_its_own_line(source):
    content = written(source(json.dumps([{"a": 1}, {}], indent=2)), [RowError(Reason.BLANK_TEXT), 0.5])
    assert content.decode() == (
        '[\n{\n    "a": 1,\n    "clip_score": null,\n    "clip_score_error": "text: blank"\n  },\n'
        '{"clip_score": 0.5}\n]\n'
    )


def test_old_scores_are_replaced(source):
    content = written(source('[{"clip_score": 1,\n "a": 2,\n "clip_score_error": "x"}]'), [(0.5, 0.25)])
    assert json.loads(content) == [{"a": 2, "clip_score": [0.5, 0.25]}]
    content = written(source('[{\n "clip_score": 1\n}]'), [0.5])
    assert json.loads(content) == [{"clip_score": 0.5}]


def test_what_is_no_object_is_kept_as_a_string(source):
    error = RowError.of_line(Reason.NOT_AN_OBJECT, 1, "it is a list", "element")
    (row,) = json.loads(written(source("[[1,\n2]]"), [error]))
    assert row["clip_score_input"] == "[1,\n2]" and row["clip_score_error"].startswith("element 1: ")


@pytest.mark.parametrize("content", ["[]", " [\n ] \n"])
def test_an_empty_array_stays_one(source, content):
    assert written(source(content), []) == b"[]\n"


def test_results_may_end_before_the_rows(source):
    assert json.loads(written(source('[{"a": 1}, {"a": 2}]'), [0.5])) == [{"a": 1, "clip_score": 0.5}]


@given(
    elements=st.lists(st.dictionaries(st.text(), VALUES, max_size=4) | VALUES, max_size=5),
    indent=st.none() | st.integers(0, 3),
)
def test_any_array_comes_back_with_scores(tmp_path_factory, elements, indent):
    path = tmp_path_factory.mktemp("array") / "in.json"
    path.write_text(json.dumps(elements, indent=indent), encoding="utf-8")
    results = [
        0.5 if isinstance(element, dict) else RowError.of_line(Reason.NOT_AN_OBJECT, 1, "x") for element in elements
    ]
    array = json.loads(written(open_input(str(path)), results))
    lines = [
        JSON.encode_line(row, "clip_score", result)
        for row, result in zip(rows_of(open_input(str(path))), results, strict=True)
    ]
    assert parse_jsonl(b"".join(lines)) == [json.loads(line) for line in lines], "each is one line"
    for element, row, line in zip(elements, array, lines, strict=True):
        assert row["clip_score"] == json.loads(line)["clip_score"]
        if isinstance(element, dict):
            kept = {key: value for key, value in element.items() if key not in ("clip_score", "clip_score_error")}
            assert row == json.loads(line) == kept | {"clip_score": 0.5}
        assert decode_result(line, "clip_score") is not None
