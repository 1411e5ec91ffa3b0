"""Keys of the command line: names, paths into a row, and what a wrong one was meant to be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import Reason, RowError, UsageError
from longclip_cli.formats.selectors import MOST_PATHS, nearest_path, parse_selector, paths_of, write_path

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


def find(key: str, row: dict | None = None) -> object:
    return parse_selector(key).find(ROW if row is None else row, Reason.NO_TEXT_FIELD)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "a.jpg"),
        (".image", "a.jpg"),
        ("meta.path", "plain"),
        (".meta.path", "b.jpg"),
        ('."meta.path"', "plain"),
        ('."meta\\u002epath"', "plain"),
        ('.meta."a b".c', 1),
        ('.meta["a b"].c', 1),
        ('.["meta"].["path"]', "b.jpg"),
        (".conversations[1].value", "A"),
        (".conversations.[0].value", "Q"),
        (".conversations[-1].value", "A"),
        (".conversations[].value", ["Q", "A"]),
        (".conversations[-2]", ROW["conversations"][0]),
        (".captions[]", ["x", "y"]),
        (".captions", ["x", "y"]),
        (".groups[].texts[]", ["a", "b", "c"]),
        (".groups[0].texts[]", ["a", "b"]),
        (".groups[1].texts[]", []),
        (".json.caption", "inside"),
        (".json.sizes[0]", 1),
        (".json.more.deep[0]", 7),
        ('.".hidden"', 0),
        ('.""', "blank"),
        ("none", None),
    ],
)
def test_a_key_finds_its_value(key, value):
    assert find(key) == value


@pytest.mark.parametrize(
    "key",
    [
        "path",
        "captions[0]",
        ".absent",
        ".meta.absent",
        ".captions[2]",
        ".captions[-3]",
        ".captions.x",
        ".meta[0]",
        ".meta[]",
        ".id.x",
        ".id[0]",
        ".none.x",
        ".none[]",
        ".image[]",
        ".groups[].texts[0]",
        ".conversations[].absent",
        ".json.absent",
        ".json[0]",
    ],
)
def test_a_value_that_is_missing_is_an_error_that_names_the_key(key):
    with pytest.raises(RowError) as raised:
        find(key)
    assert raised.value.label == str(raised.value) == f"text: no field '{key}'"


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"b": "\ud800"}', "{" * 2**21])
def test_a_string_that_is_not_such_json_has_no_fields(text):
    with pytest.raises(RowError):
        find(".json.a.b", {"json": text})


def test_long_json_in_a_string_is_not_parsed():
    for length, is_parsed in ((2**20 - 100, True), (2**20 + 100, False)):
        row = {"json": json.dumps({"a": "x" * length})}
        if is_parsed:
            assert len(find(".json.a", row)) == length
        else:
            with pytest.raises(RowError):
                find(".json.a", row)


def test_all_elements_give_a_list_of_any_length():
    selector = parse_selector(".a[]")
    assert selector.is_list
    assert not parse_selector(".a[0]").is_list
    assert not parse_selector("a[]").is_list
    for elements in ([], [1], [1, 2]):
        assert selector.find({"a": elements}, Reason.NO_TEXT_FIELD) == elements


@pytest.mark.parametrize(
    ("key", "position"),
    [
        (".", 1),
        ("..a", 1),
        (".[0]", 1),
        (".[]", 1),
        (".a.", 3),
        (".a..b", 3),
        (".a b", 3),
        (".a[x]", 3),
        (".a[1", 3),
        (".a[1:2]", 3),
        (".a[--1]", 3),
        (".a[-]", 3),
        (".a[]?", 5),
        (".a[1]b", 6),
        ('.a."b', 3),
        ('.a."\\x"', 3),
        ('."a"b', 5),
        (".a | .b", 3),
        (".a[" + "9" * 5000 + "]", 3),
    ],
)
def test_a_syntax_error_is_a_usage_error_with_its_position(key, position):
    with pytest.raises(UsageError, match=f"not a path at character {position}\\b") as raised:
        parse_selector(key)
    assert len(str(raised.value)) < 300


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_a_name_in_quotes_is_any_name(name):
    assert find(f".{json.dumps(name)}", {name: 1}) == 1
    assert find(write_path([name, name, None]), {name: {name: [1]}}) == [1]


@given(st.text('.[]"\\ab0- ', max_size=12))
def test_any_key_is_a_selector_or_a_usage_error(key):
    try:
        selector = parse_selector(key)
    except UsageError:
        assert key.startswith(".")
    else:
        assert selector.key == key
        written = write_path([selector.name, *selector.steps])
        assert (parse_selector(written).name, parse_selector(written).steps) == (selector.name, selector.steps)


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
        find(path, row)


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
