"""Lines on standard error; in a log file they start with the time."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress

import typer

from longclip_cli.stopwatch import now
from longclip_cli.storage.streams import STDERR


class Speaker:
    """The command that this process runs, whose name begins each message."""

    name = "longclip-score"


def message(text: object, *, is_timed: bool = False) -> str:
    """Return a line for standard error, with the time if `is_timed` or if standard error is a regular file."""
    return f"{Speaker.name}: {now()} {text}" if is_timed or goes_to_file() else f"{Speaker.name}: {text}"


def goes_to_file() -> bool:
    """Return whether standard error is a regular file, and not a terminal or a pipe."""
    with suppress(OSError):
        return stat.S_ISREG(os.fstat(STDERR).st_mode)
    return False


class MessageHandler(logging.Handler):
    """Writes log records as messages of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        complain(record.getMessage())


def complain(problem: object) -> None:
    """Print a message on standard error; do nothing if its reader has closed it."""
    with suppress(OSError):
        typer.echo(message(problem), err=True)
