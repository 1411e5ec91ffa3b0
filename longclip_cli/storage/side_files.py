"""The files beside an output file, and whether what is there may be replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longclip_cli.errors import OutputError
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.files import is_regular, output_errors
from longclip_cli.storage.streams import named_descriptor

SIDE_FOLDER = ".longclip"  # in a folder of outputs: the side files of all outputs there
PARTIAL, NEW, LOCK, RECORD = SIDE_SUFFIXES = (".partial", ".partial.new", ".partial.lock", ".run.json")


@dataclass(frozen=True)
class SideFiles:
    """Paths of the files of a run beside the output `target`, which is not a link.

    If the output is one of several in a folder, they are in `place`, under the output's name there.
    """

    target: Path
    place: Path | None = None

    @property
    def partial(self) -> Path:
        """The rows, until the run is complete."""
        return self._beside(PARTIAL)

    @property
    def new(self) -> Path:
        """The finished file, while it is made from the partial one."""
        return self._beside(NEW)

    @property
    def lock(self) -> Path:
        """An empty file that exists while a run is active."""
        return self._beside(LOCK)

    @property
    def record(self) -> Path:
        """The run record."""
        return self._beside(RECORD)

    def _beside(self, suffix: str) -> Path:
        place = self.place or self.target
        return place.with_name(place.name + suffix)

    def __iter__(self) -> Iterator[Path]:
        return iter((self.partial, self.new, self.lock, self.record))

    def make_folders(self) -> None:
        """Make the folders that the output and these files are in, if the output is one of several in a folder.

        Raise `OutputError` if they are on two file systems, since no file can be renamed from one to the other.
        """
        if not self.place:
            return
        folders = (self.target.parent, self.place.parent)
        with output_errors(str(self.target.parent)):
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            if len({folder.stat().st_dev for folder in folders}) > 1:
                raise OutputError(f"cannot write {self.target}: {self.place.parent} is on another file system")

    def check_lock(self) -> None:
        """Raise `OutputError` if the lock's path holds something other than a lock."""
        with output_errors(str(self.lock)):
            check_regular(self.lock)
            if os.path.lexists(self.lock) and self.lock.stat().st_size > 0:
                raise refused(self.lock, "it is not the lock of a run, which would be empty")

    def check(self) -> None:
        """Raise `OutputError` if the path of a record or an unfinished output holds something other than a file."""
        for path in (self.record, self.partial, self.new):
            check_regular(path)


def check_regular(path: Path) -> None:
    """Raise `OutputError` unless a path is free or holds a regular file. A link is none."""
    if os.path.lexists(path) and not is_regular(path):
        raise refused(path, "it is not a regular file")


def refused(path: Path, problem: str) -> OutputError:
    """Return the error of a path that holds something that no run has written."""
    return OutputError(f"cannot write {path}: {problem}; move it away, or choose another output with -o")


def side_files(path: str, place: Path | None = None) -> SideFiles | None:
    """Return the files beside the output `path`, or at `place`; `None` if it is a descriptor, a FIFO or a device.

    If `path` is a link, they are beside the file that it leads to.
    """
    if path == STANDARD_STREAM or named_descriptor(path) or (Path(path).exists() and not Path(path).is_file()):
        return None
    return SideFiles(Path(os.path.realpath(path)), place)
