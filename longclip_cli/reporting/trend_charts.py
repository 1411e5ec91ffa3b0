"""What scores are shown against: the length of texts, and the size and shape of images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from longclip_cli.options import available_cores
from longclip_cli.reporting.charts import Axis, Column, trend_axis, trend_columns
from longclip_cli.reporting.report_rows import ReportRows
from longclip_cli.reporting.token_marks import CLIP_LENGTH, CONTEXT_LENGTH, SPECIAL_TOKENS, token_count
from longclip_cli.reporting.trends import Trend


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
class Lengths:
    """Of the texts in a sample, how many have more tokens than the networks read."""

    texts: int
    past_clip: int
    past_context: int


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
