"""The command `longclip-score`: options in; messages and exit status out."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from enum import IntEnum
from typing import Annotated, Any

import typer

from longclip_cli.cli.options import GroupedCommand, from_values, with_options
from longclip_cli.errors import InterruptedRunError, LongCLIPError, UsageError
from longclip_cli.jobs.score_file import score_file
from longclip_cli.jobs.signals import Stop, stop_on_signals
from longclip_cli.options import ScoreOptions, ScoringOptions
from longclip_cli.reporting.messages import MessageHandler, complain
from longclip_cli.reporting.progress import NoProgress, Progress
from longclip_cli.reporting.summary import Summary
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.streams import open_standard_streams
from longclip_cli.version import __version__

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


class ExitStatus(IntEnum):
    """What the command's exit status says."""

    ALL_SCORED = 0
    STOPPED = 1
    WRONG_USAGE = 2
    SOME_FAILED = 3
    READER_GONE = 141  # 128 + SIGPIPE, as shells have it; likewise 130 and 143 after SIGINT and SIGTERM


def print_version(wanted: bool) -> None:
    """Prints the version and ends the command, if wanted."""
    if wanted:
        typer.echo(f"longclip-score {__version__}")
        raise typer.Exit


@app.command(cls=GroupedCommand, context_settings={"help_option_names": ["-h", "--help"]})
@with_options(ScoringOptions, ScoreOptions)
def score(
    context: typer.Context,
    input: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="JSONL file, an image path and a text in each row; .gz .bz2 .xz .zst are decompressed; - is stdin.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    **values: Any,
) -> None:
    """Score how well each row's text fits its image, with LongCLIP.

    Every row is written as it was with one more field, clip_score, from 0 to 1. A row that cannot be scored
    gets null and the reason in clip_score_error.

    \b
    longclip-score in.jsonl -o out.jsonl
    zcat shard.jsonl.gz | longclip-score -m longclip-L@336px.pt | jq -c 'select(.clip_score > 0.6)'

    Exit status: 0 every row was scored, 1 the run could not start or go on, 2 wrong usage,
    3 complete, but some rows carry an error.
    """
    if input is None and sys.stdin is not None and sys.stdin.isatty():
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(ExitStatus.WRONG_USAGE)
    if not sys.warnoptions:  # what libraries have to say to programmers is for those who ask for it
        warnings.simplefilter("ignore")
    # Threads of a matrix product that wait for each other by spinning take the cores from those that decode,
    # and from other programs: on a busy machine that made a small network several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what comes of its warnings is told in one line
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # for which the client sends a request of its own
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        scoring = from_values(ScoringOptions, values)
        source = ScoreOptions.input if input is None else input
        options = from_values(ScoreOptions, values, input=source, scoring=scoring)
    except UsageError as error:
        complain(error)
        raise typer.Exit(ExitStatus.WRONG_USAGE) from error
    raise typer.Exit(run(options, quiet=quiet))


def run(options: ScoreOptions, *, quiet: bool) -> int:
    """Runs the command and gives its exit status."""
    logging.basicConfig(handlers=[MessageHandler()], level=logging.ERROR)
    logging.getLogger("longclip_cli").setLevel(logging.WARNING)
    summary, stop = Summary(options.scoring.model), Stop()
    status: int = ExitStatus.STOPPED
    try:
        with stop_on_signals(stop):
            score_file(options, summary, NoProgress() if quiet else Progress(), stop)
        status = ExitStatus.SOME_FAILED if summary.failed else ExitStatus.ALL_SCORED
    except BrokenPipeError:
        return ExitStatus.READER_GONE
    except UsageError as error:
        complain(error)
        return ExitStatus.WRONG_USAGE
    except InterruptedRunError as error:
        complain(error)
        status = 128 + stop.signal_number
    except LongCLIPError as error:
        complain(error)
    except Exception as error:
        traceback.print_exc()
        complain(f"stopped by an error that was not foreseen; please report it: {error!r}")
    if not quiet and (summary.rows or summary.is_complete):
        complain(summary)
    if summary.is_complete and summary.rows and not summary.scored:
        complain(f"not one row was scored{advice(next(iter(summary.failures)))}")
    if done := summary.already_complete:
        status = ExitStatus.SOME_FAILED if done.failed else ExitStatus.ALL_SCORED
        if not quiet:
            complain(f"nothing to do: {options.output} is complete ({done.rows} rows, {done.failed} of them failed)")
    beside = side_files(options.output)
    if summary.has_begun and not summary.is_complete and beside and beside.partial.exists():
        complain(f"what is done is in {beside.partial}; run the same command with --resume to go on")
    return status


def advice(reason: str) -> str:
    """What to look at where no row was scored, and the first of them for this reason."""
    if reason.startswith("line:"):
        return "; is the input JSONL?"
    is_named_wrong = "no field" in reason or "no such file" in reason
    return "; see --image-key, --text-key and --image-root" if is_named_wrong else ""


def main() -> None:
    """The console script."""
    open_standard_streams()
    app()
