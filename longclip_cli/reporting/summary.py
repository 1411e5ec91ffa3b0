"""The summary of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longclip_cli.reporting.counts import Counts
from longclip_cli.reporting.thresholds import dense, describe, meaning
from longclip_cli.stopwatch import LOADING, Stopwatch, now
from longclip_cli.storage.files import json_fields, output_errors, write_whole
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.target import Output
from longclip_cli.version import __version__


@dataclass(frozen=True)
class ModelInUse:
    """The model of a run: its file, a hash of its content, and the device and number format that it runs in."""

    file: str
    fingerprint: str
    device: str
    precision: str


@dataclass(frozen=True)
class InputSummary:
    """What became of one input: counts of its rows, and the error if it failed.

    `complete` says that its output is complete; `earlier` that an earlier run has completed it.
    """

    input: str
    output: str
    complete: bool
    rows: int
    failed: int
    earlier: bool = False
    error: str | None = None


class Summary(Counts):
    """Counts of a run's rows, over all inputs, and what the run waited for."""

    def __init__(self, model_name: str | None = None) -> None:
        super().__init__()
        self.model_name = model_name  # as the command names it
        self.model: ModelInUse | None = None  # once it is found
        self.start = now()
        self.stopwatch = Stopwatch()
        self.inputs: list[InputSummary] = []

    @property
    def failed_inputs(self) -> list[InputSummary]:
        """The inputs that failed."""
        return [each for each in self.inputs if each.error]

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
            "scores": self.scores,
            "failed_by_reason": dict(self.failures.most_common()),
            "texts_cut": self.texts_cut,
            "rotations_not_applied": self.rotations,
            "last_line_unterminated": self.last_line_unterminated,
            **({"mean": round(self.score_sum / self.scores, 6), **self.percentiles()} if self.scores else {}),
            "histogram": dense(self.histogram),
            "mismatched": describe(self.histogram, self.mismatched),
            "rows_per_second": self.rows_per_second,
            "seconds": {activity: round(seconds, 3) for activity, seconds in self.stopwatch.seconds.items()},
            "inputs": [asdict(each) for each in self.inputs],
        }

    def write(self, path: Path, *, is_complete: bool = False) -> None:
        """Write the summary as JSON in UTF-8, whole or not at all. Raise `OutputError`.

        If `path` is not a file, such as `/dev/stderr` or a FIFO, it is written directly.
        """
        content = json_fields(self.as_dict(is_complete=is_complete))
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
        if len(self.inputs) > 1:
            lines.append(f"  inputs  {self._inputs_text()}")
        if self.kept:
            lines.append(f"  kept    {self.kept:,} rows of an earlier run")
        lines += [f"  failed  {count:,} {reason}" for reason, count in self.failures.most_common()]
        if self.last_line_unterminated and self.last_is_no_row:
            lines.append("  note    the last line has no line end and is no row: is the input complete?")
        if self.texts_cut:
            lines.append(f"  cut     {self.texts_cut:,} texts at the context length")
        if self.rotations:
            lines.append(f"  rotated {self.rotations:,} images not turned as their EXIF says (see --exif-orientation)")
        if self.scores:
            shown = ("mean", "p5", "p25", "p50", "p75", "p95")
            lines.append("  scores  " + ", ".join(f"{name} {values[name]:.4f}" for name in shown))
        if text := meaning(self.histogram, self.mismatched):
            lines.append(f"  meaning {text}")
        spent = ", ".join(f"{activity} {seconds:.1f} s" for activity, seconds in values["seconds"].items())
        return "\n".join([*lines, f"  waited for: {spent}"] if spent else lines)

    def _inputs_text(self) -> str:
        earlier = sum(each.earlier for each in self.inputs)
        completed = sum(each.complete for each in self.inputs) - earlier
        parts = {"completed": completed, "complete already": earlier, "failed": len(self.failed_inputs)}
        return ", ".join(f"{count:,} {what}" for what, count in parts.items() if count or what == "completed")
