"""The first rows of an input: whether they need the model, and whether they show that the command is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from longclip_cli.errors import InputError, RowError, WrongInputError
from longclip_cli.formats.paths import nearest_path, paths_of
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.jobs.part import OpenPart
from longclip_cli.jobs.run import Run
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark, Row, Rows, ScoredRow, error_of
from longclip_cli.storage.source import Input

MOST_LISTED = 240  # characters of the fields of a row
ALIKE_FROM_START = 100  # if so many first rows fail for the same reason, the command is wrong and not the data
START_BYTES = 16 * 2**20  # of lines that are read before the model is loaded, at most


@dataclass(frozen=True)
class Start:
    """The first rows of an input, and the rest. `is_whole` says that there is no rest."""

    rows: list[Row]
    rest: Rows
    is_whole: bool = False

    def __iter__(self) -> Rows:
        """Yield all rows of the input."""
        return chain(self.rows, self.rest)


def read_start(source: Input, rows: Rows) -> Start:
    """Return the rows of an input, the first of which are read, as far as they have arrived."""
    start: list[Row] = []
    size = 0
    while len(start) < ALIKE_FROM_START and size < START_BYTES and source.has_arrived():
        try:
            row = next(rows, None)
        except InputError as error:
            if not start:
                raise
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
    """Return those rows that fail before their image is opened. Of several images, others may be scored."""
    from longclip_cli.pipeline.load import find_image

    failed = []
    for row in rows:
        try:
            if isinstance(row.inputs, RowError):
                raise row.inputs
            for image in row.inputs.images if len(row.inputs.images) == 1 else ():
                if isinstance(image, RowError):
                    raise image
                find_image(image, options)
        except RowError as error:
            failed.append(ScoredRow(row, error.with_traceback(None)))
    return failed


def check_start(run: Run, opened: OpenPart, start: Start, failed: list[ScoredRow]) -> None:
    """Raise `WrongInputError` if nothing in the input is a row, or if all first rows fail alike.

    `failed` are those of the first rows that fail.
    """
    if not start.rows or len(failed) < len(start.rows):
        return
    reasons = {row.result.reason for row in failed if isinstance(row.result, RowError)}
    if start.is_whole and all(reason.is_not_a_row for reason in reasons):
        raise no_row(opened, b"".join(map(opened.find_format().content_of, start.rows)))
    if run.options.max_errors is None and len(start.rows) >= ALIKE_FROM_START and len(reasons) == 1:
        raise all_alike(len(failed), failed[0], opened)


def all_alike(count: int, first: ScoredRow, opened: OpenPart) -> WrongInputError:
    """Return the error of an input whose first `count` rows failed for the same reason as its first."""
    source, read = opened.source, opened.find_format()
    advice = fields_advice(opened, first) or f"{source.name} {seems_to_be(read.content_of(first.row))}"
    where = f"{source.name}: " if source.path else ""
    message = f"the first {count} rows failed for the same reason: {error_of(first.result)}; {advice}"
    return WrongInputError(f"{where}stopped: {message}")


def fields_advice(opened: OpenPart, failed: ScoredRow) -> str:
    """Return which fields a row has that failed, and which one was meant if it lacks one; empty if it is no row."""
    paths = paths_of(opened.find_format().fields_of(failed.row))
    error = error_of(failed.result)
    nearest = nearest_path(error.missing, paths) if error and error.missing else None
    meant = f"did you mean {nearest}? " if nearest else ""
    return f"{meant}fields in the row: {listed(paths)} (see --image-key, --text-key, --image-root)" if paths else ""


def listed(paths: list[str]) -> str:
    """Return the paths of a row for a message: as many as fit into three lines of a terminal."""
    text = ", ".join(paths)
    return text if len(text) <= MOST_LISTED else f"{text[:MOST_LISTED].rpartition(', ')[0] or text[:MOST_LISTED]}, …"


def no_row(opened: OpenPart, content: bytes) -> WrongInputError:
    """Return the error of an input that begins with `content` and has no row."""
    return WrongInputError(f"{opened.source.name}: {opened.find_format().no_row(content)}")
