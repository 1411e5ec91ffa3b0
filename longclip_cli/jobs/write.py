"""Rows into the outputs of their inputs, in order; each output is completed when its input has ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from longclip_cli.errors import (
    DifferentRunError,
    InputError,
    LongCLIPError,
    OutputError,
    TooManyFailuresError,
    WrongInputError,
)
from longclip_cli.jobs.inputs import FailedPart, Inputs
from longclip_cli.jobs.part import OpenPart
from longclip_cli.jobs.plan import Part
from longclip_cli.jobs.run import Run
from longclip_cli.jobs.run_record import Completion
from longclip_cli.jobs.start import ALIKE_FROM_START, all_alike, no_row
from longclip_cli.reporting.summary import InputSummary
from longclip_cli.rows import ScoredRow

log = logging.getLogger(__name__)


class Writer:
    """Writes and counts scored rows, and keeps account of the inputs. Only the main thread uses it."""

    def __init__(self, run: Run, inputs: Inputs) -> None:
        self._run = run
        self._inputs = inputs
        self._current: OpenPart | None = None
        self.earlier: Completion | None = None  # of the only input, if an earlier run has left nothing to do

    @property
    def partial(self) -> Path | None:
        """The unfinished output that `--resume` continues, if there is one."""
        return self._current.output.partial if self._current else None

    def write(self, scored: Sequence[ScoredRow]) -> None:
        """Write the next rows of the run, which may be of several inputs, and complete what has ended.

        Raise what ends the run.
        """
        while scored:
            if not self._current:
                self._take()
                continue
            count = self._current.rows_of(len(scored))
            self._write(self._current, scored[:count])
            scored = scored[count:]
            if scored:
                self.finish()
        self.complete_ended()

    def complete_ended(self) -> None:
        """Complete the outputs of all inputs that have ended and whose rows are written. Raise what ends the run."""
        while self._current or self._take():
            if self._current and not self._current.is_written:
                return
            if self._current:
                self.finish()

    def _take(self) -> bool:
        """Go on to the next input that was opened; return whether there is one."""
        taken = self._inputs.take()
        if isinstance(taken, FailedPart):
            self.fail(taken.part, taken.error)
        elif taken:
            self._begin(taken)
        return taken is not None

    def _begin(self, opened: OpenPart) -> None:
        """Go on to an input; the rows that its output has already are counted."""
        self._current = opened
        self._run.summary.merge(opened.counts)

    def finish_without_model(self, opened: OpenPart) -> None:
        """Write all rows of an input, which have failed, and complete its output, if that is not complete already."""
        self._begin(opened)
        self._write(opened, opened.failed or [])
        self.finish()
        self.earlier = opened.earlier if self._run.plan.is_one else None

    def _write(self, opened: OpenPart, scored: Sequence[ScoredRow]) -> None:
        if opened.abandoned or not scored:
            return
        summary = self._run.summary
        with summary.stopwatch.measure("writing"):
            opened.write(scored)
        summary.add(scored)
        self._run.progress.update(summary, opened.part.start + scored[-1].row.offset)
        self._stop_if_hopeless(opened, scored[0])

    def _stop_if_hopeless(self, opened: OpenPart, first: ScoredRow) -> None:
        """Raise `TooManyFailuresError` beyond `--max-errors`; without it, give up an input whose first rows fail alike.

        `first` is the first of the rows that were written last.
        """
        summary, max_errors = self._run.summary, self._run.options.max_errors
        failed = summary.failed - summary.kept_failed
        if max_errors is not None and failed > max_errors:
            raise TooManyFailuresError(f"stopped: {failed} rows have failed (--max-errors {max_errors})")
        if max_errors is None and opened.counts.alike_from_start >= ALIKE_FROM_START and not opened.counts.kept:
            opened.output.discard()  # or --resume would keep the failed rows when the cause is gone
            opened.abandoned = all_alike(opened.counts.alike_from_start, first, opened)
            if self._ends_run(opened.part, opened.abandoned):
                raise opened.abandoned

    def finish(self) -> None:
        """Complete the output of the current input, or account for what has stopped it."""
        opened = self._current
        assert opened, "an input has begun"
        error = opened.abandoned or opened.error
        if not error and not opened.earlier:
            try:
                self._complete(opened)
            except InputError as failure:
                error = failure
        if error:
            self.fail(opened.part, error, opened)
        else:
            self._note(opened.part, opened, is_complete=True)
        self._current = None
        self._inputs.close(opened)

    def _complete(self, opened: OpenPart) -> None:
        if opened.counts.has_no_row:
            opened.output.discard()
            raise no_row(opened, opened.first_bytes)
        opened.complete()

    def fail(self, part: Part, error: LongCLIPError, opened: OpenPart | None = None) -> None:
        """Account for an input that failed. Raise the error if it ends the run."""
        self._note(part, opened, error=str(error))
        if self._ends_run(part, error):
            raise error
        log.error("failed: %s", error if part.input in str(error) else f"{part.input}: {error}")

    def _ends_run(self, part: Part, error: LongCLIPError) -> bool:
        """Return whether an input's error is the run's: if it has no other, or if the next one would fail alike."""
        plan = self._run.plan
        # And not of the options, the model or the device.
        is_of_the_input = isinstance(error, InputError | OutputError) and not isinstance(error, DifferentRunError)
        return plan.is_one or not is_of_the_input or (isinstance(error, WrongInputError) and part is plan.parts[0])

    def note_unfinished(self) -> None:
        """Account for the input that was being written when the run was stopped."""
        noted = self._run.summary.inputs
        if self._current and not (noted and noted[-1].input == self._current.part.input):
            self._note(self._current.part, self._current)

    def _note(
        self, part: Part, opened: OpenPart | None, *, is_complete: bool = False, error: str | None = None
    ) -> None:
        earlier = opened.earlier if opened else None
        counts = earlier or (opened.counts if opened else None)
        rows, failed = (counts.rows, counts.failed) if counts else (0, 0)
        noted = InputSummary(part.input, part.output, is_complete, rows, failed, earlier is not None, error)
        self._run.summary.inputs.append(noted)
