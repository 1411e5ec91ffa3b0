"""Choosing rows of pipes, which can be read once: each row is written as soon as it is read."""

from __future__ import annotations

from pathlib import Path

from longclip_cli.errors import UsageError
from longclip_cli.formats.format import Format
from longclip_cli.formats.lines import with_end
from longclip_cli.jobs.criteria import Choice, Cut, Top
from longclip_cli.jobs.plan import Part
from longclip_cli.jobs.row_scores import RowScores
from longclip_cli.jobs.scored_part import open_part, score_of
from longclip_cli.jobs.select_outputs import Selected, open_selected
from longclip_cli.jobs.selection import SelectOptions
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.streams import descriptor_of


def is_pipe(path: str) -> bool:
    """Return whether an input can be read only once."""
    return (
        path == STANDARD_STREAM or descriptor_of(path) is not None or (Path(path).exists() and not Path(path).is_file())
    )


def select_from_pipes(options: SelectOptions, pairs: list[tuple[Part, Part | None]], scores: RowScores) -> Cut:
    """Write each row as soon as it is read; return which rows are kept."""
    if isinstance(options.criterion, Top):
        raise UsageError("--top reads its inputs twice; give files, not standard input or a pipe")
    cut = options.criterion.range
    for pair in pairs:
        select_from_pipe(options, *pair, Choice(cut, cut.ties), scores)
    return cut


def select_from_pipe(
    options: SelectOptions, kept_part: Part, rest_part: Part | None, choice: Choice, scores: RowScores
) -> None:
    """Write the rows of an input as they are read."""
    source, read = open_part(options, kept_part, rest_part)
    if not read.streams:
        raise UsageError(f"{source.name}: {read.name} is not read from a pipe; give a file")
    with open_selected(kept_part, rest_part) as (kept, rest):
        outputs = [output for output in (kept, rest) if output]
        has_begun = False
        for row, result in read.read_results(source, options.scoring):
            if not has_begun:
                write_start(outputs, read)
                has_begun = True
            score = score_of(options, source, read, row, result)
            scores.count(score)
            if output := kept if choice(score) else rest:
                output.write(with_end(read.content_of(row)))
            if not source.has_arrived():
                for output in outputs:
                    output.flush()
        if not has_begun:
            write_start(outputs, read)


def write_start(outputs: list[Selected], read: Format) -> None:
    """Write what precedes the rows."""
    for output in outputs:
        output.write(read.start_as_read())
