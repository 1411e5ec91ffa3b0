"""Which scores `longclip-select` keeps: a range, or the top of all scores by a histogram that is exact."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import ceil
from pathlib import Path
from sys import maxsize

from longclip_cli.errors import UsageError
from longclip_cli.formats.results import SCORE_DECIMALS
from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.summary_file import read_histograms
from longclip_cli.reporting.thresholds import threshold_for

UNITS: int = 10**SCORE_DECIMALS  # scores are counted in millionths, as whole numbers: files hold six decimals
PERCENT = re.compile(r"(\d+\.?\d*|\.\d+) ?%")
ROWS = re.compile(r"\d+")


def units_of(score: float) -> int:
    """Return a score in units. One with more decimals than files have is rounded."""
    return round(score * UNITS)


@dataclass(frozen=True)
class Cut:
    """The lowest and the highest score that are kept, in units; of rows with the lowest score, the first `ties`."""

    least: int
    most: int = UNITS
    ties: int = maxsize

    def __str__(self) -> str:
        """Return the bounds as text."""
        least, most = score_text(self.least), score_text(self.most)
        if self.most >= UNITS:
            return f"score >= {least}"
        return f"{least} <= score <= {most}" if self.least else f"score <= {most}"


@dataclass
class Choice:
    """Says row by row which ones are kept; of a copy each has its own count of `ties` that are left."""

    cut: Cut
    ties: int

    def __call__(self, score: int) -> bool:
        """Return whether the next row, which has this score or `FAILED`, is kept."""
        if score == self.cut.least:
            self.ties -= 1
            return self.ties >= 0 and score <= self.cut.most
        return self.cut.least < score <= self.cut.most


@dataclass(frozen=True)
class Range:
    """Scores from `least` to `most`, in units, both included. `note` says what else is known of them."""

    least: int = 0
    most: int = UNITS
    note: str = ""

    @property
    def range(self) -> Cut:
        """What is kept."""
        return Cut(self.least, self.most)

    def cut(self, _counts: Sequence[int], /) -> Cut:
        """Return what is kept, which is the same for all scores."""
        return self.range


@dataclass(frozen=True)
class Top:
    """The highest scores: so many rows, or so many percent of the scored rows, rounded down."""

    rows: int | None = None
    percent: Decimal | None = None

    def cut(self, counts: Sequence[int], /) -> Cut:
        """Return what is kept. `counts` has the number of rows of each score, in units."""
        scored = sum(counts)
        wanted = scored if self.rows is None else min(self.rows, scored)
        if self.percent is not None:
            wanted = int(scored * self.percent / 100)
        if not wanted:
            return Cut(UNITS + 1)
        above = 0
        for least in range(UNITS, -1, -1):
            if above + counts[least] >= wanted:
                break
            above += counts[least]
        return Cut(least, ties=wanted - above)


Criterion = Range | Top


def range_of(least: float | None, most: float | None) -> Range:
    """Return the range of `--min` and `--max`. Raises `UsageError` for one without scores."""
    for option, value in (("--min", least), ("--max", most)):
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{option} {value}: scores are from 0 to 1")
    if least is not None and most is not None and least > most:
        raise UsageError(f"--min {least:g} is above --max {most:g}, so that no score is between them")
    return Range(whole_units(least or 0, ROUND_CEILING), whole_units(1 if most is None else most, ROUND_FLOOR))


def whole_units(value: float, rounding: str) -> int:
    """Return the value, as its shortest decimals say, in whole units."""
    return int((Decimal(str(value)) * UNITS).to_integral_value(rounding))


def range_without(text: str, summaries: Sequence[Path]) -> Range:
    """Return the scores that at most so many percent of mismatched pairs have, as the summaries of runs tell.

    Raises `UsageError` if they hold too few mismatched pairs to tell, `InputError` if one cannot be read.
    """
    percent = percent_of("--mismatched", text)
    if not summaries:
        raise UsageError("--mismatched needs --summary FILE, which longclip-score --summary FILE writes")
    pairs, mismatched = read_histograms(summaries)
    count, needed = sum(mismatched.values()), ceil(100 / percent)
    if count < needed:
        files = ", ".join(map(str, summaries))
        raise UsageError(f"{files}: {count:,} mismatched pairs; --mismatched {percent}% needs {needed:,} or more")
    found = threshold_for(float(percent / 100), pairs, mismatched)
    return Range(
        round(found.score * BINS) * UNITS // BINS,
        note=f", reached by {100 * found.mismatched_kept:.2g} % of mismatched pairs",
    )


def top_of(text: str) -> Top:
    """Return what `--top` says. Raises `UsageError`."""
    if text.strip().endswith("%"):
        return Top(percent=percent_of("--top", text))
    if not ROWS.fullmatch(text.strip()) or not int(text):
        raise UsageError(f"--top {text}: give a number of rows, such as 1000, or percent, such as 30%")
    return Top(rows=int(text))


def percent_of(option: str, text: str) -> Decimal:
    """Return the percent that an option says, above 0 and at most 100. Raises `UsageError`."""
    found = PERCENT.fullmatch(text.strip())
    percent = Decimal(found[1]) if found else Decimal()
    if not 0 < percent <= 100:
        raise UsageError(f"{option} {text}: give percent above 0 and at most 100, such as 30%")
    return percent


def score_text(units: int) -> str:
    """Return a score with the decimals that it needs."""
    return f"{Decimal(units) / UNITS:f}"


def empty_counts() -> array[int]:
    """Return a count of 0 for each score that there can be."""
    return array("q", bytes(8 * (UNITS + 1)))
