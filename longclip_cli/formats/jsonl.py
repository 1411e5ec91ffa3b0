"""One JSONL line to a `Record`, and a `Record` with its score back to a line.

A line keeps its bytes: the score is spliced in before the closing brace. Nothing is serialised again,
since no JSON library gives back a 30-digit integer, `1.10`, a duplicate key or `NaN` as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from longclip_cli.errors import Reason, RowError, quote
from longclip_cli.options import error_key
from longclip_cli.storage.source import Line

SCORE_DECIMALS = 6
UTF8_BOM = b"\xef\xbb\xbf"
# For what orjson refuses although files hold it: NaN, 1e400, lone surrogates. Numbers are
# never used, so none is too large to be read.
LENIENT_JSON = json.JSONDecoder(parse_int=float)
# What tells where a member of an object ends: strings as a whole, brackets and commas outside them.
STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
JSON_TYPES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A line and the keys of its object, or the error that says why it is no JSON object.

    The values are not kept: a record may wait for the model, and a field may be large.
    """

    line: Line
    keys: tuple[str, ...] | RowError


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of a parsed line, or the error that says why it has none."""

    values: dict[str, Any] | RowError

    def image_path(self, key: str) -> str:
        """Return the path of the row's image as it stands in the row. Raises `RowError`."""
        value = self._field(Reason.NO_IMAGE_FIELD, key)
        if isinstance(value, list):
            if len(value) != 1:
                raise RowError(Reason.NOT_ONE_PATH, f"'{key}' is a list of {len(value)}")
            value = value[0]
        if not isinstance(value, str):
            raise RowError(Reason.NOT_A_PATH, f"'{key}' is {kind_of(value)}")
        if not value.strip():
            raise RowError(Reason.NOT_A_PATH, f"'{key}' is blank")
        if value.startswith("data:"):
            raise RowError(Reason.DATA_URI, quote(value))
        if "://" in value:
            raise RowError(Reason.URL, quote(value))
        return value

    def text(self, key: str) -> str:
        """Return the row's text. Raises `RowError`."""
        value = self._field(Reason.NO_TEXT_FIELD, key)
        if not isinstance(value, str):
            raise RowError(Reason.NOT_A_STRING, f"'{key}' is {kind_of(value)}")
        if not value.strip():
            raise RowError(Reason.BLANK_TEXT, f"'{key}'")
        return value

    def _field(self, missing: Reason, key: str) -> Any:
        if isinstance(self.values, RowError):
            raise self.values
        if key not in self.values:
            raise RowError.missing_field(missing, key)
        return self.values[key]


def kind_of(value: object) -> str:
    """Return what JSON calls a value, or its type if JSON has no such values."""
    return JSON_TYPES.get(type(value), type(value).__name__)


def parse_line(line: Line) -> tuple[Record, Fields]:
    """Return a line's record and its values; both hold the error if it is no JSON object."""
    values = parse_object(line)
    return Record(line, values if isinstance(values, RowError) else tuple(values)), Fields(values)


def parse_object(line: Line) -> dict[str, Any] | RowError:
    """Return the object that a line holds, or the error of a line that holds none."""
    content = line.content.removeprefix(UTF8_BOM) if line.number == 1 else line.content
    try:
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError:
            value = LENIENT_JSON.decode(content.decode().rstrip("\r\n"))
    except RecursionError:
        return RowError.of_line(Reason.NESTED_TOO_DEEPLY, line.number, "flatten it, or leave it out")
    except ValueError as error:
        where = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        return RowError.of_line(Reason.NOT_JSON, line.number, where)
    if not isinstance(value, dict):
        return RowError.of_line(Reason.NOT_AN_OBJECT, line.number, f"it is {JSON_TYPES[type(value)]}")
    return value


def encode_record(record: Record, output_key: str, result: float | RowError) -> bytes:
    """The output line of a record: the input line and its score, or null and the error.

    What stood under the output key or its error key is taken out. A line that is not a JSON object
    is kept as a string, in which bytes that are not UTF-8 stand as `\\xff`.
    """
    if isinstance(result, RowError):
        additions = {output_key: b"null", error_key(output_key): json_string(str(result))}
    else:
        additions = {output_key: orjson.dumps(round(result, SCORE_DECIMALS))}
    content = record.line.content
    if isinstance(record.keys, RowError):
        text = content.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        return b"{%b}\n" % members({**additions, f"{output_key}_input": json_string(text)})
    end = content.rindex(b"}")
    kept, rest = content[:end], content[end:]
    stale = {output_key, error_key(output_key)}.intersection(record.keys)
    if stale:
        kept = without_members(kept, stale)
    separator = b", " if len(record.keys) > len(stale) else b""
    return kept + separator + members(additions) + rest.rstrip(b"\n") + b"\n"


def members(values: dict[str, bytes]) -> bytes:
    """Members of a JSON object, of keys and encoded values."""
    return b", ".join(b"%b: %b" % (json_string(key), value) for key, value in values.items())


def json_string(text: str) -> bytes:
    """A JSON string; lone surrogates, which UTF-8 can't hold, stand in it as `\\udc00`."""
    return orjson.dumps(text.encode("utf-8", "backslashreplace").decode())


def without_members(opened: bytes, keys: set[str]) -> bytes:
    """An object, given without its closing brace, less its members of these keys; the others keep their bytes."""
    start = opened.index(b"{") + 1
    spans = list(member_spans(opened))
    kept = [opened[begin:end] for begin, end in spans if member_key(opened, begin) not in keys]
    first = opened[start : spans[0][1]]
    blank = first[: len(first) - len(first.lstrip())]  # between the brace and whichever member comes first
    return opened[:start] + blank * bool(kept) + b",".join(kept).lstrip()


def member_spans(opened: bytes) -> Iterator[tuple[int, int]]:
    """Where each member of an object, given without its closing brace, begins and ends."""
    depth = begin = 0
    for token in STRUCTURE.finditer(opened):
        kind = token[0]
        if kind in b"{[":
            depth += 1
            begin = begin or token.end()
        elif kind in b"}]":
            depth -= 1
        elif kind == b"," and depth == 1:
            yield begin, token.start()
            begin = token.end()
    yield begin, len(opened)


def member_key(opened: bytes, begin: int) -> str:
    """The key of the member that begins there."""
    key = STRUCTURE.search(opened, begin)
    assert key, "a member begins with its key"
    return str(json.loads(key[0]))
