"""Shapes of charts, for a template to draw: positions in an SVG of `WIDTH` by `HEIGHT`, stretched to its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.trends import Range

WIDTH, HEIGHT = 1000, 300
COLUMNS = 100  # of a distribution, about
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)  # between ticks, in bins of the score
MOST_STEPS = 6
MOST_ABOVE = 2  # times the third highest column, that the highest one is drawn


@dataclass(frozen=True)
class Axis:
    """An axis of scores from the bin `low` to `high`, with ticks at equal distances."""

    low: int
    high: int
    step: int

    @property
    def ticks(self) -> list[str]:
        """The scores at the ticks."""
        digits = 4 if self.step < 10 else 3 if self.step < 100 else 2 if self.step < 1000 else 1
        return [f"{place / BINS:.{digits}f}" for place in range(self.low, self.high + 1, self.step)]

    def along(self, place: float, length: float) -> float:
        """Return where a bin is on an axis of this length."""
        return round((place - self.low) / (self.high - self.low) * length, 2)


@dataclass(frozen=True)
class Curve:
    """A distribution as the path of an SVG: its height is the share of scores in each column.

    `is_cut` says that a column is higher than the chart.
    """

    path: str
    is_cut: bool


@dataclass(frozen=True)
class Column:
    """A range of a trend: the positions of its percentiles from the top, and where its column is."""

    range: Range
    left: float
    width: float
    tops: tuple[float, ...]


def axis_over(places: Sequence[int]) -> Axis:
    """Return an axis that these bins are on."""
    low, high = (min(places), max(places)) if places else (0, BINS)
    for step in STEPS:
        axis = Axis(low // step * step, max(ceil(high / step), low // step + 1) * step, step)
        if (axis.high - axis.low) // step <= MOST_STEPS:
            break
    return axis


def curves(axis: Axis, *distributions: Mapping[int, int]) -> list[Curve]:
    """Return distributions to be drawn over one another: areas are equal, and the highest column fills the height.

    One that is much higher than all but one other, such as that of equal scores, is cut, so that others can be seen.
    """
    size = max(1, ceil((axis.high - axis.low) / COLUMNS))
    columns = range(axis.low, axis.high, size)
    shares = []
    for counts in distributions:
        heights = [0.0] * len(columns)
        total = sum(counts.values())
        for place, count in counts.items():
            heights[min((place - axis.low) // size, len(columns) - 1)] += count / total
        shares.append(heights)
    highest = sorted((share for heights in shares for share in heights if share), reverse=True)
    peak = min(highest[0], MOST_ABOVE * highest[2]) if len(highest) > 2 else max(highest, default=1)
    return [
        Curve(outline(axis, columns, [min(1, share / peak) for share in heights]), max(heights) > peak)
        for heights in shares
    ]


def outline(axis: Axis, columns: range, heights: Sequence[float]) -> str:
    """Return the path of the outline of columns that stand side by side."""
    path = [f"M0 {HEIGHT}"]
    for start, height in zip(columns, heights, strict=True):
        end = min(start + columns.step, axis.high)
        path.append(f"V{HEIGHT - height * (HEIGHT - 10):.1f}H{axis.along(end, WIDTH):g}")
    return "".join([*path, f"V{HEIGHT}Z"])


def trend_axis(ranges: Sequence[Range]) -> Axis:
    """Return the axis of scores of a trend."""
    return axis_over([floor(score * BINS) for each in ranges for score in each.percentiles])


def trend_columns(axis: Axis, ranges: Sequence[Range]) -> list[Column]:
    """Return the columns of a trend."""
    width = WIDTH / max(1, len(ranges))
    return [
        Column(
            each,
            round(width * index, 2),
            round(width, 2),
            tuple(HEIGHT - axis.along(score * BINS, HEIGHT) for score in each.percentiles),
        )
        for index, each in enumerate(ranges)
    ]
