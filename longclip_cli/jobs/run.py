"""One run: what all its inputs share, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longclip_cli.errors import Interrupted, LongCLIPError
from longclip_cli.jobs.plan import Plan
from longclip_cli.jobs.run_record import Completion
from longclip_cli.jobs.signals import Stop
from longclip_cli.options import ScoreOptions
from longclip_cli.reporting.progress import Progress
from longclip_cli.reporting.summary import Summary

ALL_SCORED, SOME_FAILED = 0, 3  # exit statuses; those of errors are in errors.py


@dataclass(frozen=True)
class Run:
    """What the inputs of a run share. The main thread is the one writer of the summary."""

    options: ScoreOptions
    plan: Plan
    summary: Summary
    progress: Progress
    stop: Stop


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its counts and, if it did not complete, the error that stopped it.

    `earlier` is the completion of an earlier run, if that left nothing to do for the only input. `partial` is the file
    with the rows that this run has left and `--resume` continues.
    """

    summary: Summary
    error: Exception | Interrupted | None = None
    earlier: Completion | None = None
    partial: Path | None = None

    @property
    def exit_status(self) -> int:
        """The exit status of the command: of several inputs the worst."""
        if self.error:
            return int(getattr(self.error, "exit_status", LongCLIPError.exit_status))
        if self.summary.failed_inputs:
            return LongCLIPError.exit_status
        return SOME_FAILED if any(each.failed for each in self.summary.inputs) else ALL_SCORED
