"""Arrow's types as values of JSON."""

import json
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.formats.arrow_values import has_binary, is_all_binary, json_of, python_values

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
UUIDS = pa.array([UUID(int=1).bytes], pa.binary(16))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1], pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
        (pa.array([-(2**62)], pa.timestamp("us", tz="No/Zone")), "-144169-06-28T09:59:32.612096Z"),
        (pa.array([date(2024, 2, 29)]), "2024-02-29"),
        (pa.array([2**31 - 1], pa.int32()).view(pa.date32()), "5881580-07-11"),
        (pa.array([date(2024, 2, 29)], pa.date64()), "2024-02-29"),
        (pa.array([1001], pa.time32("ms")), "00:00:01.001"),
        (pa.array([1], pa.time64("ns")), "00:00:00.000000001"),
        (pa.array([timedelta(seconds=-1.5)], pa.duration("ms")), "-PT1.500S"),
        (pa.array([Decimal("0.0000001")]), "0.0000001"),
        (pa.array([Decimal(10) ** 50], pa.decimal256(60, 0)), "1" + 50 * "0"),
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        (pa.array([1.5], pa.float16()), 1.5),
        (pa.array([float("nan")]), None),
        (pa.array([float("-inf")]), None),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), [1, 2]),
        (pa.array([[("a", [1])]], pa.map_(pa.string(), pa.list_(pa.int8()))), {"a": [1]}),
        (pa.array([[(1, "a")]], pa.map_(pa.int8(), pa.string())), [[1, "a"]]),
        (pa.array([["a", "b"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))), ["a", "b"]),
        (pa.ExtensionArray.from_storage(pa.uuid(), UUIDS), str(UUID(int=1))),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'])), '{"a": 1}'),
        (pa.nulls(1), None),
        (pa.array([b"caf\xe9"]).cast(pa.binary()).view(pa.string()), "caf\\xe9"),
        (pa.array([{"bytes": b"x", "path": "a"}], IMAGE), {"path": "a"}),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_each_type_has_a_value_in_json(array, expected):
    (value,) = python_values(array, with_binary=False)
    assert json.loads(json_of(value)) == expected
    nothing = pa.concat_arrays([array, pa.nulls(1, array.type)]).slice(1)
    assert python_values(nothing) == [None]


def test_bytes_and_invalid_text_are_bytes_in_values():
    assert python_values(pa.array([{"bytes": b"x", "path": None}], IMAGE)) == [{"bytes": b"x", "path": None}]
    assert python_values(pa.array([b"a", b"\xff", None]).view(pa.string())) == ["a", b"\xff", None]


types = st.recursive(
    st.sampled_from([pa.string(), pa.int64(), pa.bool_(), pa.large_string()]),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda kind: pa.list_(kind, 2)),
        st.tuples(inner, inner).map(lambda kinds: pa.struct([("a", kinds[0]), ("b", kinds[1])])),
    ),
    max_leaves=4,
)


def values_of(kind):
    """Return values that an array of a type can hold."""
    if pa.types.is_struct(kind):
        value = st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    elif pa.types.is_fixed_size_list(kind):
        value = st.lists(values_of(kind.value_type), min_size=2, max_size=2)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        value = st.lists(values_of(kind.value_type), max_size=3)
    else:
        integers = st.integers(-(2**63), 2**63 - 1)
        value = {"int64": integers, "bool": st.booleans()}.get(str(kind), st.text(max_size=3))
    return st.none() | value


@given(st.data())
def test_nested_values_are_those_of_the_array_and_its_slices(data):
    kind = data.draw(types)
    values = data.draw(st.lists(values_of(kind), max_size=6))
    array = pa.array(values, kind)
    begin = data.draw(st.integers(0, len(values)))
    assert python_values(array.slice(begin)) == values[begin:]
    assert python_values(array.slice(0, begin), with_binary=False) == values[:begin]


def test_a_dictionary_shares_its_values():
    array = pa.array(["long" * 1000, None, "long" * 1000]).dictionary_encode()
    first, nothing, last = python_values(array)
    assert first is last
    assert nothing is None


def test_what_is_left_without_bytes_is_known_from_the_type():
    assert has_binary(pa.list_(IMAGE))
    assert not is_all_binary(pa.list_(IMAGE))
    assert is_all_binary(pa.list_(pa.struct([("a", pa.large_binary()), ("b", pa.binary(3))])))
    assert is_all_binary(pa.map_(pa.string(), pa.binary()))
    assert not has_binary(pa.uuid())
