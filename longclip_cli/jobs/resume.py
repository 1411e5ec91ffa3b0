"""Continuing an interrupted run: each existing row is compared with its row of the input."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from longclip_cli.errors import OutputError
from longclip_cli.formats.results import decode_result
from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.run_record import RunRecord
from longclip_cli.reporting.counts import Counts
from longclip_cli.rows import Mark, Result, Row, Rows


class RowsDifferError(OutputError):
    """The rows that an earlier run has written are not those of this input."""


def skip_kept(
    rows: Rows,
    output: RecordedOutput,
    record: RunRecord,
    encode: Callable[[Row, Result], bytes],
    output_key: str,
    counts: Counts,
) -> Rows:
    """Take the rows that are written already from the input, count them, and return the rest.

    `encode` gives a row as the output has it. If the input has grown, its old last line may have been a part of a line:
    its row is not kept then. Raise `RowsDifferError` if a line is not a row of the input with its result.
    """
    kept = output.kept_lines(record)
    for number, line in enumerate(kept, 1):
        row = next((row for row in rows if row is not Mark.PAUSE), None)
        result = decode_result(line, output_key)
        if row is None:
            problem = "is after the end of the input"
        elif result is None:
            problem = f"has no '{output_key}' from 0 to 1, and no error"
        elif encode(row, result) == line:
            counts.add_kept(row, result)
            continue
        else:
            output.drop_line()
            if output.has_grown and next(kept, None) is None:
                return chain([row], rows)
            problem = f"is not row {row.number} of the input with its score"
        raise RowsDifferError(
            f"cannot resume: row {number} of the partial output {problem}. "
            "Use the same input. To score all rows, remove --resume"
        )
    return rows
