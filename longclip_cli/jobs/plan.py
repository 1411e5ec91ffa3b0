"""Which inputs a run has, and which output each of them gets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from longclip_cli.errors import InputError, UsageError
from longclip_cli.formats.detect import format_of_name, output_name
from longclip_cli.formats.inputs import InputFields
from longclip_cli.jobs.check_plan import check_plan, listed
from longclip_cli.options import STANDARD_STREAM, InputFormat, ScoreOptions
from longclip_cli.storage.compression import without_compression
from longclip_cli.storage.side_files import RECORD, SIDE_FOLDER, SIDE_SUFFIXES


@dataclass(frozen=True)
class Part:
    """One input of a run and its output.

    `place` is where the output's side files are if not beside it, `start` how many bytes the inputs before it have.
    """

    input: str
    output: str
    place: Path | None = None
    start: int = 0


@dataclass(frozen=True)
class Plan:
    """The parts of a run, in order.

    `size` is that of all inputs in bytes, `None` if one is a pipe. `folder` holds the outputs, if it is one.
    """

    parts: tuple[Part, ...]
    size: int | None
    folder: Path | None

    @property
    def is_one(self) -> bool:
        """Whether there is one input only, whose errors are the run's."""
        return len(self.parts) == 1


@dataclass(frozen=True)
class Found:
    """An input file and its name in an output folder."""

    path: str
    name: str


def plan_run(options: ScoreOptions, left_out: tuple[str, ...] = ()) -> Plan:
    """Return the parts of a run; folders are replaced by the files in them, less those at or below `left_out`.

    Raises `UsageError` for inputs that exclude each other or would have one output, `InputError` for a folder without
    inputs.
    """
    try:
        return make_plan(options, left_out)
    except OSError as error:
        raise InputError(f"cannot look at {error.filename}: {error.strerror}") from error


def make_plan(options: ScoreOptions, left_out: tuple[str, ...]) -> Plan:
    """Return the parts of a run. Raises what `plan_run` does, and `OSError` for a path that cannot be looked at."""
    InputFields(options.scoring)  # raises for keys that are no paths
    if STANDARD_STREAM in options.inputs and len(options.inputs) > 1:
        raise UsageError("- (standard input) cannot be combined with other inputs")
    found = [file for path in options.inputs for file in inputs_at(path, options, left_out)]
    has_folder = any(path != STANDARD_STREAM and os.path.isdir(path) for path in options.inputs)  # noqa: PTH112
    is_several = has_folder or len(found) > 1
    outputs = [(file.path, *output_of(file, options, is_several=is_several)) for file in found]
    check_plan(outputs, options)
    sizes = [os.path.getsize(path) if os.path.isfile(path) else None for path, *_ in outputs]  # noqa: PTH113, PTH202
    starts = [0, *accumulate(size or 0 for size in sizes)]
    folder = Path(options.output) if outputs[0][2] else None
    return Plan(tuple(map(Part, *zip(*outputs, strict=True), starts)), None if None in sizes else starts[-1], folder)


def inputs_at(path: str, options: ScoreOptions, left_out: tuple[str, ...]) -> Iterator[Found]:
    """Yield the input at a path or, if it is a folder, the files of known suffixes in it, sorted by name.

    Hidden files and folders, links to folders, what is not a file, the tool's own side files, what lies below the
    output folder, `left_out` and, if that is this folder, outputs of earlier runs are not used.
    """
    if path == STANDARD_STREAM or not Path(path).is_dir():
        yield Found(path, Path(path).name)
        return
    files = [name for name in names_below(Path(path), options, left_out) if format_of_name(name)]
    formats: dict[InputFormat, list[str]] = {}
    for name in files:
        formats.setdefault(named_format(name), []).append(name)
    if options.scoring.input_format:
        files = formats.get(options.scoring.input_format, [])
    elif len(formats) > 1:
        counts = ", ".join(f"{len(names)} {kind} ({listed(names)})" for kind, names in formats.items())
        raise UsageError(
            f"{path}: files of several formats: {counts}; choose one with --input-format, or name the files"
        )
    if not files:
        kind = options.scoring.input_format or "a known format"
        raise InputError(f"{path}: no file of {kind} in this folder; a file's suffix says its format")
    yield from (Found(str(Path(path) / name), name) for name in files)


def named_format(name: str) -> InputFormat:
    """Return the format that a file's name says; it says one."""
    known = format_of_name(name)
    assert known, "files are of known suffixes"
    return known.name


def names_below(folder: Path, options: ScoreOptions, others: tuple[str, ...]) -> list[str]:
    """Return the names of the files below a folder, relative to it and sorted."""
    left_out = {os.path.realpath(path) for path in (options.output, options.summary, options.report, *others) if path}
    names = []
    for root, folders, files in os.walk(folder, onerror=stop_at):
        here = Path(root)
        folders[:] = [name for name in folders if is_wanted(here / name, left_out)]
        wanted = (here / name for name in files if is_wanted(here / name, left_out))
        names += [str(path.relative_to(folder)) for path in wanted if path.is_file()]
    side = Path(options.output, SIDE_FOLDER)
    if os.path.realpath(options.output) == os.path.realpath(folder):
        names = [name for name in names if not (side / f"{name}{RECORD}").exists()]
    return sorted(names)


def stop_at(error: OSError) -> None:
    """Raise `InputError` for a folder that cannot be read: the files in it would be left out without a word."""
    raise InputError(f"cannot read {error.filename}: {error.strerror}") from error


def is_wanted(path: Path, left_out: set[str]) -> bool:
    """Return whether a file or folder may hold inputs."""
    is_own = path.name.startswith(".") or path.name.endswith(SIDE_SUFFIXES)
    return not is_own and os.path.realpath(path) not in left_out


def output_of(file: Found, options: ScoreOptions, *, is_several: bool) -> tuple[str, Path | None]:
    """Return the output of an input, and where its side files are if not beside it."""
    output = options.output
    if output == STANDARD_STREAM:
        return output, None
    if not (is_several or output.endswith(os.sep) or Path(output).is_dir()):
        return output, None
    if file.path == STANDARD_STREAM:
        raise UsageError(f"-o {output} is a folder; give a file for what standard input brings")
    name = output_name(without_compression(file.name))
    return str(Path(output) / name), Path(output) / SIDE_FOLDER / name
