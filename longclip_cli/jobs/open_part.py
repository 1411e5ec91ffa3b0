"""Opens an input and its output, and finds out which of its rows are to be scored."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from longclip_cli.formats.detect import FORMATS, detect_format
from longclip_cli.jobs.check_output import check_output
from longclip_cli.jobs.model import find_model
from longclip_cli.jobs.part import OpenPart
from longclip_cli.jobs.plan import Part
from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.resume import RowsDifferError, skip_kept
from longclip_cli.jobs.run import Run
from longclip_cli.jobs.run_record import RunRecord, describe_run
from longclip_cli.jobs.start import check_start, failed_rows, fields_advice, read_start
from longclip_cli.reporting.summary import ModelInUse
from longclip_cli.rows import error_of
from longclip_cli.storage.output_file import open_output
from longclip_cli.storage.source import open_input

log = logging.getLogger(__name__)


def open_part(run: Run, part: Part, stream: RecordedOutput | None) -> OpenPart:
    """Open an input and its output, which is `stream` if all inputs share it; what fails is closed again.

    Raise a `LongCLIPError` if one cannot be opened, the first rows show that the command is wrong, or the output is of
    a different run. The model is found if a row needs it, and not loaded.
    """
    with ExitStack() as stack:
        source = open_input(part.input)
        stack.callback(source.file.close)
        check_output(run.options, part, source)
        # A pipe's format is known once its first bytes are there.
        read = detect_format(source, run.options.scoring.input_format) if source.path else None
        output = stream or stack.enter_context(
            RecordedOutput(open_output(part.output, part.place), follows_input=read is FORMATS["jsonl"])
        )
        opened = OpenPart(part, run.options.scoring, source, output, run.stop, read)
        if run.options.resume and output.can_resume:
            resume(run, opened)
        else:
            start(run, opened)
        stack.pop_all()
    return opened


def resume(run: Run, opened: OpenPart) -> None:
    """Continue where an earlier run stopped, unless its output is complete."""
    record = record_of(run, opened, find_model(run))
    opened.record = record
    # A pipe has no identity by which a complete input could be recognised.
    if not opened.source.is_live and (completion := opened.output.completion(record)):
        opened.earlier, opened.counts = completion, opened.output.counts
        return
    key = run.options.scoring.output_key
    try:
        opened.rows = skip_kept(opened.read(), opened.output, record, opened.encode, key, opened.counts)
        opened.counts.mismatched.update(opened.output.mismatched_before)
    except RowsDifferError as error:
        if not opened.output.has_grown:
            raise
        log.warning("%s has changed, and not only grown: scoring all rows (%s)", opened.source.name, error)
        opened.restart()
        start(run, opened)


def start(run: Run, opened: OpenPart) -> None:
    """Score all rows. The model is not needed if all rows fail without it."""
    begun = read_start(opened.source, opened.read())
    failed = failed_rows(begun.rows, run.options.scoring)
    check_start(run, opened, begun, failed)
    if begun.is_whole and len(failed) == len(begun.rows):
        opened.failed = failed
        if failed and (error := error_of(failed[0].result)) and error.missing:
            log.warning("%s: %s; %s", opened.source.name, error, fields_advice(opened, failed[0]))
    opened.rows = iter(begun)
    opened.record = record_of(run, opened, None if opened.failed is not None else find_model(run))


def record_of(run: Run, opened: OpenPart, model: ModelInUse | None) -> RunRecord:
    """Return the record of a part; `model` is `None` if no row needs it."""
    return describe_run(run.options.scoring, opened.source, run.summary.start, model)
