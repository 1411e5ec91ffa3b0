"""One input to one output: open both, run the pipeline, count, and stop where going on makes no sense."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from longclip_cli.errors import InterruptedRunError, OutputError, TooManyFailuresError
from longclip_cli.inputs import Input, Line, open_input
from longclip_cli.options import ScoreOptions
from longclip_cli.output import Output, OutputFile, check_output, open_output
from longclip_cli.progress import Progress
from longclip_cli.records import encode_record
from longclip_cli.resuming import describe_run, skip_kept
from longclip_cli.signals import Stop
from longclip_cli.summary import Summary

if TYPE_CHECKING:
    from longclip_cli.pipeline import ScoredRow

ALIKE_FROM_START = 100  # so many rows that fail alike before any other outcome: the command is wrong, not the data


def score_file(options: ScoreOptions, summary: Summary, progress: Progress, stop: Stop) -> None:
    """Scores the rows of `options.input` into `options.output` and counts them in `summary`.

    Raises a `LongCLIPError` if the run can't start or can't go on (`InterruptedRunError` if it was asked to
    stop) and `BrokenPipeError` if the reader of standard output has gone. The rows before that have been written.
    """
    source = open_input(options.input)
    check_output(options.output, options.summary, source)
    with open_output(options.output) as output:
        try:
            score_into(output, source, options, summary, progress, stop)
        except BaseException:
            summary.is_complete = False
            if options.summary:
                with suppress(OutputError):  # the first error is the one to be told
                    summary.write(options.summary)
            raise
        finally:
            progress.close()


def score_into(
    output: Output, source: Input, options: ScoreOptions, summary: Summary, progress: Progress, stop: Stop
) -> None:
    """Scores an opened input into an output, from where an interrupted run stopped if that is asked for."""
    lines = source.lines()
    record = None

    @cache
    def checkpoint() -> Path:
        """Find the model once: what is recorded is what is loaded."""
        from longclip_cli.checkpoint import find_checkpoint

        return find_checkpoint(options.model, options.revision)

    if options.resume and isinstance(output, OutputFile):
        record = describe_run(options, source, checkpoint())
        # What comes through a pipe can't be told from what came through it another time.
        if not source.is_live and (completion := output.completion(record)):
            summary.already_complete = completion
            return
        skip_kept(lines, output.kept_lines(record), options, summary)
    chunks = scored_rows(lines, source, options, checkpoint, summary, progress, stop)
    with closing(chunks) if chunks else nullcontext(()) as rows_in_chunks:
        if chunks and not record:
            record = describe_run(options, source, checkpoint())
        output.begin(record)
        summary.has_begun = stop.rows_flow = True
        for rows in rows_in_chunks:
            with summary.stopwatch.measure("writing"):
                output.write(b"".join(encode_record(row.record, options.output_key, row.result) for row in rows))
            summary.add(rows)
            progress.update(summary, rows[-1].record.line.offset)
            stop_if_hopeless(output, summary, options, rows[0])
    if stop.requested.is_set():
        raise InterruptedRunError("interrupted")
    summary.is_complete = True
    if options.summary:
        summary.write(options.summary)
    output.complete(summary.rows, summary.failed)


def scored_rows(
    lines: Iterator[Line],
    source: Input,
    options: ScoreOptions,
    checkpoint: Callable[[], Path],
    summary: Summary,
    progress: Progress,
    stop: Stop,
) -> Generator[list[ScoredRow]] | None:
    """The rows of these lines with their scores, a chunk at a time; `None` if there are no lines.

    Imports what is heavy and loads the model once there is a line, or while there is one to wait for.
    """
    if source.has_arrived():
        first = next(lines, None)
        if first is None:
            return None
        lines = chain([first], lines)
    with summary.stopwatch.measure("loading the model"):
        from longclip_cli.loading import RowLoader
        from longclip_cli.pipeline import score_lines
        from longclip_cli.scorer import LongCLIPScorer, select_device

        device = select_device(options.device)  # one that is not there is noticed before the model is downloaded
        scorer = LongCLIPScorer.from_pretrained(checkpoint(), device, options.precision, batch_size=options.batch_size)
        sizes = scorer.model.sizes
        load = RowLoader(options, image_size=sizes.image_size, context_length=sizes.context_length)
    progress.start(source.size)
    return score_lines(
        lines,
        load,
        scorer,
        summary.stopwatch,
        workers=options.workers,
        prefetch=options.prefetch,
        is_live=source.is_live,
        stop=stop.requested,
    )


def stop_if_hopeless(output: Output, summary: Summary, options: ScoreOptions, first: ScoredRow) -> None:
    """Raises `TooManyFailuresError` where `--max-errors` or the way the run began says so.

    `first` is the first row of the chunk that was counted last.
    """
    failed = summary.failed - summary.kept_failed
    if options.max_errors is not None and failed > options.max_errors:
        raise TooManyFailuresError(f"stopped, since {failed} rows have failed (--max-errors {options.max_errors})")
    if summary.alike_from_start >= ALIKE_FROM_START and not summary.kept:
        output.discard()  # or the failed rows would be kept when the cause is gone and the run is resumed
        fields = first.record.fields
        keys = f"the fields of such a row are: {', '.join(fields)}" if isinstance(fields, dict) else "is it JSONL?"
        raise TooManyFailuresError(
            f"stopped, since the first {summary.alike_from_start} rows all failed alike, "
            f"{first.result}; {keys} (see --image-key, --text-key, --image-root)"
        )
