"""What is known of scored files besides their rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from longclip_cli.options import ScoringOptions

DEFAULT_KEY = ScoringOptions.output_key


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

    `inputs` are as the command names them, `files` the first ones that were read, and `mismatched` counts the scores
    of mismatched pairs by bin. `has_lists` says that rows have lists of scores. Counts that only a summary has are
    `None` without one.
    """

    inputs: tuple[str, ...]
    files: tuple[str, ...]
    file_count: int
    runs: tuple[RunFacts, ...]
    mismatched: Counter[int]
    output_key: str = DEFAULT_KEY
    has_lists: bool = False
    texts_cut: int | None = None
    rotations: int | None = None
