"""The command `longclip-report`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from longclip_cli.cli.options import GroupedCommand, from_values, with_options
from longclip_cli.errors import LongCLIPError
from longclip_cli.jobs.report_options import ReportOptions
from longclip_cli.storage.streams import open_standard_streams

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(cls=GroupedCommand, context_settings={"help_option_names": ["-h", "--help"]})
@with_options(ReportOptions)
def report(
    inputs: Annotated[list[str], typer.Argument(metavar="SCORED", help="Scored files, or folders of them.")],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Page to write.", rich_help_panel="Output")
    ],
    summary: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Summary of a run; repeatable.", rich_help_panel="Rows", show_default="run records"
        ),
    ] = None,
    **values: Any,
) -> None:
    """Write a page about scored files: the scores, where to cut, failures and examples.

    The page is one HTML file that needs no network. Image root, fields and model are taken from the run
    records beside the scored files.

    \b
    longclip-report scored.jsonl -o report.html
    """
    warnings.simplefilter("ignore")
    from longclip_cli.jobs.report import write_report

    try:
        size = write_report(
            from_values(ReportOptions, values, inputs=tuple(inputs), output=output, summaries=tuple(summary or ()))
        )
    except LongCLIPError as error:
        typer.echo(f"longclip-report: {error}", err=True)
        raise typer.Exit(error.exit_status) from error
    typer.echo(f"longclip-report: wrote {output} ({size / 1e6:.2f} MB)", err=True)


def main() -> None:
    """Run the console script."""
    open_standard_streams()
    app()
