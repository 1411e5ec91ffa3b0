"""Counts of rows and their results, in constant memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.results import SCORE_DECIMALS
from longclip_cli.rows import Result, Row, ScoredRow, error_of

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BINS = 10_000  # of the histogram that percentiles are read from: they are exact to 0.0001


def bin_of(score: float) -> int:
    """Return the bin that a score is in, as it is written: with six decimals."""
    return round(round(score, SCORE_DECIMALS) * BINS)


class Counts:
    """Counts rows, and the scores and failures in them: a row with a list of scores has several.

    A row has failed if one of its scores has.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.failed = 0
        self.kept = 0  # rows that an earlier run had written
        self.kept_failed = 0  # those of them that have failed
        self.kept_offset = 0  # bytes of the input up to the last of them
        self.scores = 0
        self.texts_cut = 0
        self.rotations = 0  # images whose EXIF rotation was not applied
        self.failures: Counter[str] = Counter()  # by label
        self.reasons: Counter[Reason] = Counter()
        self.alike_from_start = 0  # rows from the first on that failed for the same reason
        self._alike: str | None = None  # its label
        self.score_sum = 0.0
        self.histogram: Counter[int] = Counter()  # of scores, by bin
        self.mismatched: Counter[int] = Counter()  # of mismatched pairs' scores, by bin
        self._last: tuple[Row, Result] | None = None

    @classmethod
    def of_earlier(cls, rows: int, failed: int, scores: Counter[int], mismatched: Counter[int]) -> Counts:
        """Return the counts of rows that an earlier run has completed; their mean is exact to 0.00005."""
        counts = cls()
        counts.rows = counts.kept = rows
        counts.failed = counts.kept_failed = failed
        counts.scores = scores.total()
        counts.score_sum = sum(place * count for place, count in scores.items()) / BINS
        counts.histogram, counts.mismatched = scores, mismatched
        if failed:
            counts.failures["failed in an earlier run"] = failed
        return counts

    @property
    def scored(self) -> int:
        """The number of rows that were scored."""
        return self.rows - self.failed

    def add(self, rows: Iterable[ScoredRow]) -> None:
        """Count some rows, in the order of the input."""
        for row in rows:
            self.texts_cut += row.texts_cut
            self.rotations += row.rotations
            self.mismatched.update(map(bin_of, row.mismatched))
            self._count(row.row, row.result)

    def add_kept(self, row: Row, result: Result) -> None:
        """Count a row that an earlier run has written."""
        self.kept += 1
        self.kept_failed += error_of(result) is not None
        self.kept_offset = row.offset
        self._count(row, result)

    def merge(self, other: Counts) -> None:
        """Add the counts of another input."""
        for name in ("rows", "failed", "kept", "kept_failed", "scores", "texts_cut", "rotations", "score_sum"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures.update(other.failures)
        self.reasons.update(other.reasons)
        self.mismatched.update(other.mismatched)
        self.histogram.update(other.histogram)
        self._last = other._last or self._last

    def _count(self, row: Row, result: Result) -> None:
        self.rows += 1
        self._last = row, result
        scores = result if isinstance(result, tuple) else (result,)
        errors = [score for score in scores if isinstance(score, RowError)]
        if errors:
            self.failed += 1
            self.reasons.update(error.reason for error in errors)
            self.failures.update(error.label for error in errors)
        if len(errors) == len(scores) and self.alike_from_start == self.rows - 1:
            self._alike = self._alike or errors[0].label
            self.alike_from_start += self._alike == errors[0].label
        for score in scores:
            if not isinstance(score, RowError):
                self.scores += 1
                self.score_sum += score
                self.histogram[bin_of(score)] += 1

    @property
    def has_no_row(self) -> bool:
        """Whether there were lines, and none of them was a row."""
        return self.rows > 0 and sum(self.reasons[reason] for reason in Reason if reason.is_not_a_row) == self.rows

    @property
    def last_line_unterminated(self) -> bool:
        """Whether the last line had no line end; the input may have been cut."""
        return self._last is not None and not self._last[0].is_terminated

    @property
    def last_is_no_row(self) -> bool:
        """Whether what was read last is no row."""
        return self._last is not None and isinstance(self._last[1], RowError) and self._last[1].reason.is_not_a_row

    def percentiles(self) -> dict[str, float]:
        """Return the percentiles of the scores: the smallest score (to 0.0001) that p percent do not exceed."""
        bins = sorted(self.histogram)
        counts = list(accumulate(self.histogram[place] for place in bins))
        return {f"p{percent}": bins[bisect_left(counts, self.scores * percent / 100)] / BINS for percent in PERCENTILES}
