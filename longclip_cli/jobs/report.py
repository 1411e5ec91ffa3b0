"""The report of scored files, from one pass over their rows and from their run records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longclip_cli.errors import InputError, OutputError, UsageError
from longclip_cli.formats.detect import detect_format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.jobs.check_output import destination
from longclip_cli.jobs.report_options import ReportOptions, check_page_name
from longclip_cli.jobs.run_notes import Notes, read_summaries
from longclip_cli.jobs.scored_files import ScoredFile, find_scored_files
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.pipeline.image_formats import configure_pillow
from longclip_cli.reporting.examples import Origin
from longclip_cli.reporting.report_page import render_page
from longclip_cli.reporting.report_rows import ReportRows
from longclip_cli.storage.files import file_keys, output_errors, write_whole
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.source import open_input
from longclip_cli.storage.target import Output


def write_report(options: ReportOptions, summary: Mapping[str, Any] | None = None) -> int:
    """Write the report of scored files, and return the size of the page in bytes.

    `summary` is that of the run that has just written them, if its counts are of all their rows. Raises
    `LongCLIPError` if a file can't be read, holds no result of a run, or is the page itself.
    """
    check_page(options)
    rows = ReportRows()
    notes = Notes([summary] if summary else read_summaries(options.summaries))
    for file in find_scored_files(options.inputs, options.output, options.input_format, options.keys):
        if file.path != STANDARD_STREAM and is_page(options, Path(file.path)):
            raise UsageError(f"-o would overwrite {file.path}, which is an input")
        read_file(file, rows)
        notes.add(file)
    page = render_page(rows, notes.about(options.named or options.inputs, rows))
    write_page(options.output, page)
    return len(page)


def check_page(options: ReportOptions) -> None:
    """Raise `LongCLIPError` if the page cannot be written, before rows are read."""
    target = destination(options.output)
    if isinstance(target, Path) and target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder")
    check_page_name("-o", target)
    if isinstance(target, Path) and not target.absolute().parent.is_dir():
        raise OutputError(f"cannot write {target}: no such folder")
    if any(is_page(options, summary) for summary in options.summaries):
        raise UsageError(f"-o would overwrite {options.output}, which --summary names")


def is_page(options: ReportOptions, path: Path) -> bool:
    """Return whether a path leads to the file that the page is written to."""
    return not file_keys(path).isdisjoint(file_keys(destination(options.output)))


def read_file(file: ScoredFile, rows: ReportRows) -> None:
    """Add the rows of a scored file. Raises `InputError`, also if none of them holds a result."""
    InputFields(file.scoring)  # raises for keys that are no paths
    configure_pillow(file.scoring.max_pixels)
    source = open_input(file.path)
    origin = Origin(source.name, file.scoring)
    before, without = rows.counts.rows, rows.rows_without_result
    with source.file:
        for row, result in detect_format(source, file.scoring.input_format).read_results(source, file.scoring):
            rows.add(origin, row, result)
    if rows.counts.rows == before and rows.rows_without_result > without:
        raise InputError(
            f"{source.name}: no row holds a result in the field '{file.scoring.output_key}'; "
            "give a file that longclip-score has written, and see --output-key"
        )


def write_page(path: str, page: bytes) -> None:
    """Write the page, whole or not at all if it is a file. Raises `OutputError`."""
    if file := side_files(path):
        with output_errors(path):
            write_whole(file.target, page)
    else:
        with Output(path) as output:
            output.begin()
            output.write(page)
