"""One input to one output: open both, run the pipeline, count, and stop where going on makes no sense."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from longclip_cli.errors import (
    InputError,
    InterruptedRunError,
    OutputError,
    RowError,
    TooManyFailuresError,
    quote,
)
from longclip_cli.formats.jsonl import content_of, encode_row, field_names, read_rows
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.jobs.resume import describe_run, skip_kept
from longclip_cli.jobs.signals import Stop
from longclip_cli.options import ScoreOptions, ScoringOptions
from longclip_cli.reporting.progress import Progress
from longclip_cli.reporting.summary import Summary
from longclip_cli.rows import Mark, Row, Rows, ScoredRow
from longclip_cli.storage.side_files import check_output
from longclip_cli.storage.source import Input, open_input
from longclip_cli.storage.target import Output
from longclip_cli.storage.target_file import open_output

ALIKE_FROM_START = 100  # so many rows that fail alike before any other outcome: the command is wrong, not the data
START_BYTES = 16 * 2**20  # of lines that are looked at before the model is loaded, at most
WRITE_BYTES = 2**20  # of rows that are put together for the output, at least


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
    """Score an opened input into an output, from where an interrupted run stopped if that is asked for."""
    rows = read_rows(source.lines(), options.scoring)
    if options.resume and output.can_resume:
        checkpoint = find_model(options, summary)
        record = summary.record = describe_run(options, source, summary.start, checkpoint)
        # What comes through a pipe can't be told from what came through it another time.
        if not source.is_live and (completion := output.completion(record)):
            summary.already_complete = completion
            return
        skip_kept(rows, output.kept_lines(record), options, summary)
        chunks = scored_rows(rows, source, options, checkpoint, summary, progress, stop)
    else:
        start = read_start(source, rows)
        failed = failed_rows(start.rows, options.scoring)
        check_start(start, failed, source)
        if start.is_whole and len(failed) == len(start.rows):  # no row needs the model
            chunks = (chunk for chunk in [failed] if chunk)
            record = describe_run(options, source, summary.start, None)
        else:
            checkpoint = find_model(options, summary)
            rows = chain(start.rows, start.rest)
            chunks = scored_rows(rows, source, options, checkpoint, summary, progress, stop)
            record = describe_run(options, source, summary.start, checkpoint)
        summary.record = record
    with closing(chunks):
        output.begin(record)
        summary.has_begun = stop.rows_flow = True
        first_line = b""
        for scored in chunks:
            first_line = first_line or content_of(scored[0].row)
            with summary.stopwatch.measure("writing"):
                for block in blocks(encode_row(done.row, options.scoring.output_key, done.result) for done in scored):
                    output.write(block)
            summary.add(scored)
            progress.update(summary, scored[-1].row.offset)
            stop_if_hopeless(output, summary, options, scored[0], source)
    if stop.requested.is_set():
        raise InterruptedRunError("interrupted")
    if summary.rows and not summary.scored and all(reason.startswith("line:") for reason in summary.failures):
        output.discard()
        raise no_row(source, first_line)
    summary.is_complete = True
    if options.summary:
        summary.write(options.summary)
    output.complete(summary.rows, summary.failed)


@dataclass(frozen=True)
class Start:
    """The first rows of an input, and those that follow; `is_whole` says that none do."""

    rows: list[Row]
    rest: Rows
    is_whole: bool = False


def read_start(source: Input, rows: Rows) -> Start:
    """Return the rows that are looked at before the model is loaded, as far as they have arrived."""
    start: list[Row] = []
    size = 0
    while len(start) < ALIKE_FROM_START and size < START_BYTES and source.has_arrived():
        try:
            row = next(rows, None)
        except InputError as error:
            return Start(start, unreadable(error))
        if row is None:
            return Start(start, rows, is_whole=True)
        if row is Mark.PAUSE:
            break
        start.append(row)
        size += row.size
    return Start(start, rows)


def unreadable(error: InputError) -> Rows:
    """Raise the error once the rows before it are scored."""
    yield from ()
    raise error


def failed_rows(rows: Iterable[Row], options: ScoringOptions) -> list[ScoredRow]:
    """Return those rows that cannot be scored, as far as that shows without their images' content."""
    from longclip_cli.pipeline.load import find_image

    failed = []
    for row in rows:
        try:
            if isinstance(row.inputs, RowError):
                raise row.inputs
            find_image(row.inputs.image, options)
        except RowError as error:
            failed.append(ScoredRow(row, error.with_traceback(None)))
    return failed


