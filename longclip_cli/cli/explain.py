"""What a command prints when an error stops it."""

from __future__ import annotations

import traceback

from longclip_cli.errors import Interrupted, LongCLIPError, ReaderGoneError
from longclip_cli.reporting.messages import complain


def explain(error: Exception | Interrupted) -> int:
    """Print what has stopped the command, and return the exit status; print nothing if the reader has gone."""
    if not isinstance(error, LongCLIPError | Interrupted):
        traceback.print_exception(error)
        complain(f"unexpected error; please report it: {error!r}")
    elif not isinstance(error, ReaderGoneError):
        complain(error)
    return int(getattr(error, "exit_status", LongCLIPError.exit_status))
