"""One scored input: its format, and the scores of its rows as whole numbers."""

from __future__ import annotations

from longclip_cli.errors import InputError, RowError, UsageError
from longclip_cli.formats.detect import detect_format
from longclip_cli.formats.format import Format
from longclip_cli.formats.paths import paths_of
from longclip_cli.jobs.criteria import units_of
from longclip_cli.jobs.plan import Part
from longclip_cli.jobs.row_scores import FAILED
from longclip_cli.jobs.select_outputs import check_format
from longclip_cli.jobs.selection import SelectOptions
from longclip_cli.jobs.start import listed
from longclip_cli.rows import REDUCTIONS, Result, Row
from longclip_cli.storage.source import Input, open_input


def open_part(options: SelectOptions, kept: Part, rest: Part | None) -> tuple[Input, Format]:
    """Open an input and find its format. Raises `InputError`, or `UsageError` if outputs can't have this format."""
    source = open_input(kept.input)
    read = detect_format(source, options.input_format)
    for option, part in (("-o", kept), ("--rest", rest)):
        if part:
            check_format(option, part, read)
    return source, read


def score_of(options: SelectOptions, source: Input, read: Format, row: Row, result: Result | None) -> int:
    """Return the score of a row in units, or `FAILED`.

    Raises `InputError` if the row was not scored, and `UsageError` if it has several scores and nothing says which.
    """
    if isinstance(result, float):
        return units_of(result)
    if isinstance(result, RowError):
        return FAILED
    if isinstance(result, tuple):
        if options.reduce is None or options.reduce == "none":
            raise UsageError(
                f"{source.name}: row {row.number} has a list of scores; add --reduce mean, --reduce min or --reduce max"
            )
        whole = [score for score in result if not isinstance(score, RowError)]
        return units_of(REDUCTIONS[options.reduce](whole)) if len(whole) == len(result) else FAILED
    return score_of_foreign(options.output_key, source, read, row)


def score_of_foreign(key: str, source: Input, read: Format, row: Row) -> int:
    """Return `FAILED` for a row with an empty score and no error of a run. Raises `InputError` for any other row."""
    if isinstance(row.inputs, RowError) and row.inputs.reason.is_not_a_row:
        raise InputError(f"{source.name}: {row.inputs}")
    fields = read.fields_of(row)
    if key not in fields:
        shown = listed(paths_of(fields))
        raise InputError(
            f"{source.name}: row {row.number} has no '{key}'; score the file first, or see --output-key "
            f"(fields in the row: {shown})"
        )
    if fields[key] in (None, ""):
        return FAILED
    raise InputError(f"{source.name}: row {row.number}: '{key}' is neither a score from 0 to 1 nor empty")
