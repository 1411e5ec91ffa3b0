"""The command `longclip-select`: options in; messages and exit status out."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from longclip_cli.cli.explain import explain, version_option
from longclip_cli.errors import Interrupted, UsageError
from longclip_cli.jobs.criteria import Criterion, range_of, range_without, top_of
from longclip_cli.jobs.select import select_rows
from longclip_cli.jobs.selection import SelectOptions
from longclip_cli.jobs.signals import stop_on_signals
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.reporting.messages import MessageHandler, Speaker, complain
from longclip_cli.storage.streams import open_standard_streams

NAME = "longclip-select"
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def select(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCORED", help="Scored files, or folders of them; - is stdin."),
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="KEPT", help="Kept rows: a file, or a folder for several inputs.")
    ] = STANDARD_STREAM,
    rest: Annotated[
        str | None,
        typer.Option(metavar="REST", show_default=False, help="All other rows: a file, or a folder."),
    ] = None,
    least: Annotated[
        float | None, typer.Option("--min", metavar="S", help="Keep scores of S or more.", show_default=False)
    ] = None,
    most: Annotated[
        float | None, typer.Option("--max", metavar="S", help="Keep scores of S or less.", show_default=False)
    ] = None,
    top: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Keep the N, or P %, of highest score.", show_default=False)
    ] = None,
    mismatched: Annotated[
        str | None,
        typer.Option(metavar="P%", help="Keep scores that at most P % of mismatched pairs have.", show_default=False),
    ] = None,
    summary: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Summary of the run, for --mismatched; repeatable.", show_default=False),
    ] = None,
    reduce: Annotated[
        Literal["mean", "min", "max"] | None,
        typer.Option(help="What counts of several scores in a row.", show_default=False),
    ] = None,
    output_key: Annotated[str, typer.Option(metavar="KEY", help="Field that holds the score.")] = "clip_score",
    input_format: Annotated[
        Literal["jsonl", "json", "csv", "tsv", "parquet"] | None,
        typer.Option(show_default="by suffix, then by content", help="Format of the inputs."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    _version: Annotated[bool, version_option(NAME)] = False,
) -> None:
    """Choose rows of scored files by their score.

    Give --min, --max or both of them, or --top, or --mismatched. Bounds are included. Rows without a score
    go to the rest. Rows keep their bytes, their order and their format.

    \b
    longclip-select scored.jsonl --top 30% -o kept.jsonl --rest rest.jsonl
    longclip-score in.jsonl | longclip-select --min 0.6 > kept.jsonl

    Exit status: 0 done, 1 the rows could not be read or written, 2 wrong usage.
    """
    if not inputs and sys.stdin is not None and sys.stdin.isatty():
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(UsageError.exit_status)
    Speaker.name = NAME
    logging.basicConfig(handlers=[MessageHandler()], level=logging.ERROR)
    logging.getLogger("longclip_cli").setLevel(logging.WARNING)
    try:
        criterion = criterion_of(least, most, top, mismatched, tuple(summary or ()))
        options = SelectOptions(
            criterion,
            tuple(inputs or SelectOptions.inputs),
            output,
            rest,
            output_key,
            input_format,
            reduce,
            tuple(summary or ()),
        )
        with stop_on_signals():
            selection = select_rows(options)
    except (Exception, Interrupted) as error:
        raise typer.Exit(explain(error)) from error
    if not quiet:
        complain(selection)


def criterion_of(
    least: float | None, most: float | None, top: str | None, mismatched: str | None, summaries: tuple[Path, ...]
) -> Criterion:
    """Return what is kept. Raises `UsageError` unless the options say it in one way."""
    bounds = " and ".join(name for name, value in (("--min", least), ("--max", most)) if value is not None)
    others = [name for name, value in (("--top", top), ("--mismatched", mismatched)) if value is not None]
    given = [name for name in (bounds, *others) if name]
    if not given:
        raise UsageError("which rows are kept? give --min, --max, --top or --mismatched")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other; give one of them")
    if summaries and mismatched is None:
        raise UsageError("--summary is for --mismatched")
    if top is not None:
        return top_of(top)
    return range_of(least, most) if mismatched is None else range_without(mismatched, summaries)


def main() -> None:
    """Run the console script."""
    open_standard_streams()
    app()
