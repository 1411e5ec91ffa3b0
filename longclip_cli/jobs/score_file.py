"""One input to one output: score the rows, write and count them, and stop if too many fail."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress

from longclip_cli.errors import Interrupted, LongCLIPError, TooManyFailuresError
from longclip_cli.formats.jsonl import content_of, encode_row, read_rows
from longclip_cli.jobs.check_output import check_output
from longclip_cli.jobs.model import find_model, scored_rows
from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.resume import skip_kept
from longclip_cli.jobs.run import Outcome, Run
from longclip_cli.jobs.run_record import Completion, RunRecord, describe_run
from longclip_cli.jobs.signals import stop_on_signals
from longclip_cli.jobs.start import ALIKE_FROM_START, all_alike, check_start, failed_rows, no_row, read_start
from longclip_cli.options import ScoreOptions
from longclip_cli.reporting.progress import Progress
from longclip_cli.reporting.summary import ModelInUse, Summary
from longclip_cli.rows import ScoredRow
from longclip_cli.storage.source import open_input
from longclip_cli.storage.target import open_output

WRITE_BYTES = 2**20  # of rows that are joined before they are written, at least


def score_file(options: ScoreOptions, progress: Progress) -> Outcome:
    """Score the rows of `options.input` into `options.output`. Raise nothing: the outcome holds the error.

    SIGINT, SIGTERM and SIGHUP stop the run, and are ignored after it.
    """
    summary = Summary(options.scoring.model)
    output, earlier, error = None, None, None
    try:
        with stop_on_signals() as stop:
            source = open_input(options.input)
            check_output(options, source)
            with RecordedOutput(open_output(options.output)) as output:
                earlier = score_opened(Run(options, source, output, summary, progress, stop))
    except (Exception, Interrupted) as stopped_by:
        error = stopped_by
    return Outcome(summary, error, earlier, output.partial if output else None)


def score_opened(run: Run) -> Completion | None:
    """Score the rows of a run, and write the summary if it fails, too.

    Return the completion of an earlier run if that left nothing to do.
    """
    try:
        if run.options.resume and run.output.can_resume:
            return resume_run(run)
        start_run(run)
        return None
    except BaseException:
        if run.options.summary:
            with suppress(LongCLIPError):  # the first error is the one to report
                run.summary.write(run.options.summary)
        raise
    finally:
        run.progress.close()


def resume_run(run: Run) -> Completion | None:
    """Continue where an earlier run stopped; if it is complete, return its completion."""
    model = find_model(run)
    record = record_of(run, model)
    # A pipe has no identity by which a complete input could be recognised.
    if not run.source.is_live and (completion := run.output.completion(record)):
        return completion
    rows = read_rows(run.source, run.options.scoring)
    skip_kept(rows, run.output.kept_lines(record), run.options.scoring.output_key, run.summary)
    write_rows(run, record, scored_rows(run, rows, model))
    return None


def start_run(run: Run) -> None:
    """Score all rows. The model is not loaded if no row needs it or the first rows show that the command is wrong."""
    start = read_start(run.source, run.options.scoring)
    failed = failed_rows(start.rows, run.options.scoring)
    check_start(start, failed, run.source)
    if start.is_whole and len(failed) == len(start.rows):
        write_rows(run, record_of(run, None), (chunk for chunk in [failed] if chunk))
    else:
        model = find_model(run)
        write_rows(run, record_of(run, model), scored_rows(run, iter(start), model))


def record_of(run: Run, model: ModelInUse | None) -> RunRecord:
    """Return the record of a run; `model` is `None` if no row needs it."""
    return describe_run(run.options.scoring, run.source.identity, run.summary.start, model)


def write_rows(run: Run, record: RunRecord, chunks: Generator[list[ScoredRow]]) -> None:
    """Write the rows, chunk by chunk, and make the output final after the last one."""
    output, summary = run.output, run.summary
    with closing(chunks):
        output.begin(record)
        run.stop.defer()
        first_line = b""
        for scored in chunks:
            first_line = first_line or content_of(scored[0].row)
            with summary.stopwatch.measure("writing"):
                encoded = (encode_row(done.row, run.options.scoring.output_key, done.result) for done in scored)
                for block in blocks(encoded):
                    output.write(block)
            summary.add(scored)
            run.progress.update(summary, scored[-1].row.offset)
            stop_if_hopeless(run, scored[0])
    run.stop.check()
    if summary.has_no_row:
        output.discard()
        raise no_row(run.source, first_line)
    if run.options.summary:
        summary.write(run.options.summary, is_complete=True)
    output.complete(summary.rows, summary.failed)


def stop_if_hopeless(run: Run, first: ScoredRow) -> None:
    """Raise `TooManyFailuresError` if `--max-errors` is exceeded or the first rows of the input failed alike.

    `first` is the first row of the last chunk.
    """
    summary, max_errors = run.summary, run.options.max_errors
    failed = summary.failed - summary.kept_failed
    if max_errors is not None and failed > max_errors:
        raise TooManyFailuresError(f"stopped: {failed} rows have failed (--max-errors {max_errors})")
    if summary.alike_from_start >= ALIKE_FROM_START and not summary.kept:
        run.output.discard()  # or --resume would keep the failed rows when the cause is gone
        raise all_alike(summary.alike_from_start, first, run.source)


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
