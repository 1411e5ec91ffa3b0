"""What other programs keep in the metadata of a Parquet file, brought up to date with the columns of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Names: TypeAlias = tuple[str, str]  # of the columns of scores and of errors
Extend: TypeAlias = Callable[[Any, Names, bool], None]


def with_columns(metadata: Mapping[bytes, bytes], names: Names, *, is_list: bool) -> dict[bytes, bytes]:
    """Return metadata that describes the columns of results too. Values that cannot be understood are kept."""
    extended = dict(metadata)
    for key, extend in EXTENSIONS.items():
        if key in metadata:
            try:
                values = json.loads(metadata[key])
                extend(values, names, is_list)
                extended[key] = json.dumps(values).encode()
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue
    return extended


def extend_huggingface(values: Any, names: Names, is_list: bool) -> None:
    """Add the columns to the features of a data set, as `datasets` writes them."""
    features = values["info"]["features"]
    score: dict[str, Any] = {"dtype": "float64", "_type": "Value"}
    score = {"feature": score, "_type": "List"} if is_list else score
    for name, feature in zip(names, (score, {"dtype": "string", "_type": "Value"}), strict=True):
        features.pop(name, None)
        features[name] = feature


def extend_pandas(values: Any, names: Names, is_list: bool) -> None:
    """Add the columns to those of a data frame; an index of one of these names is no index any more."""
    score = ("list[float64]", "object") if is_list else ("float64", "float64")
    values["columns"] = [column for column in values["columns"] if column.get("field_name") not in names]
    values["index_columns"] = [column for column in values["index_columns"] if column not in names]
    for name, (pandas_type, numpy_type) in zip(names, (score, ("unicode", "object")), strict=True):
        about = {"name": name, "field_name": name, "pandas_type": pandas_type, "numpy_type": numpy_type}
        values["columns"].append(about | {"metadata": None})


def extend_spark(values: Any, names: Names, is_list: bool) -> None:
    """Add the columns to the schema of a table, without which Spark would not show them."""
    score = {"type": "array", "elementType": "double", "containsNull": True} if is_list else "double"
    values["fields"] = [column for column in values["fields"] if column["name"] not in names]
    for name, kind in zip(names, (score, "string"), strict=True):
        values["fields"].append({"name": name, "type": kind, "nullable": True, "metadata": {}})


EXTENSIONS: dict[bytes, Extend] = {
    b"huggingface": extend_huggingface,
    b"pandas": extend_pandas,
    b"org.apache.spark.sql.parquet.row.metadata": extend_spark,
}
