"""The report that a run writes when it ends."""

from __future__ import annotations

from importlib.util import find_spec

from longclip_cli.errors import LongCLIPError, OutputError
from longclip_cli.jobs.check_output import destination
from longclip_cli.jobs.report_options import ReportOptions, check_page_name
from longclip_cli.jobs.run import Run
from longclip_cli.options import ScoreOptions


def check_report(options: ScoreOptions) -> None:
    """Raise `LongCLIPError` if the report could not be written, before rows are scored."""
    path = options.report
    if not path:
        return
    if path.is_dir():
        raise OutputError(f"cannot write the report {path}: it is a folder")
    check_page_name("--report", destination(path))
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write the report {path}: no such folder")
    if not find_spec("jinja2"):
        raise LongCLIPError("--report needs the package jinja2; install longclip-cli[report]")


def write_run_report(run: Run) -> None:
    """Write the report of the run's complete outputs, if it is wanted and there are any. Raise `LongCLIPError`.

    What only the run knows, such as the number of texts cut, is shown if no row is of an earlier run.
    """
    summary, report = run.summary, run.options.report
    complete = [each.output for each in summary.inputs if each.complete]
    outputs = complete or [part.output for part in run.plan.parts if run.plan.is_one and not summary.inputs]
    if not report or not outputs:
        return
    from longclip_cli.jobs.report import write_report

    is_whole = bool(complete) and not summary.kept and not any(each.earlier for each in summary.inputs)
    named = (run.options.output,) if len(outputs) == len(run.plan.parts) else ()
    options = ReportOptions(tuple(outputs), str(report), named=named)
    write_report(options, summary.as_dict() if is_whole else None)
