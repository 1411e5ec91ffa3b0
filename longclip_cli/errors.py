"""What can go wrong, as exceptions: one sentence each, with the cause and the remedy."""

from __future__ import annotations

import re

MOST_QUOTED = 80  # characters of a value in a message
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200}")  # so long, with neither a dot nor a dash, it is no path


class LongCLIPError(Exception):
    """The run cannot start or cannot go on; the message is one line for the user."""


class UsageError(LongCLIPError):
    """The command was asked for something that makes no sense."""


class InputError(LongCLIPError):
    """The input cannot be opened, or became unreadable midway."""


class OutputError(LongCLIPError):
    """The output cannot be opened, written or put in place."""


class CheckpointError(LongCLIPError):
    """A checkpoint cannot be found, read or understood."""


class DeviceError(LongCLIPError):
    """The device asked for is not there, or its memory is too small."""


class ResourceError(LongCLIPError):
    """The process has run out of something that every row needs, such as file descriptors."""


class InterruptedRunError(LongCLIPError):
    """The run was asked to stop before its input was done."""


class TooManyFailuresError(LongCLIPError):
    """So many rows failed that going on makes no sense."""


class RowError(LongCLIPError):
    """One row cannot be scored; its neighbours can.

    `reason` is the kind of failure, the same for all rows that fail alike ("image: no such file"). The
    message adds what is particular to this row, `detail`, unless a whole `message` is given.
    """

    def __init__(self, reason: str, detail: str = "", *, message: str | None = None) -> None:
        super().__init__(message or (f"{reason}: {detail}" if detail else reason))
        self.reason = reason


def quote(value: str) -> str:
    """Return a value for a message: its middle replaced by `…` if it is longer than 80 characters.

    Says so of a value that holds an image instead of a path.
    """
    if len(value) <= MOST_QUOTED:
        return value
    kind = ""
    if value.startswith("data:"):
        kind = " (a data: URI)"
    elif BASE64.match(value):
        kind = " (looks like base64)"
    return cut(value) + kind


def cut(text: str) -> str:
    """Return a text with its middle replaced by `…` if it is longer than 80 characters."""
    half = MOST_QUOTED // 2
    return text if len(text) <= MOST_QUOTED else f"{text[:half]}…{text[1 - half :]}"
