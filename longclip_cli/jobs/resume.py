"""Continuing an interrupted run: each existing row is compared with its input line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from longclip_cli.errors import OutputError, RowError
from longclip_cli.formats.jsonl import encode_record, parse_line, parse_object
from longclip_cli.options import error_key
from longclip_cli.reporting.summary import Summary
from longclip_cli.storage.source import Line


def skip_kept(lines: Iterator[Line], kept: Iterable[bytes], output_key: str, summary: Summary) -> None:
    """Take the lines whose rows exist from the input, and count those rows.

    Raise `OutputError` if a row is not the scored form of its line, since the input is a different one then.
    """
    for number, row in enumerate(kept, 1):
        line = next((line for line in lines if not line.is_blank), None)
        result = result_of(row, output_key)
        if line is None:
            problem = "is after the end of the input"
        elif result is None:
            problem = f"has no '{output_key}' from 0 to 1, and no error"
        elif encode_record(parse_line(line)[0], output_key, result) != row:
            problem = f"is not line {line.number} of the input with its score"
        else:
            summary.add_kept(line, result)
            continue
        raise OutputError(
            f"cannot resume: row {number} of the partial output {problem}. "
            "Use the same input. To score all rows, remove --resume"
        )


def result_of(row: bytes, output_key: str) -> float | RowError | None:
    """Return the score or the error in an output line; `None` if no run has written this line.

    A score is a number in [0, 1].
    """
    fields = parse_object(Line(1, row, 0))
    if isinstance(fields, RowError) or output_key not in fields:
        return None
    score, error = fields[output_key], fields.get(error_key(output_key))
    if isinstance(score, int | float) and not isinstance(score, bool):
        return float(score) if 0 <= score <= 1 else None
    return RowError.from_message(str(error))
