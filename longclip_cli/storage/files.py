"""Files that are written whole or not at all, and paths that lead to one file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give an empty file beside `path`, which takes that name at the end of the `with` block and is removed on errors.

    Its own name is unique and not there before, so nothing else is overwritten. If `path` is a link, the link is
    replaced, and not followed. Raises `OSError`.
    """
    new = path.with_name(f".longclip-{os.urandom(6).hex()}.new")
    new.touch(exist_ok=False)
    try:
        yield new
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Put content into a file, whole or not at all, and onto the disk. Raises `OSError`."""
    with whole_file(path) as new, new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def is_regular(path: Path) -> bool:
    """Return whether there is a regular file under this very name, and not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def file_keys(target: Path | int) -> set[tuple[object, ...]]:
    """Return keys of the file that a path or descriptor leads to; two with a common key are one file.

    A regular file has its inode as a key, and a path has its folder's inode with its name: hard links and other
    spellings are found, and files that are yet to be made. Devices are nobody's, and have no key.
    """
    keys: set[tuple[object, ...]] = set()
    try:
        status = os.stat(target)  # noqa: PTH116  (it may be a descriptor)
        if stat.S_ISREG(status.st_mode):
            keys.add((status.st_dev, status.st_ino))
        elif stat.S_ISCHR(status.st_mode):
            return keys
    except OSError:
        pass  # not there yet
    if isinstance(target, int):
        return keys | {(target,)}
    real = Path(os.path.realpath(target))
    try:
        folder = real.parent.stat()
    except OSError:
        return keys
    return keys | {(folder.st_dev, folder.st_ino, real.name)}
