"""The paths of a row, and the one that a wrong key means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import Reason
from longclip_cli.formats.paths import MOST_PATHS, nearest_path, paths_of
from longclip_cli.formats.selectors import parse_selector

ROW = {
    "id": "1",
    "image": "a.jpg",
    "meta": {"path": "b.jpg", "a b": {"c": 1}},
    "meta.path": "plain",
    "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
    "captions": ["x", "y"],
    "groups": [{"texts": ["a", "b"]}, {"texts": []}, {"texts": ["c"]}],
    "json": '{"caption": "inside", "sizes": [1, NaN], "more": "{\\"deep\\": [7]}"}',
    ".hidden": 0,
    "": "blank",
    "none": None,
}


def test_paths_are_names_of_fields_and_paths_to_what_they_hold():
    assert paths_of(ROW) == [
        "id",
        "image",
        ".meta.path",
        '.meta."a b".c',
        "meta.path",
        ".conversations[].from",
        ".conversations[].value",
        "captions",
        ".groups[].texts",
        "json",
        ".json.caption",
        ".json.sizes",
        ".json.more",
        ".json.more.deep",
        '.".hidden"',
        '.""',
        "none",
    ]


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(['{"a": [{"b": 1}]}', "{", "[]", "[{}]"]),
    lambda inner: st.lists(inner, max_size=1) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)
rows = st.dictionaries(st.text(max_size=4) | st.just(".a"), values, max_size=4)


@given(rows)
def test_every_path_of_a_row_finds_something_in_it(row):
    """Lists have one element here: others need not have the fields that the first has."""
    paths = paths_of(row)
    assert len(set(paths)) == len(paths)
    for path in paths:
        parse_selector(path).find(row, Reason.NO_TEXT_FIELD)


@pytest.mark.parametrize(
    "row",
    [
        {f"field{i}": i for i in range(1000)},
        {"a": [{f"field{i}": [i]} for i in range(1000)], **{str(i): {"x": i} for i in range(1000)}},
        {"a": [[[[list(range(100))] * 100] * 100] * 100] * 100},
        {"long": {"x" * 2**20: [{str(i): i} for i in range(10**5)]}},
    ],
    ids=["fields", "elements", "nested lists", "long names"],
)
def test_the_paths_of_any_row_are_few_and_short(row):
    paths = paths_of(row)
    assert 0 < len(paths) <= MOST_PATHS
    assert max(map(len, paths)) < 100


def test_a_deep_row_has_paths_of_eight_steps():
    row: dict = {"a": 1}
    for _ in range(500):
        row = {"a": row}
    assert paths_of(row) == [".a" * 8]
    assert paths_of({"a": json.loads("[" * 500 + "]" * 500)}) == [".a" + "[]" * 7]


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("imagepath", "image_path"),
        ("Image_Path", "image_path"),
        (".image_pth", "image_path"),
        (".conversation[1].value", ".conversations[1].value"),
        (".conversation[-1].value", ".conversations[-1].value"),
        (".conversation[].value", ".conversations[].value"),
        (".conversation.value", ".conversations[].value"),
        ("conversations.value", ".conversations[].value"),
        ("conversations[1].value", ".conversations[1].value"),
        ("conversations.1.value", ".conversations[1].value"),
        ("value", ".conversations[].value"),
        (".meta.file", ".meta.path"),
        ("meta.path", ".meta.path"),
        ("path", ".meta.path"),
        (".group[1].text[2]", ".groups[1].texts[2]"),
        (".group[1].text", ".groups[1].texts[]"),
        (".caption[0]", ".captions[0]"),
        ("caption[0]", ".captions[0]"),
        (".caption[]", ".captions[]"),
        (".caption", "captions"),
        (".meta[0].file", ".meta.path"),
        (".conversation[1].value[0]", ".conversations[1].value[0]"),
        ("a b", "a.b"),
        ("zzz", None),
        (".conversations[7].value", None),
        ("image_path", None),
        ("", None),
    ],
)
def test_the_nearest_path_is_what_the_user_probably_meant(key, nearest):
    paths = ["id", "image_path", ".meta.path", ".conversations[].from", ".conversations[].value", ".groups[].texts[]"]
    assert nearest_path(key, [*paths, "captions", "a.b"]) == nearest


@given(st.text(max_size=20) | st.text('.[]"ab1-', max_size=12), rows)
def test_the_nearest_path_is_none_or_a_key(key, row):
    nearest = nearest_path(key, paths_of(row))
    if nearest is not None:
        parse_selector(nearest)
        assert nearest != key


def test_nothing_is_near_where_there_are_no_paths():
    assert nearest_path("image", []) is None
