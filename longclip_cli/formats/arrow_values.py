"""Arrow arrays as the values that JSON has, so that rows look alike whether they come as Parquet or JSONL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson

Array = Any  # pyarrow.Array: pyarrow has no types
DataType = Any  # pyarrow.DataType
UNITS_IN_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def python_values(array: Array, *, with_binary: bool = True) -> list[Any]:
    """Return the values of an array as `json` would have them, or `bytes`. Structs can be had without their bytes.

    Dates, times and decimals are strings (ISO 8601; a time with a zone in UTC, with `Z`), maps with keys that are
    strings are objects. Text that is not UTF-8 becomes `bytes`. Values of a dictionary are shared, not copied.
    """
    from pyarrow import BaseExtensionType, types

    kind = array.type
    if isinstance(kind, BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return [value and str(UUID(bytes=value)) for value in array.storage.to_pylist()]
        return python_values(array.storage, with_binary=with_binary)
    if types.is_dictionary(kind):
        used = array.indices.drop_null().unique()
        distinct = dict(zip(used.to_pylist(), python_values(array.dictionary.take(used)), strict=True))
        return [distinct.get(index) for index in array.indices.to_pylist()]
    if types.is_struct(kind):
        return objects(array, with_binary)
    if types.is_map(kind):
        return maps(array, with_binary)
    if types.is_fixed_size_list(kind):
        size = kind.list_size
        values = python_values(array.values.slice(array.offset * size, len(array) * size), with_binary=with_binary)
        return masked(array, (values[begin : begin + size] for begin in range(0, len(array) * size, size or 1)))
    if types.is_list(kind) or types.is_large_list(kind):
        return masked(array, parts(array, python_values(inner(array, array.values), with_binary=with_binary)))
    if is_text(kind):
        return texts(array)
    if types.is_temporal(kind):
        return times(array)
    if types.is_decimal(kind):
        return [None if value is None else format(value, "f") for value in array.to_pylist()]
    if types.is_float16(kind):
        return [None if value is None else float(value) for value in array.to_pylist()]
    return list(array.to_pylist())


def json_of(value: object) -> bytes:
    """Return a value in JSON. Numbers that JSON lacks (NaN, infinity) are `null`."""
    return orjson.dumps(value, default=as_text, option=orjson.OPT_NON_STR_KEYS)


def as_text(value: object) -> str:
    """Return what is none of JSON's values as a string; bytes that are not UTF-8 become `\\xff`."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def objects(array: Array, with_binary: bool) -> list[Any]:
    """Return the values of an array of structs."""
    fields = [
        (field.name, python_values(array.field(index), with_binary=with_binary))
        for index, field in enumerate(array.type)
        if with_binary or not is_all_binary(field.type)
    ]
    names = [name for name, _ in fields]
    if not names:
        return masked(array, ({} for _ in range(len(array))))
    rows = zip(*(values for _, values in fields), strict=True)
    return masked(array, (dict(zip(names, row, strict=True)) for row in rows))


def maps(array: Array, with_binary: bool) -> list[Any]:
    """Return the values of an array of maps: objects, or lists of pairs if the keys are no strings."""
    keys = python_values(inner(array, array.keys))
    items = python_values(inner(array, array.items), with_binary=with_binary)
    pairs = parts(array, list(zip(keys, items, strict=True)))
    if is_text(array.type.key_type):
        return masked(array, ({as_text(key): item for key, item in part} for part in pairs))
    return masked(array, ([list(pair) for pair in part] for part in pairs))


def inner(array: Array, values: Array) -> Array:
    """Return those of the values inside lists that belong to this slice of them."""
    begin, end = (array.offsets[0].as_py(), array.offsets[-1].as_py()) if len(array) else (0, 0)
    return values.slice(begin, end - begin)


def parts(array: Array, values: list[Any]) -> Iterator[list[Any]]:
    """Yield the values of each list, from all that are inside."""
    offsets = array.offsets.to_pylist() if len(array) else [0]
    first = offsets[0]
    for begin, end in pairwise(offsets):
        yield values[begin - first : end - first]


def masked(array: Array, values: Iterator[Any]) -> list[Any]:
    """Return values, with `None` where the array has null."""
    if not array.null_count:
        return list(values)
    return [value if is_valid else None for value, is_valid in zip(values, array.is_valid().to_pylist(), strict=True)]


def texts(array: Array) -> list[Any]:
    """Return the values of an array of strings; those that are not UTF-8 as `bytes`."""
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError:
        buffers = [value.as_buffer() if value.is_valid else None for value in array]
        return [None if buffer is None else decoded(buffer.to_pybytes()) for buffer in buffers]


def decoded(content: bytes) -> str | bytes:
    """Return a text, or its bytes if they are not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def times(array: Array) -> list[Any]:
    """Return dates, times of day, timestamps and durations as ISO 8601, exactly, whatever their range."""
    import numpy as np
    import pyarrow
    from pyarrow import types

    kind = array.type
    if types.is_interval(kind):
        return [None if value is None else str(value) for value in array.to_pylist()]
    numbers = array.view(pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64())
    if types.is_duration(kind):
        return [None if value is None else duration(value, kind.unit) for value in numbers.to_pylist()]
    unit = "D" if types.is_date32(kind) else "ms" if types.is_date64(kind) else kind.unit
    moments = numbers.fill_null(0).to_numpy(zero_copy_only=False).astype("int64").view(f"datetime64[{unit}]")
    if types.is_date64(kind):
        moments = moments.astype("datetime64[D]")
    iso = np.datetime_as_string(moments).tolist()
    if types.is_time(kind):
        iso = [text.partition("T")[2] for text in iso]
    elif types.is_timestamp(kind) and kind.tz:
        iso = [f"{text}Z" for text in iso]
    return masked(array, iter(iso))


def duration(value: int, unit: str) -> str:
    """Return a duration as ISO 8601 has it, in seconds."""
    seconds, rest = divmod(abs(value), UNITS_IN_A_SECOND[unit])
    fraction = f".{rest:0{len(str(UNITS_IN_A_SECOND[unit])) - 1}}" if rest else ""
    return f"{'-' * (value < 0)}PT{seconds}{fraction}S"


def is_text(kind: DataType) -> bool:
    """Return whether values of a type are strings."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_binary(kind: DataType) -> bool:
    """Return whether values of a type are bytes."""
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        return kind.extension_name != "arrow.uuid" and is_binary(kind.storage_type)
    if types.is_dictionary(kind):
        return is_binary(kind.value_type)
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(kind) for test in tests)


def children(kind: DataType) -> list[DataType]:
    """Return the types inside a nested type; none for others."""
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        return children(kind.storage_type)
    if types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(index).type for index in range(kind.num_fields)] if types.is_nested(kind) else []


def is_all_binary(kind: DataType) -> bool:
    """Return whether nothing is left of values of a type without their bytes; a map is kept whole or not at all."""
    from pyarrow import types

    if types.is_map(kind):
        return has_binary(kind)
    inside = children(kind)
    return is_binary(kind) or (bool(inside) and all(map(is_all_binary, inside)))


def has_binary(kind: DataType) -> bool:
    """Return whether values of a type hold bytes."""
    return is_binary(kind) or any(map(has_binary, children(kind)))
