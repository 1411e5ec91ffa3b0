"""Checks on the pickles in PyTorch checkpoints: size and nesting, before anything is unpickled.

`torch.load` creates only tensors and plain containers, but as many as a pickle demands. And Python crashes when it
hashes a tuple that is nested 200,000 deep.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pickletools import OpcodeInfo
from typing import IO, Any

from longclip_cli.checkpoints.bounded import DESCRIPTION_BYTES
from longclip_cli.checkpoints.messages import shown
from longclip_cli.errors import CheckpointError

ZIP_MAGIC = b"PK\x03\x04"
MOST_LEVELS = 10_000  # a state dict has 6; containers that are filled in several steps count as more
PICKLES_BEFORE_NUMBERS = 5  # in files older than torch 1.6: magic number, protocol, system, state dict, storage keys


def is_archive(path: Path) -> bool:
    """Return whether `torch.load` reads a file as an archive."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def check_archive(path: Path) -> None:
    """Raise `CheckpointError` if an archive is not from `torch.save`, or takes too much memory to read.

    `torch.save` stores all parts uncompressed, so that they can be mapped. The names of parts with tensors are
    numbers.
    """
    with zipfile.ZipFile(path) as archive:
        parts = [(part.filename.rpartition("/")[2].lower(), part) for part in archive.infolist()]
        if any(name == "constants.pkl" for name, _ in parts):
            raise CheckpointError(
                "refused: a TorchScript program (OpenAI publishes CLIP so), and loading it would run it; "
                "use the same weights from the Hub (--model openai/clip-vit-large-patch14), or save only the weights: "
                "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'weights.pt')"
            )
        for name, part in parts:
            if part.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(f"refused: its part {shown(name)} is compressed; save it with torch.save")
            if part.file_size > DESCRIPTION_BYTES and not name.isdecimal():
                raise CheckpointError(f"refused: its part {shown(name)} claims {part.file_size:,} bytes")
            if name.endswith(".pkl"):
                check_nesting(io.BytesIO(archive.read(part)))


class PickleFile(io.BufferedReader):
    """A file older than torch 1.6: pickles, then plain numbers. Only the pickles go through `read` and `readline`."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._left = DESCRIPTION_BYTES

    @classmethod
    def checked(cls, path: Path) -> PickleFile:
        """Return the opened file. Raise `CheckpointError` if its pickles are nested too deeply."""
        with cls(path) as file:
            check_nesting(file, PICKLES_BEFORE_NUMBERS)
        return cls(path)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes. Raise `CheckpointError` once the pickles are too large."""
        return self._counted(super().read(self._most(size)))

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line. Raise `CheckpointError` once the pickles are too large."""
        return self._counted(super().readline(self._most(size)))

    def _most(self, size: int | None) -> int:
        """Return `size`, at most one byte more than the limit allows."""
        return self._left + 1 if size is None or size < 0 else min(size, self._left + 1)

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise CheckpointError(f"refused: its pickle is larger than {DESCRIPTION_BYTES >> 20} MiB")
        return content


def check_nesting(file: IO[bytes], count: int = 1) -> None:
    """Raise `CheckpointError` if one of the next `count` pickles is nested too deeply. Ignore other damage."""
    with suppress(ValueError, IndexError):
        for _ in range(count):
            for levels in levels_of(file):
                if levels > MOST_LEVELS:
                    raise CheckpointError("refused: its pickle is nested too deeply")


def levels_of(file: IO[bytes]) -> Iterator[int]:
    """Yield for each step of a pickle the nesting depth of the object that it creates.

    The stack holds depths in place of objects, and `None` for a mark.
    """
    stack: list[int | None] = []
    memo: dict[Any, int | None] = {}
    for step, argument, _ in pickletools.genops(file):
        if step.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif step.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(argument))
        elif step.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif step.name == "MARK":
            stack.append(None)
        else:
            level = max((taken + 1 for taken in taken_by(step, stack) if taken is not None), default=0)
            stack.extend([level] * len(step.stack_after))
            yield level


def taken_by(step: OpcodeInfo, stack: list[int | None]) -> Iterator[int | None]:
    """Remove from the stack the items that a step of a pickle takes, and yield them."""
    count = len(step.stack_before)
    if pickletools.markobject in step.stack_before:
        while (item := stack.pop()) is not None:
            yield item
        count = step.stack_before.index(pickletools.markobject)
    for _ in range(count):
        yield stack.pop()
