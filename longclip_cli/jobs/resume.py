"""Continuing an interrupted run: each existing row is compared with its input line."""

from __future__ import annotations

from collections.abc import Iterable

from longclip_cli.errors import OutputError, RowError
from longclip_cli.formats.jsonl import encode_row, parse_object
from longclip_cli.formats.lines import Line
from longclip_cli.options import error_key
from longclip_cli.reporting.summary import Summary
from longclip_cli.rows import Mark, Result, Rows


def skip_kept(rows: Rows, kept: Iterable[bytes], output_key: str, summary: Summary) -> None:
    """Take the rows that are written already from the input, and count them.

    Raise `OutputError` if a line is not a row of the input with its result, since the input is a different one then.
    """
    for number, line in enumerate(kept, 1):
        row = next((row for row in rows if row is not Mark.PAUSE), None)
        result = result_of(line, output_key)
        if row is None:
            problem = "is after the end of the input"
        elif result is None:
            problem = f"has no '{output_key}' from 0 to 1, and no error"
        elif encode_row(row, output_key, result) != line:
            problem = f"is not line {row.number} of the input with its score"
        else:
            summary.add_kept(row, result)
            continue
        raise OutputError(
            f"cannot resume: row {number} of the partial output {problem}. "
            "Use the same input. To score all rows, remove --resume"
        )


def result_of(line: bytes, output_key: str) -> Result | None:
    """Return the score or the error in an output line; `None` if no run has written this line.

    A score is a number in [0, 1].
    """
    try:
        fields = parse_object(Line(1, line, 0))
    except RowError:
        return None
    if output_key not in fields:
        return None
    score, error = fields[output_key], fields.get(error_key(output_key))
    if isinstance(score, int | float) and not isinstance(score, bool):
        return float(score) if 0 <= score <= 1 else None
    return RowError.from_message(str(error))
