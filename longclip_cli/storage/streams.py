"""Standard streams and open descriptors, and which of them were open when this process started."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

STDIN, STDOUT, STDERR = range(3)
MAX_LINKS = 40  # the limit of Linux for links in one path
PROCESS_DESCRIPTORS = re.compile(r"/proc/\d+(/task/\d+)?/fd")


def open_standard_streams() -> None:
    """Open the null device for those of the descriptors 0, 1 and 2 that are closed.

    Otherwise the next file or pipe that is opened gets such a number, and rows or messages go into it. Call this
    before anything else is opened.
    """
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stderr is None:  # libraries write to it without asking
        sys.stderr = open(STDERR, "w", closefd=False)  # noqa: SIM115


def is_inherited(descriptor: int) -> bool:
    """Return whether the caller opened this descriptor, and not this process.

    Python opens all descriptors so that they are not inherited; those that came with the start are inheritable.
    """
    with suppress(OSError):
        return os.get_inheritable(descriptor)
    return False


def descriptor_of(path: str | Path) -> int | None:
    """Return the open descriptor of this process that a path names, or links lead to; `None` for other paths.

    Such paths are `/dev/stdout`, `/dev/fd/1` and `/proc/self/fd/1`.
    """
    named = named_descriptor(path)
    own = {os.path.realpath(folder) for folder in ("/dev/fd", "/proc/self/fd", "/proc/thread-self/fd")}
    return int(named.name) if named and str(named.parent) in own else None


def named_descriptor(path: str | Path) -> Path | None:
    """Return the path of a descriptor, of this or another process, that a path leads to; `None` for other paths."""
    here = Path(path).absolute()
    for _ in range(MAX_LINKS):
        here = Path(os.path.realpath(here.parent)) / here.name
        if here.name.isdecimal() and (str(here.parent) == "/dev/fd" or PROCESS_DESCRIPTORS.fullmatch(str(here.parent))):
            return here
        if not here.is_symlink():
            break
        here = here.parent / here.readlink()
    return None
