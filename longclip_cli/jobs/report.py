"""The report of scored files: their rows in one pass, and what their runs have noted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from longclip_cli.errors import InputError, OutputError, UsageError
from longclip_cli.formats.detect import detect_format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.jobs.run_record import RunRecord
from longclip_cli.jobs.scored_files import Keys, ScoredFile, find_scored_files
from longclip_cli.options import InputFormat, Option, check_not_empty
from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.examples import Origin
from longclip_cli.reporting.report_page import MOST_FILES, About, RunFacts, render_page
from longclip_cli.reporting.report_rows import ReportRows
from longclip_cli.storage.files import file_keys, output_errors, write_whole
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.source import open_input
from longclip_cli.storage.target import Output

MOST_RUNS = 10
MOST_SUMMARY_BYTES = 64 * 2**20
FROM_RECORD = {"show_default": "from the run record"}


@dataclass(frozen=True)
class ReportOptions:
    """The options of `longclip-report`; `None` leaves them to the run record. Raises `UsageError` for empty names."""

    inputs: tuple[str, ...]
    output: str
    summary: Annotated[
        Path | None, Option("Summary of the run, for counts that rows lack.", "Rows", "FILE", (), {"dir_okay": False})
    ] = None
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
    summary = read_summary(options.summary) if options.summary else {}
    rows, notes = ReportRows(), Notes()
    for file in find_scored_files(options.inputs, options.output, options.input_format, options.keys):
        if file_keys(Path(file.path)) & file_keys(Path(options.output)):
            raise UsageError(f"-o would overwrite {file.path}, which is an input")
        read_file(file, rows)
        notes.add(file)
    page = render_page(rows, notes.about(options.inputs, summary))
    write_page(options.output, page)
    return len(page)


def check_page(options: ReportOptions) -> None:
    """Raise `LongCLIPError` if the page cannot be written, before rows are read."""
    path = Path(options.output)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if options.output != "-" and not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: no such folder")
    if options.summary and file_keys(path) & file_keys(options.summary):
        raise UsageError(f"-o would overwrite {path}, which is the summary")


def read_file(file: ScoredFile, rows: ReportRows) -> None:
    """Add the rows of a scored file. Raises `InputError`, also if none of them holds a result."""
    InputFields(file.scoring)  # raises for keys that are no paths
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


@dataclass
class Notes:
    """What the run records beside scored files say, over all files."""

    files: list[str] = field(default_factory=list)
    count: int = 0
    runs: dict[RunFacts, None] = field(default_factory=dict)
    mismatched: Counter[int] = field(default_factory=Counter)

    def add(self, file: ScoredFile) -> None:
        """Take what is known of a file."""
        self.count += 1
        if len(self.files) < MOST_FILES:
            self.files.append(file.path)
        if file.record:
            if len(self.runs) < MOST_RUNS:
                self.runs[facts_of_record(file.record)] = None
            for place, count in (file.record.mismatched or {}).items():
                if 0 <= int(place) <= BINS and count > 0:
                    self.mismatched[int(place)] += count

    def about(self, inputs: tuple[str, ...], summary: Mapping[str, Any]) -> About:
        """Return what the page says; what the summary says takes the place of what the records do."""
        values = {
            name: summary.get(key) for name, key in (("texts_cut", "texts_cut"), ("rotations", "rotations_not_applied"))
        }
        return About(
            inputs,
            tuple(self.files),
            self.count,
            (facts_of_summary(summary),) if summary else tuple(self.runs),
            mismatched_of(summary) if summary else self.mismatched,
            **{name: value if isinstance(value, int) else None for name, value in values.items()},
        )


def facts_of_record(record: RunRecord) -> RunFacts:
    """Return what a run record says of a run."""
    compared = record.compared
    return facts((record.model, record.model_file), record.device, compared.get("precision"), compared.get("version"),
                 record.start, record.end)  # fmt: skip


def facts_of_summary(summary: Mapping[str, Any]) -> RunFacts:
    """Return what a summary says of a run."""
    names = ("device", "precision", "version", "start", "end")
    return facts((summary.get("model"), summary.get("model_file")), *(summary.get(name) for name in names))


def facts(model: Iterable[object], *values: object) -> RunFacts:
    """Return facts as texts; what is not known is a dash."""
    name, file = model
    known = f"{name} ({file})" if file and file != name else name
    return RunFacts(*("–" if value is None else str(value)[:300] for value in (known, *values)))


def read_summary(path: Path) -> dict[str, Any]:
    """Return the summary that a run has written. Raises `InputError`."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MOST_SUMMARY_BYTES))
    except OSError as error:
        raise InputError(f"cannot read the summary {path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not isinstance(values.get("mismatched"), dict):
        raise InputError(f"{path} is not a summary that longclip-score --summary has written")
    return values


def mismatched_of(summary: Mapping[str, Any]) -> Counter[int]:
    """Return the counts of mismatched pairs in a summary, by bin of their score."""
    try:
        histogram = summary["mismatched"]["histogram"]
        counts = {int(histogram["first"]) + index: int(count) for index, count in enumerate(histogram["counts"])}
    except (KeyError, TypeError, ValueError):
        return Counter()
    return Counter({place: count for place, count in counts.items() if 0 <= place <= BINS and count > 0})


def write_page(path: str, page: bytes) -> None:
    """Write the page, whole or not at all if it is a file. Raises `OutputError`."""
    if file := side_files(path):
        with output_errors(path):
            write_whole(file.target, page)
    else:
        with Output(path) as output:
            output.begin()
            output.write(page)
