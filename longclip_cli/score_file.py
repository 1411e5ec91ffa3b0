"""One input to one output: open both, run the pipeline, count, and stop where going on makes no sense."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from longclip_cli.errors import TooManyFailuresError
from longclip_cli.inputs import Input, open_input
from longclip_cli.options import ScoreOptions
from longclip_cli.output import check_output, open_output
from longclip_cli.progress import Progress
from longclip_cli.records import encode_record
from longclip_cli.summary import Summary

if TYPE_CHECKING:
    from longclip_cli.pipeline import ScoredRow

ALIKE_FROM_START = 100  # so many rows that fail alike before any other outcome: the command is wrong, not the data


def score_file(options: ScoreOptions, summary: Summary, progress: Progress) -> None:
    """Scores the rows of `options.input` into `options.output` and counts them in `summary`.

    Raises a `LongCLIPError` if the run can't start or can't go on, and `BrokenPipeError` if the
    reader of standard output has gone. The rows before that have been written.
    """
    source = open_input(options.input)
    check_output(options.output, options.summary, source)
    try:
        with (
            closing(scored_rows(source, options, summary, progress)) as chunks,
            open_output(options.output) as output,
        ):
            for rows in chunks:
                with summary.stopwatch.measure("writing"):
                    output.write(b"".join(encode_record(row.record, options.output_key, row.result) for row in rows))
                summary.add(rows)
                progress.update(summary, rows[-1].record.line.offset)
                stop_if_hopeless(summary, options, rows[0])
        summary.is_complete = True
    finally:
        progress.close()
        if options.summary:
            summary.write(options.summary)


def scored_rows(
    source: Input, options: ScoreOptions, summary: Summary, progress: Progress
) -> Generator[list[ScoredRow]]:
    """The input's rows with their scores, a chunk at a time.

    Imports what is heavy and loads the model once there is a line, or while there is one to wait for.
    """
    lines = source.lines()
    if source.has_arrived():
        first = next(lines, None)
        if first is None:
            no_rows: tuple[list[ScoredRow], ...] = ()
            return (rows for rows in no_rows)
        lines = chain([first], lines)
    with summary.stopwatch.measure("loading the model"):
        from longclip_cli.images import limit_pixels
        from longclip_cli.loading import RowLoader
        from longclip_cli.pipeline import score_lines
        from longclip_cli.scorer import LongCLIPScorer
        from longclip_cli.tokenizer import byte_pair_encoder

        scorer = LongCLIPScorer.from_pretrained(options.model, options.device, options.precision, options.batch_size)
        byte_pair_encoder()  # or each worker thread would build its own
    limit_pixels(options.max_pixels)
    load = RowLoader(
        image_key=options.image_key,
        text_key=options.text_key,
        image_root=options.image_root,
        image_size=scorer.model.sizes.image_size,
        context_length=scorer.model.sizes.context_length,
    )
    progress.start(source.size)
    return score_lines(
        lines,
        load,
        scorer,
        summary.stopwatch,
        workers=options.workers,
        prefetch=options.prefetch,
        is_live=source.is_live,
    )


def stop_if_hopeless(summary: Summary, options: ScoreOptions, first: ScoredRow) -> None:
    """Raises `TooManyFailuresError` where `--max-errors` or the way the run began says so.

    `first` is the first row of the chunk that was counted last.
    """
    if options.max_errors is not None and summary.failed > options.max_errors:
        raise TooManyFailuresError(
            f"stopped, since {summary.failed} rows have failed (--max-errors {options.max_errors})"
        )
    if summary.alike_from_start >= ALIKE_FROM_START:
        fields = first.record.fields
        keys = f"the fields of such a row are: {', '.join(fields)}" if isinstance(fields, dict) else "is it JSONL?"
        raise TooManyFailuresError(
            f"stopped, since the first {summary.alike_from_start} rows all failed alike, "
            f"{first.result}; {keys} (see --image-key, --text-key, --image-root)"
        )