def check_start(start: Start, failed: list[ScoredRow], source: Input) -> None:
    """Raise `InputError` if no line of the input is a row, `TooManyFailuresError` if all at its start fail alike."""
    if len(failed) < max(1, len(start.rows)):
        return
    reasons = {row.result.reason for row in failed if isinstance(row.result, RowError)}
    if start.is_whole and all(reason.startswith("line:") for reason in reasons):
        raise no_row(source, b"".join(map(content_of, start.rows)))
    if len(start.rows) >= ALIKE_FROM_START and len(reasons) == 1:
        raise all_alike(len(failed), failed[0], source)


def blocks(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Yield encoded rows, several at a time, without a second copy of large ones."""
    block: list[bytes] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row)
        if size >= WRITE_BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)


def find_model(options: ScoreOptions, summary: Summary) -> Path:
    """Return the checkpoint file of the options' model, downloaded if need be; once in a run.

    What is recorded is then what is loaded. A device that is not there is noticed before a download.
    """
    with summary.stopwatch.measure("loading the model"):
        from longclip_cli.checkpoints.find import find_checkpoint
        from longclip_cli.models.device import select_device

        select_device(options.device)
        return find_checkpoint(options.scoring.model, options.scoring.revision)


def scored_rows(
    rows: Rows,
    source: Input,
    options: ScoreOptions,
    checkpoint: Path,
    summary: Summary,
    progress: Progress,
    stop: Stop,
) -> Generator[list[ScoredRow]]:
    """Load the model and return the rows of these lines with their scores, a chunk at a time."""
    with summary.stopwatch.measure("loading the model"):
        from longclip_cli.pipeline.load import RowLoader
        from longclip_cli.pipeline.score import score_rows
        from longclip_cli.scorer import LongCLIPScorer

        scorer = LongCLIPScorer.from_pretrained(
            checkpoint, options.device, options.scoring.precision, batch_size=options.batch_size
        )
        sizes = scorer.model.sizes
        load = RowLoader(options.scoring, image_size=sizes.image_size, context_length=sizes.context_length)
    progress.start(source.size, summary.kept_offset)
    return score_rows(
        rows,
        load,
        scorer.encoder,
        summary.stopwatch,
        workers=options.workers,
        prefetch=options.prefetch,
        is_live=source.is_live,
        stop=stop.requested,
    )


def stop_if_hopeless(output: Output, summary: Summary, options: ScoreOptions, first: ScoredRow, source: Input) -> None:
    """Raises `TooManyFailuresError` where `--max-errors` or the way the run began says so.

    `first` is the first row of the chunk that was counted last.
    """
    failed = summary.failed - summary.kept_failed
    if options.max_errors is not None and failed > options.max_errors:
        raise TooManyFailuresError(f"stopped, since {failed} rows have failed (--max-errors {options.max_errors})")
    if summary.alike_from_start >= ALIKE_FROM_START and not summary.kept:
        output.discard()  # or the failed rows would be kept when the cause is gone and the run is resumed
        raise all_alike(summary.alike_from_start, first, source)


def all_alike(count: int, first: ScoredRow, source: Input) -> TooManyFailuresError:
    """Return the error of an input whose first `count` rows failed like its first."""
    keys = field_names(first.row)
    if not keys:
        advice = f"{source.name} {seems_to_be(content_of(first.row))}"
    else:
        advice = f"the fields of such a row are: {quote(', '.join(keys))} (see --image-key, --text-key, --image-root)"
    return TooManyFailuresError(f"stopped, since the first {count} rows all failed alike, {first.result}; {advice}")


def no_row(source: Input, content: bytes) -> InputError:
    """Return the error of an input that begins with `content` and has no row."""
    return InputError(f"{source.name}: no line is a JSON object; it {seems_to_be(content)}")
