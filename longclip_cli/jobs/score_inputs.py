"""A run: one input after another to its output, with one model and one pipeline."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress

from longclip_cli.errors import Interrupted, LongCLIPError, UsageError
from longclip_cli.jobs.inputs import FailedPart, Inputs
from longclip_cli.jobs.model import scored_rows
from longclip_cli.jobs.open_part import open_part
from longclip_cli.jobs.part import OpenPart
from longclip_cli.jobs.plan import plan_run
from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.run import Outcome, Run
from longclip_cli.jobs.run_report import check_report, write_run_report
from longclip_cli.jobs.signals import stop_on_signals
from longclip_cli.jobs.write import Writer
from longclip_cli.options import ScoreOptions
from longclip_cli.reporting.progress import Progress
from longclip_cli.reporting.summary import Summary
from longclip_cli.storage.output_file import open_output
from longclip_cli.storage.output_folder import OutputFolder


def score_inputs(options: ScoreOptions, progress: Progress) -> Outcome:
    """Score the rows of `options.inputs` into `options.output`. Raise nothing: the outcome holds the error.

    SIGINT, SIGTERM and SIGHUP stop the run, and are ignored after it.
    """
    summary = Summary(options.scoring.model)
    writer, error = None, None
    try:
        with stop_on_signals() as stop:
            run = Run(options, plan_run(options), summary, progress, stop)
            check_report(options)
            with open_inputs(run) as inputs:
                writer = Writer(run, inputs)
                score_run(run, inputs, writer)
            write_run_report(run)
    except (Exception, Interrupted) as stopped_by:
        error = stopped_by
    if not writer:
        return Outcome(summary, error)
    return Outcome(summary, error, writer.earlier, writer.partial)


@contextmanager
def open_inputs(run: Run) -> Iterator[Inputs]:
    """Yield the inputs of a run, and close what of them and of the outputs is open at the end."""
    first = run.plan.parts[0]
    stream = RecordedOutput(open_output(first.output, first.place))
    inputs = Inputs(run.plan.parts, functools.partial(open_part, run, stream=None if stream.is_file else stream))
    with OutputFolder(run.plan.folder) if run.plan.folder else nullcontext():
        try:
            yield inputs
        finally:
            inputs.close_all()
            if not stream.is_file:
                stream.__exit__(None, None, None)


def score_run(run: Run, inputs: Inputs, writer: Writer) -> None:
    """Score all inputs of a run, and write the summary if that fails, too."""
    try:
        if first := open_first(inputs, writer):
            chunks = scored_rows(run, inputs.rows(first), first.part.start + first.counts.kept_offset)
            run.stop.defer()
            with closing(chunks):
                for scored in chunks:
                    writer.write(scored)
            run.stop.check()
            writer.complete_ended()
    except UsageError:  # which may say that the summary would overwrite an input
        raise
    except BaseException:
        writer.note_unfinished()
        with suppress(LongCLIPError):  # the first error is the one to report
            write_summary(run, is_complete=False)
        raise
    finally:
        run.progress.close()
    write_summary(run, is_complete=not run.summary.failed_inputs)


def open_first(inputs: Inputs, writer: Writer) -> OpenPart | None:
    """Return the first input with rows that need the model; those before it are finished without it."""
    while opened := inputs.open_next():
        if isinstance(opened, FailedPart):
            writer.fail(opened.part, opened.error)
        elif not opened.earlier and opened.failed is None:
            return opened
        else:
            writer.finish_without_model(opened)
    return None


def write_summary(run: Run, *, is_complete: bool) -> None:
    """Write the summary, if it is wanted. Raise `OutputError`."""
    if run.options.summary:
        run.summary.write(run.options.summary, is_complete=is_complete)
