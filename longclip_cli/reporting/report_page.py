"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from longclip_cli.errors import LongCLIPError
from longclip_cli.reporting.about import About
from longclip_cli.reporting.examples import MOST_CHARACTERS
from longclip_cli.reporting.report_rows import ReportRows
from longclip_cli.reporting.report_values import page_values
from longclip_cli.version import __version__

MOST_BYTES = 2_000_000
CHARACTERS = (
    MOST_CHARACTERS,
    1000,
    300,
    100,
)  # of each text: the first that makes the page small enough
NOTHING = "\N{EN DASH}"  # in place of a share of nothing


def render_page(rows: ReportRows, about: About) -> bytes:
    """Return the page in UTF-8, below `MOST_BYTES`. If it would be larger, shorten texts.

    Raises `LongCLIPError` if the package that renders it is not installed.
    """
    page = b""
    for most in CHARACTERS:
        page = render(rows, about, most)
        if len(page) < MOST_BYTES:
            break
    return page


def render(rows: ReportRows, about: About, most: int) -> bytes:
    """Return the page with at most so many characters of each text."""
    script, style = (part(name) for name in ("report.js", "report.css"))
    template = environment().get_template("report.html")
    page: str = template.render(
        page_values(rows, about, most), script=script, style=style, policy=policy(script, style), version=__version__
    )
    return page.encode("utf-8", "backslashreplace")


def environment() -> Any:
    """Return the templates, in which every value is text unless it says that it is markup."""
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise LongCLIPError("the report needs the package jinja2; install longclip-cli[report]") from None
    made = Environment(
        loader=FunctionLoader(part), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"number": "{:,}".format, "percent": percent, "score": "{:.4f}".format, "short": short}
    return made


def part(name: str) -> str:
    """Return a file of the template."""
    return (files("longclip_cli") / "reporting" / "template" / name).read_text("utf-8")


def policy(script: str, style: str) -> str:
    """Return the Content-Security-Policy of the page: its own script and style, pictures within it, nothing else."""
    script_hash, style_hash = (
        base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in (script, style)
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def percent(share: float | None) -> str:
    """Return a share for people."""
    return NOTHING if share is None else f"{100 * share:.1f} %"


def short(number: float) -> str:
    """Return a number in few characters, for the axis of a chart."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.3g}M"
    if number >= 1000:
        return f"{number / 1000:.2g}k" if number < 100_000 else f"{number / 1000:.3g}k"
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"
