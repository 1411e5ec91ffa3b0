"""JSON objects as text: members are added and replaced, and all other bytes stay."""

from codecs import BOM_UTF8

import pytest

from longclip_cli.formats.json_text import parse_object, with_members

REPLACED = {"clip_score", "clip_score_error"}


def with_score(content: bytes) -> bytes:
    keys = parse_object(content.removeprefix(BOM_UTF8), 1).keys()
    return with_members(content, keys, {"clip_score": b"0.5"}, replaced=REPLACED)


@pytest.mark.parametrize(
    "content",
    [
        b'{"n": 123456789012345678901234567890}',
        b'{"a": 1, "a": 2}',
        b'{"price": 1.10}',
        b'{"x": NaN, "y": -Infinity, "z": 1e400}',
        b'{"zh": "\\u4e2d", "half": "\\ud800"}',
        b'{"deep": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'  { "a" : "}" }  ',
        b"\xef\xbb\xbf" + b'{"a": "after a byte order mark"}',
    ],
    ids=["30 digits", "duplicate", "1.10", "no finite number", "escapes", "deep", "blanks", "byte order mark"],
)
def test_details_that_json_libraries_would_change_stay(content):
    brace = content.rindex(b"}")
    assert with_score(content) == content[:brace] + b', "clip_score": 0.5' + content[brace:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{}", b'{"clip_score": 0.5}'),
        (b'{"clip_score": 1}', b'{"clip_score": 0.5}'),
        (b'{"clip_score": 1, "a": 2}', b'{"a": 2, "clip_score": 0.5}'),
        (b'{"a": 1, "clip_score": {"b": [1, 2]}, "c": 3}\r\n', b'{"a": 1, "c": 3, "clip_score": 0.5}\r\n'),
        (b'{"a": 1, "clip\\u005fscore": 2, "clip_score": 3}', b'{"a": 1, "clip_score": 0.5}'),
        (b'{"a": {"clip_score": 1}}', b'{"a": {"clip_score": 1}, "clip_score": 0.5}'),
        (b'{"a": 1, "clip_score": null, "clip_score_error": "image"}', b'{"a": 1, "clip_score": 0.5}'),
    ],
)
def test_an_existing_score_is_replaced(content, expected):
    assert with_score(content) == expected
