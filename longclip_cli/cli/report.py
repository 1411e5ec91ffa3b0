"""The command `longclip-report`: options in; messages and exit status out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from longclip_cli.cli.explain import explain, version_option
from longclip_cli.cli.options import GroupedCommand, from_values, with_options
from longclip_cli.errors import Interrupted
from longclip_cli.jobs.report_options import ReportOptions
from longclip_cli.jobs.signals import stop_on_signals
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.reporting.messages import MessageHandler, Speaker, complain
from longclip_cli.storage.streams import open_standard_streams

NAME = "longclip-report"
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(cls=GroupedCommand, context_settings={"help_option_names": ["-h", "--help"]})
@with_options(ReportOptions)
def report(
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Page to write.", rich_help_panel="Output")
    ],
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="SCORED", help="Scored files, or folders of them; - is stdin.")
    ] = None,
    summary: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Summary of a run; repeatable.", rich_help_panel="Rows", show_default="run records"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    _version: Annotated[bool, version_option(NAME)] = False,
    **values: Any,
) -> None:
    """Write a page about scored files: their scores, where to cut, failures and examples.

    The page is one HTML file that needs no network. Image root, fields and model are taken from the run
    records of the scored files.

    \b
    longclip-report scored.jsonl -o report.html

    Exit status: 0 done, 1 the rows could not be read or the page not written, 2 wrong usage.
    """
    Speaker.name = NAME
    logging.basicConfig(handlers=[MessageHandler()], level=logging.ERROR)
    warnings.simplefilter("ignore")  # of libraries, about images
    try:
        own = {"inputs": tuple(inputs or [STANDARD_STREAM]), "output": output, "summaries": tuple(summary or ())}
        options = from_values(ReportOptions, values, **own)
        with stop_on_signals():
            from longclip_cli.jobs.report import write_report

            size = write_report(options)
    except (Exception, Interrupted) as error:
        raise typer.Exit(explain(error)) from error
    if not quiet:
        complain(f"wrote {output} ({size / 1e6:.2f} MB)")


def main() -> None:
    """Run the console script."""
    open_standard_streams()
    app()
