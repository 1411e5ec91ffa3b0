"""What `longclip-select` is asked to do, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longclip_cli.jobs.criteria import Criterion, Cut, Range
from longclip_cli.options import STANDARD_STREAM, InputFormat, Reduce, ScoringOptions, check_not_empty

NO_KEY = "no field of an image is read"


@dataclass(frozen=True)
class SelectOptions:
    """What `longclip-select` is asked to do. Raises `UsageError` for an empty name.

    `summaries` are files that the criterion was read from, which are not overwritten.
    """

    criterion: Criterion
    inputs: tuple[str, ...] = (STANDARD_STREAM,)
    output: str = STANDARD_STREAM
    rest: str | None = None
    output_key: str = "clip_score"
    input_format: InputFormat | None = None
    reduce: Reduce | None = None
    summaries: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for path in self.inputs:
            check_not_empty("inputs", path)
        for name in ("output", "output_key"):
            check_not_empty(name, getattr(self, name))
        if self.rest is not None:
            check_not_empty("rest", self.rest)

    @property
    def scoring(self) -> ScoringOptions:
        """How rows are read: no field but those of the result."""
        return ScoringOptions(self.input_format, image_key=NO_KEY, text_key=(), output_key=self.output_key)


@dataclass(frozen=True)
class Selection:
    """How many rows were kept. `tied` have the lowest score that is kept; if not all of them are, the first ones."""

    scored: int
    failed: int
    kept: int
    tied: int
    criterion: Criterion
    cut: Cut
    has_rest: bool

    def __str__(self) -> str:
        """Return the counts for people, in a line."""
        text = f"kept {self.kept:,} of {self.scored:,} scored rows"
        if isinstance(self.criterion, Range):
            text += f" ({self.cut}{self.criterion.note})"
        elif self.kept:
            text += f" ({self.cut}{self._ties})"
        if self.failed:
            rows = "1 row" if self.failed == 1 else f"{self.failed:,} rows"
            text += f"; {rows} without a score {'went to the rest' if self.has_rest else 'left out'}"
        return text

    @property
    def _ties(self) -> str:
        if self.tied == 1:
            return ""
        kept = "all" if self.cut.ties == self.tied else f"{self.cut.ties:,}"
        return f"; {self.tied:,} rows tie at the threshold, {kept} of them kept"
