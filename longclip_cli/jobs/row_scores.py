"""The scores of rows in units, one after another, in a temporary file: four bytes a row, so that memory is constant."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from longclip_cli.jobs.criteria import empty_counts
from longclip_cli.storage.files import output_errors

FAILED = -1  # in place of the score of a row that has none
BLOCK_ROWS = 2**16
TYPE = "i"
PLACE = f"a temporary file in {tempfile.gettempdir()} (see TMPDIR)"


class RowScores:
    """Scores in the order of the rows, and how many rows have each. `failed` rows have none."""

    def __init__(self) -> None:
        self.counts = empty_counts()
        self.failed = 0
        self.rows = 0
        with output_errors(PLACE):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `__exit__`)
        self._block = array(TYPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def scored(self) -> int:
        """The number of rows with a score."""
        return self.rows - self.failed

    def count(self, score: int) -> None:
        """Count a row, and do not keep its score."""
        self.rows += 1
        if score == FAILED:
            self.failed += 1
        else:
            self.counts[score] += 1

    def add(self, score: int) -> None:
        """Count a row and keep its score. Raise `OutputError` if there is no room for it."""
        self.count(score)
        self._block.append(score)
        if len(self._block) >= BLOCK_ROWS:
            self._write()

    def _write(self) -> None:
        with output_errors(PLACE):
            self._file.seek(0, 2)
            self._block.tofile(self._file)
        del self._block[:]

    def between(self, start: int, end: int) -> Iterator[int]:
        """Yield the scores of the rows from `start` up to `end`, counted from 0."""
        if self._block:
            self._write()
        while start < end:
            block = array(TYPE)
            with output_errors(PLACE):
                self._file.seek(start * block.itemsize)
                block.frombytes(self._file.read(min(BLOCK_ROWS, end - start) * block.itemsize))
            yield from block
            start += len(block)
