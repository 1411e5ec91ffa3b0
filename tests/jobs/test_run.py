"""The exit status of a run's outcome."""

import pytest
from helpers import jsonl_row

from longclip_cli.errors import InputError, Interrupted, ReaderGoneError, Reason, RowError, UsageError
from longclip_cli.jobs.run import Outcome
from longclip_cli.jobs.run_record import Completion
from longclip_cli.reporting.summary import InputSummary, Summary


def summary_of(*results):
    summary = Summary()
    for result in results:
        summary.add_kept(jsonl_row(), result)
    summary.inputs.append(
        InputSummary("in.jsonl", "out.jsonl", complete=True, rows=len(results), failed=summary.failed)
    )
    return summary


def earlier_run(failed):
    """Return the outcome of a run for which an earlier one has left nothing to do."""
    summary = Summary()
    summary.inputs.append(InputSummary("in.jsonl", "out.jsonl", complete=True, rows=2, failed=failed, earlier=True))
    return Outcome(summary, earlier=Completion(rows=2, failed=failed, size=9))


SCORED, SOME_FAILED = summary_of(0.5), summary_of(0.5, RowError(Reason.BLANK_TEXT))


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(summary_of()), 0),
        (Outcome(SCORED), 0),
        (Outcome(SOME_FAILED), 3),
        (earlier_run(failed=0), 0),
        (earlier_run(failed=1), 3),
        (Outcome(SOME_FAILED, InputError("unreadable")), 1),
        (Outcome(SOME_FAILED, ZeroDivisionError()), 1),
        (Outcome(summary_of(), UsageError("wrong")), 2),
        (Outcome(SCORED, Interrupted(2)), 130),
        (Outcome(SOME_FAILED, Interrupted(15)), 143),
        (Outcome(SCORED, ReaderGoneError()), 141),
    ],
)
def test_the_exit_status_follows_from_the_outcome(outcome, status):
    assert outcome.exit_status == status
