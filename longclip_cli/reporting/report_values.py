"""What the report shows: counts, charts and examples, ready for the template."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from longclip_cli.reporting.about import DEFAULT_KEY, About
from longclip_cli.reporting.charts import HEIGHT, WIDTH, axis_over, curves
from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.examples import Example
from longclip_cli.reporting.galleries import Card, cards_of, galleries
from longclip_cli.reporting.report_rows import OTHER_REASONS, ReportRows
from longclip_cli.reporting.thresholds import LEAST_DRAWN, SHARES, SHOWN, separation, share_from, threshold_for
from longclip_cli.reporting.token_marks import CLIP_LENGTH, CONTEXT_LENGTH
from longclip_cli.reporting.trend_charts import lengths, trend_charts

TOP_SHARES = (0.5, 0.3, 0.1)
MOST_OF_FAILED = 300  # characters of the text of a row that has failed
MOST_INPUTS = 20  # in a command; more are not named
FEW = 10  # scores: percentiles of fewer mean little


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
class Failure:
    """Why rows have failed: how many, and examples."""

    label: str
    count: int
    cards: list[Card]


def page_values(rows: ReportRows, about: About, most: int) -> dict[str, Any]:
    """Return all that the template shows, with at most so many characters of each text."""
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
        "is_cut": own.is_cut or others.is_cut,
        "place": place,
        "kept": kept(place, pairs),
        "mismatched_kept": kept(place, mismatched),
        "separation": separation(pairs, mismatched),
        "few_mismatched": 0 < mismatched.total() < LEAST_DRAWN,
        "presets": list(presets(pairs, mismatched)),
        "command": select_command(about),
        "has_lists": about.has_lists,
        "histograms": json.dumps({"bins": BINS, "pairs": sparse(pairs), "mismatched": sparse(mismatched)}),
        "trends": trend_charts(rows),
        "lengths": lengths(rows),
        "failures": failures(rows, min(most, MOST_OF_FAILED)),
        "galleries": galleries(rows, place, most),
        "few": FEW,
        "clip_length": CLIP_LENGTH,
        "context_length": CONTEXT_LENGTH,
    }


def first_threshold(pairs: Counter[int], mismatched: Counter[int]) -> int:
    """Return the threshold that the page shows first: of mismatched pairs, `SHOWN` pass, or the median."""
    if mismatched.total() >= LEAST_DRAWN:
        return round(threshold_for(SHOWN, pairs, mismatched).score * BINS)
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
    """Yield common thresholds."""
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
    """Return a histogram as a list: bin, count, bin, count, …."""
    return [value for place in sorted(counts) for value in (place, counts[place])]


def select_command(about: About) -> tuple[str, str]:
    """Return the command that selects rows from a threshold on: what is before the threshold, and after it."""
    only = about.inputs[0] if len(about.inputs) == 1 and about.files == about.inputs else None
    target = f"kept{''.join(PurePath(only).suffixes[-2:])}" if only else "kept/"
    key = [] if about.output_key == DEFAULT_KEY else ["--output-key", about.output_key]
    reduce = ["--reduce", "mean"] if about.has_lists else []
    inputs = shlex.join(about.inputs) if len(about.inputs) <= MOST_INPUTS else "SCORED..."
    return (
        f"{' '.join(['longclip-select', inputs, shlex.join([*key, *reduce])]).rstrip()} --min",
        f"-o {shlex.quote(target)}",
    )


def failures(rows: ReportRows, most: int) -> list[Failure]:
    """Return why rows have failed, the most frequent reason first and `OTHER_REASONS` last."""
    ordered = sorted(rows.failed_scores.items(), key=lambda item: (item[0] == OTHER_REASONS, -item[1], item[0]))
    return [
        Failure(label, count, cards_of(sorted_examples(rows, label), most, with_picture=False))
        for label, count in ordered
    ]


def sorted_examples(rows: ReportRows, label: str) -> list[Example]:
    """Return the examples of a reason in order of their rows."""
    return sorted(rows.failures[label].items, key=lambda each: (each.origin.file, each.number, each.element or 0))
