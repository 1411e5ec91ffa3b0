"""The report of scored files: their rows in one pass, and what their runs have noted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from longclip_cli.errors import InputError, OutputError, UsageError
from longclip_cli.formats.detect import detect_format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.jobs.run_notes import Notes
from longclip_cli.jobs.scored_files import Keys, ScoredFile, find_scored_files
from longclip_cli.options import InputFormat, Option, check_not_empty
from longclip_cli.pipeline.image_formats import configure_pillow
from longclip_cli.reporting.examples import Origin
from longclip_cli.reporting.report_page import render_page
from longclip_cli.reporting.report_rows import ReportRows
from longclip_cli.storage.files import file_keys, output_errors, write_whole
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.source import open_input
from longclip_cli.storage.target import Output

FROM_RECORD = {"show_default": "from the run record"}


@dataclass(frozen=True)
class ReportOptions:
    """The options of `longclip-report`; `None` leaves them to the run record. Raises `UsageError` for empty names."""

    inputs: tuple[str, ...]
    output: str
    summaries: tuple[Path, ...] = ()
    input_format: Annotated[
        InputFormat | None,
        Option("Format of the scored files.", "Rows", None, (), {"show_default": "by suffix, then by content"}),
    ] = None
    image_key: Annotated[str | None, Option("Field that holds the image.", "Rows", "KEY", (), FROM_RECORD)] = None
    text_key: Annotated[
        tuple[str, ...], Option("Field that holds the text; repeatable.", "Rows", "KEY", (), FROM_RECORD)
    ] = ()
    output_key: Annotated[str | None, Option("Field that holds the score.", "Rows", "KEY", (), FROM_RECORD)] = None
    image_root: Annotated[
        Path | None,
        Option(
            "Where relative image paths start.",
            "Rows",
            "FOLDER",
            (),
            FROM_RECORD | {"exists": True, "file_okay": False},
        ),
    ] = None

    def __post_init__(self) -> None:
        for value in self.inputs:
            check_not_empty("inputs", value)
        check_not_empty("output", self.output)
        for name in ("image_key", "output_key"):
            if getattr(self, name) is not None:
                check_not_empty(name, getattr(self, name))
        for value in self.text_key:
            check_not_empty("text_key", value)

    @property
    def keys(self) -> Keys:
        """The options that take the place of those in run records."""
        return Keys(self.image_key, self.text_key, self.output_key, self.image_root)


def write_report(options: ReportOptions) -> int:
    """Write the report of scored files, and return the size of the page in bytes.

    Raises `LongCLIPError` if a file can't be read, holds no result of a run, or is the page itself.
    """
    check_page(options)
    rows, notes = ReportRows(), Notes(options.summaries)
    for file in find_scored_files(options.inputs, options.output, options.input_format, options.keys):
        if file_keys(Path(file.path)) & file_keys(Path(options.output)):
            raise UsageError(f"-o would overwrite {file.path}, which is an input")
        read_file(file, rows)
        notes.add(file)
    page = render_page(rows, notes.about(options.inputs, rows))
    write_page(options.output, page)
    return len(page)


def check_page(options: ReportOptions) -> None:
    """Raise `LongCLIPError` if the page cannot be written, before rows are read."""
    path = Path(options.output)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if options.output != "-" and not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: no such folder")
    if any(file_keys(path) & file_keys(summary) for summary in options.summaries):
        raise UsageError(f"-o would overwrite {path}, which --summary names")


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
