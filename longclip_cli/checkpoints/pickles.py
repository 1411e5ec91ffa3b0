"""The pickles in checkpoints of PyTorch: how large and how deeply nested they are, before anything is made of them.

`torch.load` makes nothing but tensors and plain containers, but it makes as many of them as a pickle says, and Python
crashes where it has to hash a tuple that is nested 200,000 deep.
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

from longclip_cli.checkpoints.bounded import DESCRIPTION_BYTES, shown
from longclip_cli.errors import CheckpointError

ZIP_MAGIC = b"PK\x03\x04"
MOST_LEVELS = 10_000  # a state dict has 6; containers that are filled in several steps count some more
PICKLES_BEFORE_NUMBERS = 5  # in a file from before torch 1.6: magic number, protocol, system, state dict, storage keys


def is_archive(path: Path) -> bool:
    """Return whether `torch.load` takes a file for an archive."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def check_archive(path: Path) -> None:
    """Raise `CheckpointError` for an archive that `torch.save` has not written, or that takes too much memory to read.

    That function stores all parts uncompressed, so that they can be mapped, and numbers those that hold tensors.
    """
    with zipfile.ZipFile(path) as archive:
        parts = [(part.filename.rpartition("/")[2].lower(), part) for part in archive.infolist()]
        if any(name == "constants.pkl" for name, _ in parts):
            raise CheckpointError(
                "refused, since it is a TorchScript program, as OpenAI publishes CLIP, and loading it would run it; "
                "take the same weights from the Hub (--model openai/clip-vit-large-patch14), or save them alone: "
                "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'weights.pt')"
            )
        for name, part in parts:
            if part.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(f"refused, since its part {shown(name)} is compressed; save it with torch.save")
            if part.file_size > DESCRIPTION_BYTES and not name.isdecimal():
                raise CheckpointError(f"refused, since its part {shown(name)} claims {part.file_size:,} bytes")
            if name.endswith(".pkl"):
                check_nesting(io.BytesIO(archive.read(part)))


class PickleFile(io.BufferedReader):
    """A file from before torch 1.6: pickles, which are read through `read` and `readline`, before plain numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._left = DESCRIPTION_BYTES

    @classmethod
    def checked(cls, path: Path) -> PickleFile:
        """Return the opened file; raise `CheckpointError` where its pickles are nested too deeply."""
        with cls(path) as file:
            check_nesting(file, PICKLES_BEFORE_NUMBERS)
        return cls(path)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; raise `CheckpointError` once the pickles are too large."""
        return self._counted(super().read(self._most(size)))

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line; raise `CheckpointError` once the pickles are too large."""
        return self._counted(super().readline(self._most(size)))

    def _most(self, size: int | None) -> int:
        """One byte more than there may be."""
        return self._left + 1 if size is None or size < 0 else min(size, self._left + 1)

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise CheckpointError(f"refused, since its pickle is larger than {DESCRIPTION_BYTES >> 20} MiB")
        return content


def check_nesting(file: IO[bytes], count: int = 1) -> None:
    """Raise `CheckpointError` if one of the next `count` pickles is nested too deeply. Reports no other damage."""
    with suppress(ValueError, IndexError):
        for _ in range(count):
            for levels in levels_of(file):
                if levels > MOST_LEVELS:
                    raise CheckpointError("refused, since its pickle is nested too deeply")


def levels_of(file: IO[bytes]) -> Iterator[int]:
    """Return for each step of a pickle how deeply nested the object is that it makes.

    The stack holds levels in place of objects, and `None` for a mark.
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
    """Take from the stack what a step of a pickle takes from it."""
    count = len(step.stack_before)
    if pickletools.markobject in step.stack_before:
        while (item := stack.pop()) is not None:
            yield item
        count = step.stack_before.index(pickletools.markobject)
    for _ in range(count):
        yield stack.pop()
