"""The command `longclip-score`: options in; messages and exit status out."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from longclip_cli.cli.explain import explain, version_option
from longclip_cli.cli.options import GroupedCommand, from_values, with_options
from longclip_cli.errors import ReaderGoneError, Reason, UsageError
from longclip_cli.jobs.run import Outcome
from longclip_cli.jobs.score_inputs import score_inputs
from longclip_cli.options import STANDARD_STREAM, ScoreOptions, ScoringOptions
from longclip_cli.reporting.messages import MessageHandler, complain
from longclip_cli.reporting.progress import NoProgress, Progress
from longclip_cli.storage.streams import open_standard_streams

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(cls=GroupedCommand, context_settings={"help_option_names": ["-h", "--help"]})
@with_options(ScoringOptions, ScoreOptions)
def score(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Files of JSONL, JSON, CSV, Parquet or WebDataset, or folders of them; - is stdin.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    _version: Annotated[bool, version_option("longclip-score")] = False,
    **values: Any,
) -> None:
    """Score how well each row's text fits its image, with LongCLIP.

    Each row is written unchanged, with one more field: clip_score, from 0 to 1. A row that cannot be scored
    gets null, and the reason in clip_score_error.

    \b
    longclip-score in.jsonl -o out.jsonl
    longclip-score shards/ -o scored/ --resume
    zcat shard.jsonl.gz | longclip-score -m longclip-L@336px.pt | longclip-select --min 0.6 > kept.jsonl

    Exit status: 0 every row was scored, 1 the run could not start or continue, or an input failed, 2 wrong
    usage, 3 complete, but some rows carry an error.
    """
    if not inputs and sys.stdin is not None and sys.stdin.isatty():
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(UsageError.exit_status)
    if not sys.warnoptions:  # warnings of libraries are for those who ask for them
        warnings.simplefilter("ignore")
    # Threads of a matrix product that spin while they wait take cores from decoding and from other programs: on a
    # busy machine a small network became several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its problems are reported in one line
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # or the client sends an extra request
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        scoring = from_values(ScoringOptions, values)
        sources = tuple(inputs) if inputs else ScoreOptions.inputs
        options = from_values(ScoreOptions, values, inputs=sources, scoring=scoring)
    except UsageError as error:
        complain(error)
        raise typer.Exit(error.exit_status) from error
    raise typer.Exit(run(options, quiet=quiet))


def run(options: ScoreOptions, *, quiet: bool) -> int:
    """Run the command and return its exit status."""
    logging.basicConfig(handlers=[MessageHandler()], level=logging.ERROR)
    logging.getLogger("longclip_cli").setLevel(logging.WARNING)
    outcome = score_inputs(options, NoProgress() if quiet else Progress())
    print_outcome(outcome, options, quiet=quiet)
    return outcome.exit_status


def print_outcome(outcome: Outcome, options: ScoreOptions, *, quiet: bool) -> None:
    """Print how a run ended; nothing if the reader of its rows has gone."""
    summary, error = outcome.summary, outcome.error
    if isinstance(error, ReaderGoneError):
        return
    if error:
        explain(error)
    if earlier := outcome.earlier:
        if not quiet:
            counts = f"{earlier.rows} rows, {earlier.failed} of them failed"
            complain(f"nothing to do: {options.output} is complete ({counts})")
        return
    if not quiet and (summary.rows or not error):
        complain(summary)
    if summary.rows and not summary.scores and not error:
        complain(f"no row was scored{advice(next(iter(summary.reasons)))}")
    if summary.failed_inputs and not error:
        complain(f"{len(summary.failed_inputs)} of {len(summary.inputs)} inputs failed{resume_advice(options)}")
    if outcome.partial:
        complain(f"partial output is in {outcome.partial}; add --resume to continue")


def resume_advice(options: ScoreOptions) -> str:
    """Return how to score inputs that failed once they are repaired, if the run can be resumed."""
    again = "run the same command again" if options.resume else "add --resume"
    return "" if options.output == STANDARD_STREAM else f"; {again} to score only them, once they are repaired"


def advice(reason: Reason) -> str:
    """Return what to check if no row was scored and the first failed for this reason."""
    if reason.is_not_a_row:
        return "; see --input-format"
    is_named_wrong = reason.is_missing_field or reason is Reason.NO_SUCH_FILE
    return "; see --image-key, --text-key and --image-root" if is_named_wrong else ""


def main() -> None:
    """Run the console script."""
    open_standard_streams()
    app()
