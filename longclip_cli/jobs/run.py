"""One run: what it works with, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longclip_cli.errors import Interrupted, LongCLIPError
from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.run_record import Completion
from longclip_cli.jobs.signals import Stop
from longclip_cli.options import ScoreOptions
from longclip_cli.reporting.progress import Progress
from longclip_cli.reporting.summary import Summary
from longclip_cli.storage.source import Input

ALL_SCORED, SOME_FAILED = 0, 3  # exit statuses; those of errors are in errors.py


@dataclass(frozen=True)
class Run:
    """A run whose input and output are open."""

    options: ScoreOptions
    source: Input
    output: RecordedOutput
    summary: Summary
    progress: Progress
    stop: Stop


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its counts and, if it did not complete, the error that stopped it.

    `earlier` is the completion of an earlier run, if that left nothing to do. `partial` is the file with the rows that
    this run has left and `--resume` continues.
    """

    summary: Summary
    error: Exception | Interrupted | None = None
    earlier: Completion | None = None
    partial: Path | None = None

    @property
    def exit_status(self) -> int:
        """The exit status of the command."""
        if self.error:
            return int(getattr(self.error, "exit_status", LongCLIPError.exit_status))
        return SOME_FAILED if (self.earlier or self.summary).failed else ALL_SCORED
