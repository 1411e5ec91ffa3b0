"""Counts of a run, in constant memory."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.jsonl import content_of
from longclip_cli.rows import Result, Row, ScoredRow
from longclip_cli.stopwatch import LOADING, Stopwatch, now
from longclip_cli.storage.files import output_errors, write_whole
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.target import Output
from longclip_cli.version import __version__

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BINS = 10_000  # of the histogram that percentiles are read from: they are exact to 0.0001


@dataclass(frozen=True)
class ModelInUse:
    """The model of a run: its file, a hash of its content, and the device and number format that it runs in."""

    file: str
    fingerprint: str
    device: str
    precision: str


class Summary:
    """Counts of a run's rows, their scores and failures, and what the run waited for."""

    def __init__(self, model_name: str | None = None) -> None:
        self.model_name = model_name  # as the command names it
        self.model: ModelInUse | None = None  # once it is found
        self.rows = 0
        self.scored = 0
        self.kept = 0  # rows that an interrupted run had written
        self.kept_failed = 0  # those of them without a score
        self.kept_offset = 0  # bytes of the input up to the last of them
        self.texts_cut = 0
        self.failures: Counter[str] = Counter()  # by label
        self.reasons: Counter[Reason] = Counter()
        self.alike_from_start = 0  # rows from the first on that failed for the same reason
        self.start = now()
        self.stopwatch = Stopwatch()
        self._score_sum = 0.0
        self._histogram = [0] * (BINS + 1)
        self._last: tuple[Row, Result] | None = None

    @property
    def failed(self) -> int:
        """The number of rows without a score."""
        return self.rows - self.scored

    def add(self, rows: Iterable[ScoredRow]) -> None:
        """Count some rows, in the order of the input."""
        for row in rows:
            self.texts_cut += row.is_cut
            self._count(row.row, row.result)

    def add_kept(self, row: Row, result: Result) -> None:
        """Count a row that an interrupted run has written."""
        self.kept += 1
        self.kept_failed += isinstance(result, RowError)
        self.kept_offset = row.offset
        self._count(row, result)

    def _count(self, row: Row, result: Result) -> None:
        self.rows += 1
        self._last = row, result
        if isinstance(result, RowError):
            self.reasons[result.reason] += 1
            self.failures[result.label] += 1
            if self.failures[result.label] == self.rows:
                self.alike_from_start = self.rows
        else:
            self.scored += 1
            self._score_sum += result
            self._histogram[round(result * BINS)] += 1

    @property
    def has_no_row(self) -> bool:
        """Whether there were lines, and none of them was a row."""
        return self.rows > 0 and sum(self.reasons[reason] for reason in Reason if reason.is_not_a_row) == self.rows

    @property
    def seconds(self) -> float:
        """The seconds that the run has taken so far."""
        return sum(self.stopwatch.seconds.values())

    @property
    def rows_per_second(self) -> float | None:
        """The rate of this run's rows with the model loaded; `None` if it scored no row.

        Rows that fail take nearly no time, so their rate has no meaning.
        """
        has_scored = self.scored > self.kept - self.kept_failed
        seconds = self.seconds - self.stopwatch.seconds.get(LOADING, 0)
        return round((self.rows - self.kept) / seconds, 2) if has_scored and seconds else None

    @property
    def last_line_unterminated(self) -> bool:
        """Whether the last line had no line end; the input may have been cut."""
        return self._last is not None and not content_of(self._last[0]).endswith(b"\n")

    def percentiles(self) -> dict[str, float]:
        """Return the percentiles of the scores: the smallest score (to 0.0001) that p percent do not exceed."""
        counts = list(accumulate(self._histogram))
        return {f"p{percent}": bisect_left(counts, self.scored * percent / 100) / BINS for percent in PERCENTILES}

    def as_dict(self, *, is_complete: bool = False) -> dict[str, Any]:
        """Return the summary as `--summary` writes it. Times are in seconds. Without scores it has no percentiles."""
        return {
            "version": __version__,
            "model": self.model_name,
            "model_file": self.model and self.model.file,
            "device": self.model and self.model.device,
            "precision": self.model and self.model.precision,
            "start": self.start,
            "end": now(),
            "complete": is_complete,
            "rows": self.rows,
            "scored": self.scored,
            "failed": self.failed,
            "kept": self.kept,
            "failed_by_reason": dict(self.failures.most_common()),
            "texts_cut": self.texts_cut,
            "last_line_unterminated": self.last_line_unterminated,
            **({"mean": round(self._score_sum / self.scored, 6), **self.percentiles()} if self.scored else {}),
            "rows_per_second": self.rows_per_second,
            "seconds": {activity: round(seconds, 3) for activity, seconds in self.stopwatch.seconds.items()},
        }

    def write(self, path: Path, *, is_complete: bool = False) -> None:
        """Write the summary as JSON in UTF-8, whole or not at all. Raise `OutputError`.

        If `path` is not a file, such as `/dev/stderr` or a FIFO, it is written directly.
        """
        text = json.dumps(self.as_dict(is_complete=is_complete), indent=2, ensure_ascii=False) + "\n"
        content = text.encode("utf-8", "backslashreplace")  # lone surrogates, of names that are not UTF-8
        if file := side_files(str(path)):
            with output_errors(f"the summary {path}"):
                write_whole(file.target, content)
        else:
            with Output(str(path)) as output:
                output.begin()
                output.write(content)

    def __str__(self) -> str:
        """Return the summary for people, a few lines."""
        values = self.as_dict()
        rate = f" ({self.rows_per_second:,.1f} rows/s with the model loaded)" if self.rows_per_second else ""
        lines = [f"{self.rows:,} rows in {self.seconds:.1f} s{rate}: {self.scored:,} scored, {self.failed:,} failed"]
        if self.model:
            lines.append("  model   {model} ({model_file}) on {device}, {precision}".format(**values))
        lines.append("  run     {start} to {end}, version {version}".format(**values))
        if self.kept:
            lines.append(f"  kept    {self.kept:,} rows of an interrupted run")
        lines += [f"  failed  {count:,} {reason}" for reason, count in self.failures.most_common()]
        if self.last_line_unterminated and self._last_is_no_row:
            lines.append("  note    the last line has no line end and is not JSON: is the input complete?")
        if self.texts_cut:
            lines.append(f"  cut     {self.texts_cut:,} texts at the context length")
        if self.scored:
            shown = ("mean", "p5", "p25", "p50", "p75", "p95")
            lines.append("  scores  " + ", ".join(f"{name} {values[name]:.4f}" for name in shown))
        spent = ", ".join(f"{activity} {seconds:.1f} s" for activity, seconds in values["seconds"].items())
        return "\n".join([*lines, f"  waited for: {spent}"] if spent else lines)

    @property
    def _last_is_no_row(self) -> bool:
        return self._last is not None and isinstance(self._last[1], RowError) and self._last[1].reason.is_not_a_row
