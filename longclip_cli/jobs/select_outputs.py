"""The files of kept rows and of the rest: complete or absent, and never an input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.formats.detect import format_of_name
from longclip_cli.formats.format import Format
from longclip_cli.jobs.check_output import destination
from longclip_cli.jobs.plan import Part
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.compression import COMPRESSORS, compression_of
from longclip_cli.storage.files import file_keys, output_errors, whole_file
from longclip_cli.storage.output_file import open_output
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.streams import STDIN, is_inherited
from longclip_cli.storage.target import Output

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WRITE_BYTES = 2**20  # that are joined before they are written to a stream


class StreamWriter(RawIOBase):
    """Joins what is written to a stream, until `flush`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._held: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, content: ReadableBuffer, /) -> int:
        """Hold the content, and write what is held if that is much."""
        piece = bytes(content)
        self._held.append(piece)
        self._size += len(piece)
        if self._size >= WRITE_BYTES:
            self.flush()
        return len(piece)

    def flush(self) -> None:
        """Write what is held. Raise `OutputError`, or `ReaderGoneError` if the reader has closed the stream."""
        held, self._held, self._size = self._held, [], 0
        if held:
            self._output.write(b"".join(held))


@dataclass(frozen=True)
class Selected:
    """An output for rows while it is written."""

    path: str
    file: BinaryIO

    def write(self, content: bytes) -> None:
        """Write some bytes. Raise `OutputError`."""
        with output_errors(self.path):
            self.file.write(content)

    def flush(self) -> None:
        """Write what is held. Raise `OutputError`."""
        with output_errors(self.path):
            self.file.flush()


@contextmanager
def open_selected(*parts: Part | None) -> Iterator[list[Selected | None]]:
    """Yield an output for each part. They get their names at the end of the `with` block, and are removed on errors.

    No file gets its name before all are on the disk. Streams are written directly. Raise `OutputError`, also if another
    run is writing an output.
    """
    with ExitStack() as names, ExitStack() as contents:
        yield [contents.enter_context(open_content(part, names)) if part else None for part in parts]


@contextmanager
def open_content(part: Part, names: ExitStack) -> Iterator[Selected]:
    """Yield the output of a part, which is on the disk at the end of the `with` block and gets its name by `names`."""
    output = names.enter_context(open_output(part.output, part.place))
    if not output.files:
        output.begin()
        stream = StreamWriter(output)
        yield Selected(part.output, cast(BinaryIO, stream))
        stream.flush()
        return
    with output_errors(part.output):
        names.enter_context(output_errors(part.output))
        new = names.enter_context(whole_file(output.files.target))
        file = names.enter_context(new.open("wb"))
    compression = compression_of(part.output)
    compressed = COMPRESSORS[compression](file) if compression else None
    yield Selected(part.output, compressed or file)
    with output_errors(part.output):
        if compressed:
            compressed.close()
        file.flush()
        os.fsync(file.fileno())


def check_parts(inputs: Iterable[str], summaries: Iterable[Path], outputs: dict[str, tuple[Part, ...]]) -> None:
    """Check all outputs, by option, before anything is written.

    Raise `OutputError` if one cannot be written, `UsageError` if it is an input, or is written twice.
    """
    taken: dict[tuple[object, ...], str] = {}
    for path in summaries:
        taken |= dict.fromkeys(file_keys(path), f"{path}, which --summary names")
    for name in inputs:
        is_stdin = name == STANDARD_STREAM
        shown = "standard input" if is_stdin else name
        taken |= dict.fromkeys(file_keys(STDIN if is_stdin else destination(name)), f"{shown}, which is an input")
    for option, parts in outputs.items():
        shared: dict[tuple[object, ...], str] = {}
        for part in parts:
            keys = file_keys(check_target(option, part))
            if found := next((taken[key] for key in keys if key in taken), None):
                raise UsageError(f"{option} would overwrite {found}")
            shared |= dict.fromkeys(keys, f"{part.output}, which {option} names")
        taken |= shared


def check_target(option: str, part: Part) -> Path | int:
    """Return where an output goes. Raise `OutputError` if that cannot be written."""
    path = part.output
    target = destination(path)
    if isinstance(target, int):
        if not is_inherited(target):
            raise OutputError(f"cannot write {path}: it is closed; give a file with {option}")
    elif target.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    elif part.place is None and not target.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: no such folder")
    return target


def check_format(option: str, part: Part, read: Format) -> None:
    """Raise `UsageError` if an output can't have the format of its input: rows keep it."""
    path = part.output
    if not side_files(path, part.place):
        if not read.streams:
            raise UsageError(f"{part.input}: {read.name} is not written to a stream; give a file with {option}")
        return
    if read.seeks and (suffix := compression_of(path)):
        raise UsageError(f"{option} {path}: {read.name} is not compressed as a whole; remove {suffix} from the name")
    named = format_of_name(path)
    is_usual = named is None or named.name == read.name or (named.name, read.name) == ("json", "jsonl")
    if not is_usual and not part.place:  # an output in a folder has the name of its input
        raise UsageError(f"{option} {path}: rows keep the format of {part.input}, which is {read.name}")
