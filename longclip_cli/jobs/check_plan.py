"""Whether the inputs and outputs of a run are different files, before anything is opened."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TypeAlias

from longclip_cli.errors import UsageError
from longclip_cli.formats.detect import FORMATS, format_of_name
from longclip_cli.options import STANDARD_STREAM, ScoreOptions
from longclip_cli.storage.files import file_keys
from longclip_cli.storage.streams import STDOUT, descriptor_of

MOST_LISTED = 5  # files in a message
Paths: TypeAlias = tuple[str, str, Path | None]  # an input, its output, and where the side files are if not beside it


def check_plan(parts: list[Paths], options: ScoreOptions) -> None:
    """Raise `UsageError` if two inputs have one output, or one of their files would be overwritten."""
    check_outputs(parts)
    check_inputs_are_kept(parts, options)
    check_further("--summary", options.summary, parts)
    check_further("--report", options.report, parts)
    if options.summary and options.report and file_keys(options.summary) & file_keys(options.report):
        raise UsageError("--report would overwrite the summary; give it another file")
    check_stream(parts, options)


def check_outputs(parts: list[Paths]) -> None:
    """Raise `UsageError` if two inputs have one output."""
    outputs = Counter(output for _, output, place in parts if place)
    if twice := [output for output, count in outputs.items() if count > 1]:
        inputs = [path for path, output, _ in parts if output == twice[0]]
        if len(set(inputs)) == 1:
            raise UsageError(f"{inputs[0]} is given twice")
        raise UsageError(f"{listed(inputs)} would all be written to {twice[0]}; rename one, or run them one by one")


def check_inputs_are_kept(parts: list[Paths], options: ScoreOptions) -> None:
    """Raise `UsageError` if an output, or the one stream of all inputs, is one of several inputs."""
    if len(parts) == 1:
        return  # `check_output` compares it with the opened file
    inputs = {key: path for path, *_ in parts for key in file_keys(Path(path))}
    descriptor = STDOUT if options.output == STANDARD_STREAM else descriptor_of(options.output)
    targets: list[Path | int] = [Path(output) for _, output, place in parts if place]
    for target in targets if descriptor is None else [descriptor]:
        if key := next((key for key in file_keys(target) if key in inputs), None):
            raise UsageError(f"-o would overwrite {inputs[key]}, which is an input")


def check_further(option: str, target: Path | None, parts: list[Paths]) -> None:
    """Raise `UsageError` if a file that is written besides, the summary or the report, is an input or an output."""
    if not target:
        return
    keys, real = file_keys(target), os.path.realpath(target)
    for path, output, _ in parts:
        for what, name in (("input", path), ("output", output)):
            is_one = keys & file_keys(Path(name)) or (not keys and real == os.path.realpath(name))  # no folder yet
            if name != STANDARD_STREAM and is_one and not Path(real).is_char_device():
                raise UsageError(f"{option} would overwrite the {what} {name}; give it another file")


def check_stream(parts: list[Paths], options: ScoreOptions) -> None:
    """Raise `UsageError` if several inputs with headers would become one stream."""
    if options.output == STANDARD_STREAM and len(parts) > 1:
        for path, *_ in parts:
            read = FORMATS[options.scoring.input_format] if options.scoring.input_format else format_of_name(path)
            if read and read.streams and read.name != "jsonl":
                raise UsageError(
                    f"{path}: {read.name} of several inputs is not written to one stream; give a folder with -o"
                )


def listed(names: list[str]) -> str:
    """Return the first of some names."""
    return ", ".join(names[:MOST_LISTED]) + ", …" * (len(names) > MOST_LISTED)
