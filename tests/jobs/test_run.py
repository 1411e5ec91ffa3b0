"""The exit status of a run's outcome."""

import pytest
from helpers import jsonl_row

from longclip_cli.errors import InputError, Interrupted, ReaderGoneError, Reason, RowError, UsageError
from longclip_cli.jobs.run import Outcome
from longclip_cli.jobs.run_record import Completion
from longclip_cli.reporting.summary import Summary


def summary_of(*results):
    summary = Summary()
    for result in results:
        summary.add_kept(jsonl_row(), result)
    return summary


SCORED, SOME_FAILED = summary_of(0.5), summary_of(0.5, RowError(Reason.BLANK_TEXT))


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(summary_of()), 0),
        (Outcome(SCORED), 0),
        (Outcome(SOME_FAILED), 3),
        (Outcome(summary_of(), earlier=Completion(rows=2, failed=0, size=9)), 0),
        (Outcome(summary_of(), earlier=Completion(rows=2, failed=1, size=9)), 3),
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
