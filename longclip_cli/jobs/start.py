"""The first rows of an input: whether they need the model, and whether they show that the command is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from longclip_cli.errors import InputError, RowError, TooManyFailuresError, quote
from longclip_cli.formats.jsonl import parse_line
from longclip_cli.formats.lines import read_lines
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.options import ScoringOptions
from longclip_cli.storage.source import Input, Line

if TYPE_CHECKING:
    from longclip_cli.pipeline.score import ScoredRow

ALIKE_FROM_START = 100  # if so many first rows fail for the same reason, the command is wrong and not the data
START_BYTES = 16 * 2**20  # of lines that are read before the model is loaded, at most


@dataclass(frozen=True)
class Start:
    """The first lines of an input, and the rest. If they are all lines, `is_whole` is true."""

    lines: list[Line]
    rest: Iterator[Line]
    is_whole: bool = False

    def __iter__(self) -> Iterator[Line]:
        """Yield all lines of the input."""
        return chain(self.lines, self.rest)


def read_start(source: Input) -> Start:
    """Return an input whose first lines are read, as far as they have arrived."""
    lines = read_lines(source)
    start: list[Line] = []
    size = 0
    while len(start) < ALIKE_FROM_START and size < START_BYTES and source.has_arrived():
        try:
            line = next(lines, None)
        except InputError as error:
            return Start(start, unreadable(error))
        if line is None:
            return Start(start, lines, is_whole=True)
        if line.is_blank:
            break
        start.append(line)
        size += len(line.content)
    return Start(start, lines)


def unreadable(error: InputError) -> Iterator[Line]:
    """Raise the error once the lines before it are scored."""
    yield from ()
    raise error


def failed_rows(lines: Iterable[Line], options: ScoringOptions) -> list[ScoredRow]:
    """Return the rows of those lines that fail before their image is opened."""
    from longclip_cli.pipeline.load import find_inputs, row_errors
    from longclip_cli.pipeline.score import ScoredRow

    failed = []
    for line in lines:
        record, fields = parse_line(line)
        try:
            with row_errors():
                find_inputs(fields, options)
        except RowError as error:
            failed.append(ScoredRow(record, error, is_cut=False))
    return failed


def check_start(start: Start, failed: list[ScoredRow], source: Input) -> None:
    """Raise `InputError` if no line of the input is a row, `TooManyFailuresError` if all first rows fail alike.

    `failed` are the rows of the first lines that fail.
    """
    if not start.lines or len(failed) < len(start.lines):
        return
    reasons = {row.result.reason for row in failed if isinstance(row.result, RowError)}
    if start.is_whole and all(reason.is_not_a_row for reason in reasons):
        raise no_row(source, b"".join(line.content for line in start.lines))
    if len(start.lines) >= ALIKE_FROM_START and len(reasons) == 1:
        raise all_alike(len(failed), failed[0], source)


def all_alike(count: int, first: ScoredRow, source: Input) -> TooManyFailuresError:
    """Return the error of an input whose first `count` rows failed for the same reason as its first."""
    keys = first.record.keys
    if isinstance(keys, RowError):
        advice = f"{source.name} {seems_to_be(first.record.line.content)}"
    else:
        advice = f"fields in the row: {quote(', '.join(keys))} (see --image-key, --text-key, --image-root)"
    return TooManyFailuresError(f"stopped: the first {count} rows failed for the same reason: {first.result}; {advice}")


def no_row(source: Input, content: bytes) -> InputError:
    """Return the error of an input that begins with `content` and has no row."""
    return InputError(f"{source.name}: no line is a JSON object; it {seems_to_be(content)}")
