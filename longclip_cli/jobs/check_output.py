"""Whether the files of a run can be written, and are different ones."""

from __future__ import annotations

from pathlib import Path

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.jobs.plan import Part
from longclip_cli.options import STANDARD_STREAM, ScoreOptions
from longclip_cli.storage.files import file_keys
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.source import Input
from longclip_cli.storage.streams import STDOUT, descriptor_of, is_inherited


def check_output(options: ScoreOptions, part: Part, source: Input) -> None:
    """Check the output of an input and the summary before anything is written.

    Raise `OutputError` if one cannot be written, `UsageError` if it is the input or is written twice, or if the output
    cannot be resumed as the options say.
    """
    path, summary = part.output, options.summary
    if path != STANDARD_STREAM and Path(path).is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if summary and summary.is_dir():
        raise OutputError(f"cannot write the summary {summary}: it is a folder")
    files = side_files(path, part.place)
    if options.resume and not files:
        raise UsageError(f"--resume needs an output file, not {path}; give one with -o")
    own_name = "standard output" if path == STANDARD_STREAM else path
    outputs = {own_name: destination(path)} | {str(file): file for file in files or ()}
    for name, target in outputs.items():
        check_target("-o", name, target, source, may_make_folder=part.place is not None)
        if summary and file_keys(destination(summary)) & file_keys(target):
            what = "the output" if name == own_name else "the output's file"
            raise UsageError(f"--summary would overwrite {what} {name}; give it another file")
    if summary:
        is_in_folder = part.place is not None and file_keys(summary.parent) <= file_keys(Path(options.output))
        check_target("--summary", str(summary), destination(summary), source, may_make_folder=is_in_folder)


def check_target(option: str, name: str, target: Path | int, source: Input, *, may_make_folder: bool = False) -> None:
    """Raise `OutputError` if a path or descriptor cannot be written, `UsageError` if it is the input."""
    if isinstance(target, Path) and not may_make_folder and not target.absolute().parent.is_dir():
        raise OutputError(f"cannot write {name}: no such folder")
    if isinstance(target, int) and not is_inherited(target):
        raise OutputError(f"cannot write {name}: it is closed; give a file with {option}")
    if file_keys(source.file.fileno()) & file_keys(target):
        if target == STDOUT:
            raise UsageError("standard output is the input itself; write to another file")
        raise UsageError(f"{option} would overwrite {name}, which is the input itself")


def destination(path: str | Path) -> Path | int:
    """Return the open descriptor that the path of an output names, or else the path."""
    descriptor = STDOUT if path == STANDARD_STREAM else descriptor_of(path)
    return Path(path) if descriptor is None else descriptor
