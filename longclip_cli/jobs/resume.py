"""Going on where an interrupted run of the same command stopped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from longclip_cli.errors import OutputError, RowError
from longclip_cli.formats.jsonl import encode_row, parse_object
from longclip_cli.jobs.run_record import OUTPUT_FORMAT, RunRecord
from longclip_cli.options import ScoreOptions, error_key
from longclip_cli.reporting.summary import Summary
from longclip_cli.rows import Mark, Rows
from longclip_cli.storage.source import Input, Line
from longclip_cli.version import __version__


def describe_run(options: ScoreOptions, source: Input, start: str, checkpoint: Path | None) -> RunRecord:
    """Return the record of the run that these options ask for and that began at `start`.

    `checkpoint` is the file that their model stands for, `None` if no row of the run needs it.
    """
    return RunRecord(
        input=source.identity,
        image_key=options.scoring.image_key,
        text_key=options.scoring.text_key,
        output_key=options.scoring.output_key,
        image_root=str(options.scoring.image_root.resolve()),
        max_pixels=str(options.scoring.max_pixels),
        fast_decode=on_or_off(options.scoring.fast_decode),
        fast_resize=on_or_off(options.scoring.fast_resize),
        output_format=str(OUTPUT_FORMAT),
        version=__version__,
        model=options.scoring.model,
        start=start,
        **(describe_model(options, checkpoint) if checkpoint else {}),
    )


def describe_model(options: ScoreOptions, checkpoint: Path) -> dict[str, Any]:
    """Return those fields of the record that tell what the model is and how it computes."""
    from longclip_cli.checkpoints.fingerprint import checkpoint_fingerprint
    from longclip_cli.models.device import dtype_name, select_device, select_dtype

    device = select_device(options.device)
    return {
        "model_hash": checkpoint_fingerprint(checkpoint),
        "model_file": str(checkpoint),
        "device": str(device),
        "precision": dtype_name(select_dtype(options.scoring.precision, device)),
    }


def skip_kept(rows: Rows, kept: Iterable[bytes], options: ScoreOptions, summary: Summary) -> None:
    """Takes from the input the lines whose rows are there already, and counts those rows.

    Each row is held against its line, so that no other input is taken for the same one. Raises `OutputError`.
    """
    output_key = options.scoring.output_key
    for number, line in enumerate(kept, 1):
        row = next((row for row in rows if row is not Mark.PAUSE), None)
        result = result_of(line, output_key)
        if row is None or result is None or encode_row(row, output_key, result) != line:
            where = (
                "where the input ends"
                if row is None
                else f"which has no '{output_key}' from 0 to 1, and no error"
                if result is None
                else f"which is not line {row.number} of the input, scored"
            )
            raise OutputError(
                f"cannot resume: the partial output holds a row {number} {where}. "
                "Run it on the same input, or without --resume to score all rows"
            )
        summary.add_kept(row, result)


def on_or_off(switch: bool) -> str:
    """How a switch stands, for people."""
    return "on" if switch else "off"


def result_of(line: bytes, output_key: str) -> float | RowError | None:
    """The score or the error that an output line holds; `None` if it is no output line.

    A score is a number in [0, 1]: what else stands there was not written by a run.
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
    return RowError(reason_of(str(error)), message=str(error)) if error else None


def reason_of(message: str) -> str:
    """The kind of failure that a row's error message tells of."""
    subject, _, rest = message.partition(": ")
    return f"{subject.split(' ')[0]}: {rest.partition(': ')[0]}"
