"""JSONL: lines to rows, and rows with their results to lines.

A line keeps its bytes: the score is inserted before the closing brace. Nothing is serialised again,
since no JSON library gives back a 30-digit integer, `1.10`, a duplicate key or `NaN` unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.lines import Line, read_lines
from longclip_cli.options import ScoringOptions, error_key
from longclip_cli.rows import JSON_TYPES, Mark, Result, Row, RowErrors, RowInputs, Rows, image_reference, text_of
from longclip_cli.storage.source import Input

SCORE_DECIMALS = 6
UTF8_BOM = b"\xef\xbb\xbf"
# For what orjson rejects although files hold it: NaN, 1e400, lone surrogates. Numbers are
# never used, so none is too large to be read.
LENIENT_JSON = json.JSONDecoder(parse_int=float)
# The tokens that show where a member of an object ends: whole strings, and brackets and commas outside them.
STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Record:
    """A line's bytes and the keys of its object, or the error that says why it is no JSON object.

    The values are not kept: a row may wait for the model, and a field may be large.
    """

    content: bytes
    keys: tuple[str, ...] | RowError


def read_rows(source: Input, options: ScoringOptions) -> Rows:
    """Yield the rows of an input, and `PAUSE` for a long run of blank lines. Raises `InputError`."""
    return (Mark.PAUSE if line.is_blank else read_row(line, options) for line in read_lines(source))


def read_row(line: Line, options: ScoringOptions) -> Row:
    """Return the row that a line holds, with the error of a line that holds none."""
    keys: tuple[str, ...] | RowError
    inputs: RowInputs | RowError
    try:
        with RowErrors():
            fields = parse_object(line)
        keys = tuple(fields)
    except RowError as error:
        keys = inputs = error.with_traceback(None)
    else:
        try:
            inputs = find_inputs(fields, options)
        except RowError as error:
            inputs = error.with_traceback(None)
    # As bytes, and as the string that its image and text are.
    size = 2 * len(line.content)
    return Row(line.number, inputs, Record(line.content, keys), line.offset, size)


def find_inputs(fields: Mapping[str, object], options: ScoringOptions) -> RowInputs:
    """Return the image and the text that an object's fields hold. Raises `RowError`."""
    image = image_reference(field(fields, options.image_key, Reason.NO_IMAGE_FIELD), options.image_key)
    return RowInputs(image, text_of(field(fields, options.text_key, Reason.NO_TEXT_FIELD), options.text_key))


def field(fields: Mapping[str, object], key: str, missing: Reason) -> object:
    """Return the value of a field. Raises `RowError` with the reason `missing`."""
    if key not in fields:
        raise RowError.missing_field(missing, key)
    return fields[key]


def content_of(row: Row) -> bytes:
    """Return the line that a row was read from, line end and all."""
    content: bytes = row.origin.content
    return content


def field_names(row: Row) -> tuple[str, ...]:
    """Return the names of the fields that a row has; none if its line is no JSON object."""
    keys: tuple[str, ...] | RowError = row.origin.keys
    return () if isinstance(keys, RowError) else keys


def parse_object(line: Line) -> dict[str, Any]:
    """Return the object that a line holds. Raises `RowError`."""
    content = line.content.removeprefix(UTF8_BOM) if line.number == 1 else line.content
    try:
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError:
            value = LENIENT_JSON.decode(content.decode().rstrip("\r\n"))
    except RecursionError:
        raise RowError.of_line(Reason.NESTED_TOO_DEEPLY, line.number, "flatten it, or leave it out") from None
    except ValueError as error:
        where = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise RowError.of_line(Reason.NOT_JSON, line.number, where) from None
    if not isinstance(value, dict):
        raise RowError.of_line(Reason.NOT_AN_OBJECT, line.number, f"it is {JSON_TYPES[type(value)]}")
    return value


def encode_row(row: Row, output_key: str, result: Result) -> bytes:
    """Return the output line of a row: its input line and its score, or null and the error.

    Old fields with the output key or its error key are removed. A line that is not a JSON object is kept as a string,
    in which bytes that are not UTF-8 become `\\xff`.
    """
    if isinstance(result, RowError):
        additions = {output_key: b"null", error_key(output_key): json_string(str(result))}
    else:
        additions = {output_key: orjson.dumps(round(result, SCORE_DECIMALS))}
    record: Record = row.origin
    content = record.content
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
    """Return the members of a JSON object, from keys and encoded values."""
    return b", ".join(b"%b: %b" % (json_string(key), value) for key, value in values.items())


def json_string(text: str) -> bytes:
    """Return a JSON string. Lone surrogates, which UTF-8 cannot hold, become `\\udc00`."""
    return orjson.dumps(text.encode("utf-8", "backslashreplace").decode())


def without_members(opened: bytes, keys: set[str]) -> bytes:
    """Return an object, given without its closing brace, less the members with these keys; others keep their bytes."""
    start = opened.index(b"{") + 1
    spans = list(member_spans(opened))
    kept = [opened[begin:end] for begin, end in spans if member_key(opened, begin) not in keys]
    first = opened[start : spans[0][1]]
    blank = first[: len(first) - len(first.lstrip())]  # between the brace and whichever member comes first
    return opened[:start] + blank * bool(kept) + b",".join(kept).lstrip()


def member_spans(opened: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each member of an object, given without its closing brace, begins and ends."""
    depth = begin = 0
    for token in STRUCTURE.finditer(opened):
        kind = token[0]
        if kind in (b"{", b"["):
            depth += 1
            begin = begin or token.end()
        elif kind in (b"}", b"]"):
            depth -= 1
        elif kind == b"," and depth == 1:
            yield begin, token.start()
            begin = token.end()
    yield begin, len(opened)


def member_key(opened: bytes, begin: int) -> str:
    """Return the key of the member that begins at `begin`."""
    key = STRUCTURE.search(opened, begin)
    assert key, "a member begins with its key"
    return str(json.loads(key[0]))
