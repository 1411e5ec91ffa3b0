"""What the commands have in common: how an error is printed, and the version."""

from __future__ import annotations

import traceback
from typing import Any

import typer

from longclip_cli.errors import Interrupted, LongCLIPError, ReaderGoneError
from longclip_cli.reporting.messages import complain
from longclip_cli.version import __version__


def explain(error: Exception | Interrupted) -> int:
    """Print what has stopped the command, and return the exit status; print nothing if the reader has gone."""
    if not isinstance(error, LongCLIPError | Interrupted):
        traceback.print_exception(error)
        complain(f"unexpected error; please report it: {error!r}")
    elif not isinstance(error, ReaderGoneError):
        complain(error)
    return int(getattr(error, "exit_status", LongCLIPError.exit_status))


def version_option(command: str) -> Any:
    """Return the option of a command that prints its version and ends it."""

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{command} {__version__}")
            raise typer.Exit

    return typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
