"""What came out of a run, counted in constant memory while it goes on."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

from longclip_cli.errors import RowError
from longclip_cli.formats.jsonl import content_of
from longclip_cli.jobs.run_record import Completion, RunRecord
from longclip_cli.reporting.messages import now
from longclip_cli.rows import Result, Row, ScoredRow
from longclip_cli.stopwatch import Stopwatch
from longclip_cli.storage.files import write_whole
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.target import Output, output_errors
from longclip_cli.version import __version__

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BINS = 10_000  # of the histogram that percentiles are read from: they are exact to 0.0001


class Summary:
    """Counts of a run's rows, their scores and failures, and where its time went."""

    def __init__(self, model: str | None = None) -> None:
        self.model = model  # as the command names it
        self.rows = 0
        self.scored = 0
        self.kept = 0  # rows that an interrupted run had left
        self.kept_failed = 0  # of which so many have no score
        self.kept_offset = 0  # the bytes of the input that they take
        self.texts_cut = 0
        self.failures: Counter[str] = Counter()  # by reason
        self.alike_from_start = 0  # rows from the first on that failed for the same reason
        self.has_begun = False  # there may be rows in the output
        self.is_complete = False
        self.already_complete: Completion | None = None  # of the earlier run that left nothing to do
        self.record: RunRecord | None = None  # once the model is known
        self.start = now()
        self.stopwatch = Stopwatch()
        self._score_sum = 0.0
        self._histogram = [0] * (BINS + 1)
        self._last: tuple[Row, Result] | None = None

    @property
    def failed(self) -> int:
        """How many rows have no score."""
        return self.rows - self.scored

    def add(self, rows: Iterable[ScoredRow]) -> None:
        """Counts some rows, in the order of the input."""
        for row in rows:
            self.texts_cut += row.is_cut
            self._count(row.row, row.result)

    def add_kept(self, row: Row, result: Result) -> None:
        """Counts a row that an interrupted run has left."""
        self.kept += 1
        self.kept_failed += isinstance(result, RowError)
        self.kept_offset = row.offset
        self._count(row, result)

    def _count(self, row: Row, result: Result) -> None:
        self.rows += 1
        self._last = row, result
        if isinstance(result, RowError):
            self.failures[result.reason] += 1
            if self.failures[result.reason] == self.rows:
                self.alike_from_start = self.rows
        else:
            self.scored += 1
            self._score_sum += result
            self._histogram[round(result * BINS)] += 1

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return sum(self.stopwatch.seconds.values())

    @property
    def rows_per_second(self) -> float | None:
        """The rate of this run's rows since the model was loaded; `None` if it scored no row.

        Rows that fail take next to no time, and their rate says nothing.
        """
        has_scored = self.scored > self.kept - self.kept_failed
        seconds = self.seconds - self.stopwatch.seconds.get("loading the model", 0)
        return round((self.rows - self.kept) / seconds, 2) if has_scored and seconds else None

    @property
    def last_line_unterminated(self) -> bool:
        """Whether the last line had no line end: it may have been cut."""
        return self._last is not None and not content_of(self._last[0]).endswith(b"\n")

    def percentiles(self) -> dict[str, float]:
        """The scores' percentiles, each the smallest score (to 0.0001) that so many percent do not exceed."""
        counts = list(accumulate(self._histogram))
        return {f"p{percent}": bisect_left(counts, self.scored * percent / 100) / BINS for percent in PERCENTILES}

    def as_dict(self) -> dict[str, Any]:
        """The summary as `--summary` writes it; scores are absent when there are none, times are in seconds."""
        return {
            "version": __version__,
            "model": self.model,
            **{name: getattr(self.record, name, None) for name in ("model_file", "device", "precision")},
            "start": self.start,
            "end": now(),
            "complete": self.is_complete,
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

    def write(self, path: Path) -> None:
        """Write the summary as JSON in UTF-8, whole or not at all; raises `OutputError`.

        What is not a file, such as `/dev/stderr` or a FIFO, is written to.
        """
        # What UTF-8 cannot hold, of names that are not UTF-8, becomes an escape of JSON.
        content = (json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        if file := side_files(str(path)):
            with output_errors(f"the summary {path}"):
                write_whole(file.target, content)
        else:
            with Output(str(path)) as output:
                output.begin(None)
                output.write(content)

    def __str__(self) -> str:
        """The summary for people, a few lines."""
        values = self.as_dict()
        rate = f" ({self.rows_per_second:,.1f} rows/s with the model loaded)" if self.rows_per_second else ""
        lines = [f"{self.rows:,} rows in {self.seconds:.1f} s{rate}: {self.scored:,} scored, {self.failed:,} failed"]
        if self.record and self.record.device:
            lines.append("  model   {model} ({model_file}) on {device}, {precision}".format(**values))
        lines.append("  run     {start} to {end}, version {version}".format(**values))
        if self.kept:
            lines.append(f"  kept    {self.kept:,} rows of the interrupted run")
        lines += [f"  failed  {count:,} {reason}" for reason, count in self.failures.most_common()]
        if self.last_line_unterminated and self._last_is_no_row:
            lines.append("  note    the last line has no line end and is not JSON: was the input cut?")
        if self.texts_cut:
            lines.append(f"  cut     {self.texts_cut:,} texts at the context length")
        if self.scored:
            shown = ("mean", "p5", "p25", "p50", "p75", "p95")
            lines.append("  scores  " + ", ".join(f"{name} {values[name]:.4f}" for name in shown))
        spent = ", ".join(f"{activity} {seconds:.1f} s" for activity, seconds in values["seconds"].items())
        return "\n".join([*lines, f"  time    {spent}"] if spent else lines)

    @property
    def _last_is_no_row(self) -> bool:
        return self._last is not None and str(getattr(self._last[1], "reason", "")).startswith("line:")
