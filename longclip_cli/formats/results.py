"""Results as members of a JSON object, and back."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping

import orjson

from longclip_cli.errors import RowError
from longclip_cli.formats.json_text import json_string, object_of, parse_object
from longclip_cli.options import error_key
from longclip_cli.rows import Result, Score, error_of

SCORE_DECIMALS = 6


def result_members(output_key: str, result: Result) -> dict[str, bytes]:
    """Return the fields that a result adds to its row, with JSON values: scores and, if one failed, the error."""
    if isinstance(result, tuple):
        added = {output_key: b"[%b]" % b", ".join(map(score_text, result))}
    else:
        added = {output_key: score_text(result)}
    error = error_of(result)
    return added | {error_key(output_key): json_string(str(error))} if error else added


def score_text(score: Score) -> bytes:
    """Return a score in JSON, `null` if it failed."""
    return b"null" if isinstance(score, RowError) else orjson.dumps(round(score, SCORE_DECIMALS))


def encode_result(output_key: str, result: Result) -> bytes:
    """Return a line of JSON with nothing but a result."""
    return object_of(result_members(output_key, result)) + b"\n"


def decode_result(line: bytes, output_key: str) -> Result | None:
    """Return the result in an output line; `None` if no run has written this line. A score is a number in [0, 1]."""
    try:
        return result_of(parse_object(line.removeprefix(BOM_UTF8), 1), output_key)
    except RowError:
        return None


def result_of(fields: Mapping[str, object], output_key: str) -> Result | None:
    """Return the result that a row's fields hold; `None` if they hold none that a run has written."""
    if output_key not in fields:
        return None
    value, message = fields[output_key], str(fields.get(error_key(output_key)))
    if not isinstance(value, list):
        return RowError.from_message(message) if value is None else score_of(value)
    errors = iter(element_errors([index for index, score in enumerate(value) if score is None], message))
    scores = tuple(next(errors, None) if score is None else score_of(score) for score in value)
    whole = tuple(score for score in scores if score is not None)
    return whole if whole and len(whole) == len(scores) else None


def score_of(value: object) -> float | None:
    """Return a score; `None` if the value is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None  # type: ignore[operator, arg-type]


def element_errors(indices: list[int], message: str) -> list[RowError | None]:
    """Return the errors of the failed elements of a list, from their joined message (see `rows.error_of`)."""
    errors = []
    rest = message.removeprefix(f"[{indices[0]}] ") if indices else ""
    for following in indices[1:]:
        this, _, rest = rest.partition(f"; [{following}] ")
        errors.append(RowError.from_message(this))
    return [*errors, RowError.from_message(rest)] if indices else []
