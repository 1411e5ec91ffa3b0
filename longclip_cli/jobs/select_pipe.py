"""Choosing rows of pipes, which can be read once: each row is written as soon as it is read."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from longclip_cli.errors import UsageError
from longclip_cli.formats.format import Format
from longclip_cli.jobs.criteria import Choice, Cut, Top
from longclip_cli.jobs.plan import Part
from longclip_cli.jobs.row_scores import RowScores
from longclip_cli.jobs.scored_part import open_part, score_of
from longclip_cli.jobs.select_outputs import open_selected
from longclip_cli.jobs.selection import SelectOptions
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.streams import descriptor_of


def is_pipe(path: str) -> bool:
    """Return whether an input can be read only once."""
    return (
        path == STANDARD_STREAM or descriptor_of(path) is not None or (Path(path).exists() and not Path(path).is_file())
    )


def select_from_pipes(options: SelectOptions, kept: tuple[Part, ...], rest: tuple[Part, ...], scores: RowScores) -> Cut:
    """Write each row as soon as it is read; return which rows are kept."""
    if isinstance(options.criterion, Top):
        raise UsageError("--top reads its inputs twice; give files, not standard input or a pipe")
    cut = options.criterion.range
    for pair in zip_longest(kept, rest):
        select_from_pipe(options, *pair, Choice(cut, cut.ties), scores)
    return cut


def select_from_pipe(
    options: SelectOptions, kept_part: Part, rest_part: Part | None, choice: Choice, scores: RowScores
) -> None:
    """Write the rows of an input as they are read."""
    source, read = open_part(options, kept_part, rest_part)
    if not read.streams:
        raise UsageError(f"{source.name}: {read.name} is not read from a pipe; give a file")
    with ExitStack() as stack:
        kept, rest = (stack.enter_context(open_selected(part)) for part in (kept_part, rest_part))
        files = [file for file in (kept, rest) if file]
        has_begun = False
        for row, result in read.read_results(source, options.scoring):
            if not has_begun:
                write_start(files, read)
                has_begun = True
            score = score_of(options, source, read, row, result)
            scores.count(score)
            if file := kept if choice(score) else rest:
                content = read.content_of(row)
                file.write(content if content.endswith(b"\n") else content + b"\n")
            if not source.has_arrived():
                for file in files:
                    file.flush()
        if not has_begun:
            write_start(files, read)


def write_start(files: list[BinaryIO], read: Format) -> None:
    """Write what precedes the rows."""
    for file in files:
        file.write(read.start_as_read())
