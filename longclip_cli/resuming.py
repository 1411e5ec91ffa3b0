"""Going on where an interrupted run of the same command stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from longclip_cli import __version__
from longclip_cli.errors import OutputError, RowError
from longclip_cli.inputs import Input, Line
from longclip_cli.options import ScoreOptions
from longclip_cli.records import encode_record, error_key, parse_line
from longclip_cli.run_record import OUTPUT_FORMAT, RunRecord
from longclip_cli.summary import Summary


def describe_run(options: ScoreOptions, source: Input, checkpoint: Path) -> RunRecord:
    """The record of the run that these options ask for; `checkpoint` is the file that their `model` has led to."""
    from longclip_cli.checkpoint import checkpoint_fingerprint, dtype_name
    from longclip_cli.scorer import select_device, select_dtype

    dtype = select_dtype(options.precision, select_device(options.device))
    return RunRecord(
        input=source.identity,
        image_key=options.image_key,
        text_key=options.text_key,
        output_key=options.output_key,
        image_root=str(options.image_root.resolve()),
        model=checkpoint_fingerprint(checkpoint),
        max_pixels=str(options.max_pixels),
        fast_decode=on_or_off(options.fast_decode),
        fast_resize=on_or_off(options.fast_resize),
        precision=dtype_name(dtype),
        output_format=str(OUTPUT_FORMAT),
        version=__version__,
    )


def skip_kept(lines: Iterator[Line], kept: Iterable[bytes], options: ScoreOptions, summary: Summary) -> None:
    """Takes from the input the lines whose rows are there already, and counts those rows.

    Each row is held against its line, so that no other input is taken for the same one. Raises `OutputError`.
    """
    for number, row in enumerate(kept, 1):
        line = next(lines, None)
        result = result_of(row, options.output_key)
        if line is None or result is None or encode_record(parse_line(line), options.output_key, result) != row:
            where = "where the input ends" if line is None else f"which is not line {line.number} of the input, scored"
            raise OutputError(
                f"cannot resume: the partial output holds a row {number} {where}. "
                "Run it on the same input, or without --resume to score all rows afresh"
            )
        summary.add_kept(result)


def on_or_off(switch: bool) -> str:
    """How a switch stands, for people."""
    return "on" if switch else "off"


def result_of(row: bytes, output_key: str) -> float | RowError | None:
    """The score or the error that an output line holds; `None` if it is no output line."""
    fields = parse_line(Line(1, row, 0)).fields
    if isinstance(fields, RowError) or output_key not in fields:
        return None
    score, error = fields[output_key], fields.get(error_key(output_key))
    if isinstance(score, int | float):
        return float(score)
    return RowError(reason_of(str(error)), message=str(error)) if error else None


def reason_of(message: str) -> str:
    """The kind of failure that a row's error message tells of."""
    subject, _, rest = message.partition(": ")
    return f"{subject.split(' ')[0]}: {rest.partition(': ')[0]}"
