"""A folder of outputs: made, locked by one run, and free of what killed runs have left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from longclip_cli.errors import OutputError
from longclip_cli.storage.files import TEMPORARY_FILES, output_errors
from longclip_cli.storage.side_files import SIDE_FOLDER


class OutputFolder:
    """A folder that holds outputs, and their side files in a hidden folder. One run at a time can write it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._side = path / SIDE_FOLDER
        self._lock = FileLock(self._side / "run.lock")

    def __enter__(self) -> Self:
        """Make and lock the folder. Raise `OutputError` if it cannot be made, or another run has locked it."""
        for folder in (self._path, self._side):
            if os.path.lexists(folder) and (not folder.is_dir() or (folder is self._side and folder.is_symlink())):
                raise OutputError(f"cannot write {folder}: it is not a folder; move it away, or choose another with -o")
            with output_errors(str(folder)):
                folder.mkdir(parents=True, exist_ok=True)
        with output_errors(str(self._side)):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise OutputError(f"another run is writing {self._path} (it holds {self._lock.lock_file})") from None
            for left in self._side.rglob(TEMPORARY_FILES):
                left.unlink(missing_ok=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()
