"""The report as one HTML page that needs nothing else: no other file, no network, no library."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from longclip_cli.errors import LongCLIPError
from longclip_cli.options import available_cores
from longclip_cli.reporting.charts import HEIGHT, WIDTH, Axis, Column, axis_over, curves, trend_axis, trend_columns
from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.galleries import Card, Gallery, cards_of, galleries
from longclip_cli.reporting.report_rows import OTHER_REASONS, ReportRows
from longclip_cli.reporting.thresholds import LEAST_DRAWN, SHARES, separation, share_from, threshold_for
from longclip_cli.reporting.token_marks import CLIP_LENGTH, CONTEXT_LENGTH, SPECIAL_TOKENS, token_count
from longclip_cli.reporting.trends import Trend
from longclip_cli.version import __version__

TOP_SHARES = (0.5, 0.3, 0.1)
MOST_FILES = 20
FEW = 10  # scores: percentiles of fewer mean little
DEFAULT_SHARE = 0.01  # of mismatched pairs, that pass the threshold which the page shows first


@dataclass(frozen=True)
class RunFacts:
    """What a run record or a summary says of a run, as the page shows it."""

    model: str
    device: str
    precision: str
    version: str
    start: str
    end: str


@dataclass(frozen=True)
class About:
    """What the page says of the scored files besides their rows.

    `inputs` are as the command names them, `files` the first ones that were read. Counts that only a summary has are
    `None` without one.
    """

    inputs: tuple[str, ...]
    files: tuple[str, ...]
    file_count: int
    runs: tuple[RunFacts, ...]
    mismatched: Counter[int]
    texts_cut: int | None = None
    rotations: int | None = None


@dataclass(frozen=True)
class Preset:
    """A threshold to choose with a button."""

    label: str
    place: int


@dataclass(frozen=True)
class Kept:
    """How many scores reach a threshold, and how many do not."""

    above: int
    below: int

    @property
    def share(self) -> float | None:
        """The share that reaches it; `None` without scores."""
        total = self.above + self.below
        return self.above / total if total else None


@dataclass(frozen=True)
class TrendChart:
    """A trend to draw, with what its ranges are of."""

    name: str
    title: str
    unit: str
    note: str
    axis: Axis
    columns: list[Column]


@dataclass(frozen=True)
class Failure:
    """Why rows have failed: how many, and examples."""

    label: str
    count: int
    cards: list[Card]


@dataclass(frozen=True)
class Lengths:
    """Of the texts in a sample, how many have more tokens than the networks read."""

    texts: int
    past_clip: int
    past_context: int


def render_page(rows: ReportRows, about: About) -> bytes:
    """Return the page in UTF-8. Raises `LongCLIPError` if the package that renders it is not installed."""
    script, style = (part(name) for name in ("report.js", "report.css"))
    page = (
        environment()
        .get_template("report.html")
        .render(page_values(rows, about), script=script, style=style, policy=policy(script, style), version=__version__)
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


def page_values(rows: ReportRows, about: About) -> dict[str, Any]:
    """Return all that the template shows."""
    pairs, mismatched = rows.places, about.mismatched
    place = first_threshold(pairs, mismatched)
    axis = axis_over([*pairs, *mismatched])
    own, others = curves(axis, pairs, mismatched)
    place = min(max(place, axis.low), axis.high)
    return {
        "about": about,
        "counts": rows.counts,
        "rows_without_result": rows.rows_without_result,
        "mean": rows.counts.score_sum / rows.counts.scores if rows.counts.scores else None,
        "percentiles": rows.counts.percentiles() if rows.counts.scores else {},
        "width": WIDTH,
        "height": HEIGHT,
        "bins": BINS,
        "axis": axis,
        "own_path": own.path,
        "mismatched_path": others.path if mismatched else "",
        "place": place,
        "kept": kept(place, pairs),
        "mismatched_kept": kept(place, mismatched),
        "separation": separation(pairs, mismatched),
        "few_mismatched": 0 < mismatched.total() < LEAST_DRAWN,
        "presets": list(presets(pairs, mismatched)),
        "command": select_command(about),
        "histograms": json.dumps({"bins": BINS, "pairs": sparse(pairs), "mismatched": sparse(mismatched)}),
        "trends": trend_charts(rows),
        "lengths": lengths(rows),
        "failures": failures(rows),
        "galleries": galleries(rows, place),
        "few": FEW,
        "clip_length": CLIP_LENGTH,
        "context_length": CONTEXT_LENGTH,
    }


def first_threshold(pairs: Counter[int], mismatched: Counter[int]) -> int:
    """Return the threshold that the page shows first: of mismatched pairs, `DEFAULT_SHARE` pass, or the median."""
    if mismatched.total() >= LEAST_DRAWN:
        return round(threshold_for(DEFAULT_SHARE, pairs, mismatched).score * BINS)
    return place_of_top(0.5, pairs)


def place_of_top(share: float, counts: Mapping[int, int]) -> int:
    """Return the highest bin from which on at least this share of the scores is."""
    room = share * sum(counts.values())
    for place in sorted(counts, reverse=True):
        room -= counts[place]
        if room <= 0:
            return place
    return 0


def presets(pairs: Counter[int], mismatched: Counter[int]) -> Iterable[Preset]:
    """Yield thresholds that many will look for."""
    if mismatched.total() >= LEAST_DRAWN:
        for share in SHARES:
            found = threshold_for(share, pairs, mismatched)
            yield Preset(f"{100 * share:g} % of mismatched", round(found.score * BINS))
    if pairs:
        for share in TOP_SHARES:
            place = place_of_top(share, pairs)
            yield Preset(f"top {100 * share_from(place, pairs):.0f} %", place)


def kept(place: int, counts: Counter[int]) -> Kept:
    """Return how many scores are in this bin or above it."""
    above = sum(count for other, count in counts.items() if other >= place)
    return Kept(above, counts.total() - above)


def sparse(counts: Counter[int]) -> list[int]:
    """Return a histogram as bins and their counts in turn."""
    return [value for place in sorted(counts) for value in (place, counts[place])]


def select_command(about: About) -> tuple[str, str]:
    """Return the command that selects rows from a threshold on: what is before the threshold, and after it."""
    only = about.inputs[0] if len(about.inputs) == 1 and about.files == about.inputs else None
    target = f"kept{''.join(PurePath(only).suffixes[-2:])}" if only else "kept/"
    return f"longclip-select {shlex.join(about.inputs)} --min", f"-o {shlex.quote(target)}"


def trend_charts(rows: ReportRows) -> list[TrendChart]:
    """Return what scores are shown against: the length of texts, and the size and shape of images in a sample."""
    size, shape = Trend(), Trend(is_centred=True)
    with ThreadPoolExecutor(available_cores()) as threads:  # images may be on a slow disk
        measured = list(threads.map(lambda each: each.image_size(), rows.sample.items))
    for each, found in zip(rows.sample.items, measured, strict=True):
        if found and all(found):
            size.add(min(found), each.score)
            shape.add(found[0] / found[1], each.score)
    count = sum(found is not None for found in measured)
    of_sample = f"{count:,} images of a random sample of {len(measured):,} pairs."
    charts = (
        ("length", "Text length", "characters", "All pairs.", rows.by_length),
        ("size", "Image size", "pixels, shorter side", of_sample, size),
        ("shape", "Image shape", "width ÷ height", of_sample, shape),
    )
    return [
        TrendChart(name, title, unit, note, trend_axis(ranges), trend_columns(trend_axis(ranges), ranges))
        for name, title, unit, note, trend in charts
        if (ranges := trend.ranges())
    ]


def lengths(rows: ReportRows) -> Lengths:
    """Return how many texts of the sample are longer than the networks read."""
    counts = [token_count(each.text) + SPECIAL_TOKENS for each in rows.sample.items if each.text]
    return Lengths(
        len(counts), sum(count > CLIP_LENGTH for count in counts), sum(count > CONTEXT_LENGTH for count in counts)
    )


def failures(rows: ReportRows) -> list[Failure]:
    """Return why rows have failed, the most frequent reason first and `OTHER_REASONS` last."""
    ordered = sorted(rows.failed_scores.items(), key=lambda item: (item[0] == OTHER_REASONS, -item[1], item[0]))
    return [
        Failure(label, count, cards_of(sorted_examples(rows, label), with_picture=False)) for label, count in ordered
    ]


def sorted_examples(rows: ReportRows, label: str) -> list[Any]:
    """Return the examples of a reason in order of their rows."""
    return sorted(rows.failures[label].items, key=lambda each: (each.origin.file, each.number, each.element or 0))


def percent(share: float | None) -> str:
    """Return a share for people."""
    return "–" if share is None else f"{100 * share:.1f} %"


def short(number: float) -> str:
    """Return a number in few characters, for the axis of a chart."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.3g}M"
    if number >= 1000:
        return f"{number / 1000:.2g}k" if number < 100_000 else f"{number / 1000:.3g}k"
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


__all__ = ["About", "Gallery", "RunFacts", "render_page"]
