"""Lines on standard error, with the time in a log file."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from datetime import datetime

import typer

from longclip_cli.storage.streams import STDERR


def now() -> str:
    """Return the local time in ISO 8601, to the second, with its offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def message(text: object, *, is_timed: bool = False) -> str:
    """Return a line for standard error: with the time if `is_timed`, or if standard error is a regular file."""
    return f"longclip-score: {now()} {text}" if is_timed or goes_to_file() else f"longclip-score: {text}"


def goes_to_file() -> bool:
    """Return whether standard error is a regular file, which is read later, and not a terminal or a pipe."""
    with suppress(OSError):
        return stat.S_ISREG(os.fstat(STDERR).st_mode)
    return False


class MessageHandler(logging.Handler):
    """Writes what is logged as messages of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        complain(record.getMessage())


def complain(problem: object) -> None:
    """Print a message on standard error, if somebody reads it."""
    with suppress(OSError):
        typer.echo(message(problem), err=True)
