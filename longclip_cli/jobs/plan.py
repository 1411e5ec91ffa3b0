"""Which inputs a run has, and which output each of them gets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from longclip_cli.errors import InputError, UsageError
from longclip_cli.formats.detect import FORMATS, format_of_name
from longclip_cli.formats.inputs import InputFields
from longclip_cli.options import STANDARD_STREAM, InputFormat, ScoreOptions
from longclip_cli.storage.compression import without_compression
from longclip_cli.storage.files import file_keys
from longclip_cli.storage.side_files import SIDE_SUFFIXES

SIDE_FOLDER = ".longclip"  # in an output folder: the side files of all outputs there
MOST_LISTED = 5  # files in a message


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
    """The parts of a run, in order. `size` is that of all inputs in bytes, `None` if one is a pipe."""

    parts: tuple[Part, ...]
    size: int | None

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
    InputFields(options.scoring)  # raises for keys that are no paths
    if STANDARD_STREAM in options.inputs and len(options.inputs) > 1:
        raise UsageError("- (standard input) cannot be combined with other inputs")
    found = [file for path in options.inputs for file in inputs_at(path, options, left_out)]
    check_stream(found, options)
    parts = [(file.path, *output_of(file, options, is_several=len(found) > 1)) for file in found]
    check_distinct(parts)
    sizes = [os.path.getsize(path) if os.path.isfile(path) else None for path, *_ in parts]  # noqa: PTH113, PTH202
    starts = [0, *accumulate(size or 0 for size in sizes)]
    return Plan(tuple(map(Part, *zip(*parts, strict=True), starts)), None if None in sizes else starts[-1])


def inputs_at(path: str, options: ScoreOptions, left_out: tuple[str, ...]) -> Iterator[Found]:
    """Yield the input at a path or, if it is a folder, the files of known suffixes in it, sorted by name.

    Hidden files and folders, the tool's own side files, what lies below the output folder and `left_out` are not used.
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
        raise UsageError(f"{path}: files of several formats: {counts}; choose one with --input-format")
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
    left_out = {os.path.realpath(path) for path in (options.output, options.summary, *others) if path}
    names = []
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = [name for name in folders if is_wanted(here / name, left_out)]
        names += [str((here / name).relative_to(folder)) for name in files if is_wanted(here / name, left_out)]
    return sorted(names)


def is_wanted(path: Path, left_out: set[str]) -> bool:
    """Return whether a file or folder may hold inputs."""
    is_own = path.name.startswith(".") or path.name.endswith(SIDE_SUFFIXES)
    return not is_own and os.path.realpath(path) not in left_out


def listed(names: list[str]) -> str:
    """Return the first of some names."""
    return ", ".join(names[:MOST_LISTED]) + ", …" * (len(names) > MOST_LISTED)


def output_of(file: Found, options: ScoreOptions, *, is_several: bool) -> tuple[str, Path | None]:
    """Return the output of an input, and where its side files are if not beside it."""
    output = options.output
    if output == STANDARD_STREAM:
        return output, None
    has_folder = any(path != STANDARD_STREAM and Path(path).is_dir() for path in options.inputs)
    if not (is_several or has_folder or output.endswith(os.sep) or Path(output).is_dir()):
        return output, None
    if file.path == STANDARD_STREAM:
        raise UsageError(f"-o {output} is a folder; give a file for what standard input brings")
    name = without_compression(file.name)
    return str(Path(output) / name), Path(output) / SIDE_FOLDER / name


def check_stream(found: list[Found], options: ScoreOptions) -> None:
    """Raise `UsageError` if several inputs with headers would become one stream."""
    if options.output == STANDARD_STREAM and len(found) > 1:
        for file in found:
            read = FORMATS[options.scoring.input_format] if options.scoring.input_format else format_of_name(file.name)
            if read and read.streams and read.name != "jsonl":
                raise UsageError(
                    f"{file.path}: {read.name} of several inputs is not written to one stream; give a folder with -o"
                )


def check_distinct(parts: list[tuple[str, str, Path | None]]) -> None:
    """Raise `UsageError` if two inputs have one output, or if an output is one of several inputs."""
    outputs = Counter(output for _, output, place in parts if place)
    if twice := [output for output, count in outputs.items() if count > 1]:
        inputs = [path for path, output, _ in parts if output == twice[0]]
        if len(set(inputs)) == 1:
            raise UsageError(f"{inputs[0]} is given twice")
        raise UsageError(f"{listed(inputs)} would all be written to {twice[0]}; rename one, or run them one by one")
    if len(parts) > 1:
        inputs_by_key = {key: path for path, *_ in parts for key in file_keys(Path(path))}
        for _, output, place in parts:
            if place and (key := next((key for key in file_keys(Path(output)) if key in inputs_by_key), None)):
                raise UsageError(f"-o would overwrite {inputs_by_key[key]}, which is an input")
