"""Choosing rows of scored files by their scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import BinaryIO

from longclip_cli.errors import InputError, UsageError
from longclip_cli.formats.format import Format
from longclip_cli.jobs.criteria import Choice, Cut
from longclip_cli.jobs.plan import Part, Plan, plan_run
from longclip_cli.jobs.row_scores import RowScores
from longclip_cli.jobs.scored_part import open_part, score_of
from longclip_cli.jobs.select_outputs import check_parts, open_selected
from longclip_cli.jobs.select_pipe import is_pipe, select_from_pipes
from longclip_cli.jobs.selection import Selection, SelectOptions
from longclip_cli.options import ScoreOptions
from longclip_cli.storage.files import output_errors
from longclip_cli.storage.output_folder import OutputFolder
from longclip_cli.storage.source import open_input


def select_rows(options: SelectOptions) -> Selection:
    """Write the rows that are kept and, if wanted, the rest; nothing is written before all inputs are read.

    That takes files. Pipes are read once, and each row is written at once. Raises a `LongCLIPError`.
    """
    kept, rest = plan_outputs(options)
    pairs = list(zip_longest(kept.parts, rest.parts if rest else ()))
    with RowScores() as scores:
        if any(is_pipe(part.input) for part in kept.parts):
            with locked_folders(kept, rest):
                cut = select_from_pipes(options, pairs, scores)
        else:
            parts = [read_part(options, *pair, scores) for pair in pairs]
            with locked_folders(kept, rest):
                cut = write_parts(options, parts, scores)
        return selection_of(options, cut, scores)


@contextmanager
def locked_folders(*plans: Plan | None) -> Iterator[None]:
    """Make the folders of outputs, and lock them. Raise `OutputError` if another run has locked one."""
    with ExitStack() as stack:
        for plan in plans:
            if plan and plan.folder:
                stack.enter_context(OutputFolder(plan.folder))
        yield


def selection_of(options: SelectOptions, cut: Cut, scores: RowScores) -> Selection:
    """Return the counts of rows."""
    tied = scores.counts[cut.least] if cut.least < len(scores.counts) else 0
    kept = sum(scores.counts[cut.least + 1 : cut.most + 1]) + min(tied, cut.ties) * (cut.least <= cut.most)
    return Selection(scores.scored, scores.failed, kept, tied, options.criterion, cut, options.rest is not None)


def plan_outputs(options: SelectOptions) -> tuple[Plan, Plan | None]:
    """Return all inputs with their outputs, and with those of the rest, if it is wanted. Raises `UsageError`."""
    paths = tuple(path for path in (options.output, options.rest) if path is not None)
    kept = plan_run(ScoreOptions(options.inputs, options.output, options.scoring), paths)
    rest = plan_rest(options, options.rest, paths) if options.rest is not None else None
    inputs = [part.input for part in kept.parts]
    check_parts(inputs, options.summaries, {"-o": kept.parts, "--rest": rest.parts if rest else ()})
    return kept, rest


def plan_rest(options: SelectOptions, rest: str, outputs: tuple[str, ...]) -> Plan:
    """Return the inputs with the outputs of the rest. Raises `UsageError`."""
    try:
        return plan_run(ScoreOptions(options.inputs, rest, options.scoring), outputs)
    except UsageError as error:  # which names the option of a run's outputs
        raise UsageError(str(error).replace("-o", "--rest", 1)) from error


@dataclass(frozen=True)
class ReadPart:
    """An input whose scores were read: those from row `start` up to `end` of all rows."""

    kept: Part
    rest: Part | None
    read: Format
    identity: str
    start: int
    end: int


def write_parts(options: SelectOptions, parts: list[ReadPart], scores: RowScores) -> Cut:
    """Copy the rows of all inputs to their outputs; return which rows are kept."""
    cut = options.criterion.cut(scores.counts)
    choice = Choice(cut, cut.ties)
    for part in parts:
        choice = write_part(part, scores, choice)
    return cut


def read_part(options: SelectOptions, kept: Part, rest: Part | None, scores: RowScores) -> ReadPart:
    """Read the scores of an input."""
    source, read = open_part(options, kept, rest)
    start = scores.rows
    for row, result in read.read_results(source, options.scoring):
        scores.add(score_of(options, source, read, row, result))
    return ReadPart(kept, rest, read, source.identity, start, scores.rows)


def write_part(part: ReadPart, scores: RowScores, choice: Choice) -> Choice:
    """Copy the rows of an input to its outputs; return the choice for the next input."""
    after = choice
    with open_selected(part.kept, part.rest) as (kept, rest):
        for output, is_kept in ((kept, True), (rest, False)):
            if output:
                after = replace(choice)
                with output_errors(output.path):
                    copy_rows(part, output.file, chosen(scores.between(part.start, part.end), after, is_kept))
    return after


def chosen(scores: Iterator[int], choice: Choice, is_kept: bool) -> Iterator[bool]:
    """Yield for each row whether it is one of those that are kept or, if not `is_kept`, of the others."""
    return (choice(score) is is_kept for score in scores)


def copy_rows(part: ReadPart, file: BinaryIO, is_chosen: Iterator[bool]) -> None:
    """Copy the chosen rows of an input. Raises `InputError` if it has changed since its scores were read."""
    source = open_input(part.kept.input)
    changed = InputError(f"{source.name}: changed while its rows were selected; run again")
    with source.file:
        if source.identity != part.identity:
            raise changed
        part.read.write_chosen(file, source, is_chosen)
    if next(is_chosen, None) is not None:
        raise changed
