"""The files of kept rows and of the rest: complete or absent, and never an input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
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
from longclip_cli.storage.streams import is_inherited
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


@contextmanager
def open_selected(part: Part | None) -> Iterator[BinaryIO | None]:
    """Yield a file for rows; it gets its name at the end of the `with` block, and is removed on errors.

    Streams are written directly. Without a part there is no file. Raise `OutputError`, also if another run is writing
    the output.
    """
    if part is None:
        yield None
        return
    with open_output(part.output, part.place) as output:
        if not output.files:
            output.begin()
            stream = StreamWriter(output)
            yield cast(BinaryIO, stream)
            stream.flush()
            return
        with output_errors(part.output), whole_file(output.files.target) as new, new.open("wb") as file:
            if compression := compression_of(part.output):
                with closing(COMPRESSORS[compression](file)) as compressed:
                    yield compressed
            else:
                yield file
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
        if name != STANDARD_STREAM:
            taken |= dict.fromkeys(file_keys(destination(name)), f"{name}, which is an input")
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
    named = format_of_name(path)
    if named and named.name != read.name and (named.name, read.name) != ("json", "jsonl"):  # a usual name for it
        raise UsageError(f"{option} {path}: rows keep the format of {part.input}, which is {read.name}")
