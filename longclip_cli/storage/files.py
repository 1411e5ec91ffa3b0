"""Files that are written whole or not at all, errors of writing, and paths that lead to one file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from longclip_cli.errors import OutputError, ReaderGoneError

TEMPORARY_FILES = ".longclip-*.new"  # their names


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path`, which is renamed to it at the end of the `with` block and removed on errors.

    It has a unique name and is created exclusively, so nothing else is overwritten. If `path` is a link, the link is
    replaced and not followed. Raise `OSError`.
    """
    new = path.with_name(TEMPORARY_FILES.replace("*", os.urandom(6).hex()))
    new.touch(exist_ok=False)
    try:
        yield new
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write content to a file, whole or not at all, and onto the disk. Raise `OSError`."""
    with whole_file(path) as new, new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def json_fields(values: Mapping[str, object]) -> bytes:
    """Return an object as JSON in UTF-8, one field a line; lone surrogates become `\\udc00`."""
    fields = (f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    return ("{\n" + ",\n".join(fields) + "\n}\n").encode("utf-8", "backslashreplace")


@contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turn an error of the operating system into an `OutputError` that names the output, or `ReaderGoneError`."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError(f"cannot write {name}: its reader has closed it") from error
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}") from error


def is_regular(path: Path) -> bool:
    """Return whether a path is a regular file, and not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def file_keys(target: Path | int) -> set[tuple[object, ...]]:
    """Return keys of the file that a path or descriptor leads to; two with a common key are one file.

    A regular file has its inode as a key, and a path has its folder's inode with its name. So hard links, other
    spellings and files that do not exist yet are found. Devices have no key: several may write to one.
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
