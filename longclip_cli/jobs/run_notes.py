"""What runs have recorded about scored files, in run records and summaries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longclip_cli.jobs.run_record import RunRecord
from longclip_cli.jobs.scored_files import ScoredFile
from longclip_cli.reporting.about import About, RunFacts
from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.report_rows import ReportRows
from longclip_cli.reporting.summary_file import read_histograms, sparse

MOST_FILES = 20
MOST_RUNS = 10
MOST_CHARACTERS = 300  # of a fact
UNKNOWN = "unknown"


class Notes:
    """Gathers what runs have recorded about scored files. If there are summaries, records are ignored."""

    def __init__(self, summaries: Sequence[Mapping[str, Any]]) -> None:
        self._has_summary = bool(summaries)
        self._files: list[str] = []
        self._count = 0
        self._output_keys: set[str] = set()
        self._runs = dict.fromkeys(facts_of_summary(summary) for summary in summaries[:MOST_RUNS])
        self._mismatched = sum((sparse(each["mismatched"]["histogram"]) for each in summaries), Counter[int]())
        self._texts_cut = total(summaries, "texts_cut")
        self._rotations = total(summaries, "rotations_not_applied")

    def add(self, file: ScoredFile) -> None:
        """Add what the record of a file says."""
        self._count += 1
        self._output_keys.add(file.scoring.output_key)
        if len(self._files) < MOST_FILES:
            self._files.append(file.path)
        if file.record and not self._has_summary:
            if len(self._runs) < MOST_RUNS:
                self._runs[facts_of_record(file.record)] = None
            self._mismatched += counts_of(file.record)

    def about(self, inputs: tuple[str, ...], rows: ReportRows) -> About:
        """Return what the page says; `inputs` are as the command names them."""
        return About(
            inputs,
            tuple(self._files),
            self._count,
            tuple(self._runs),
            self._mismatched,
            output_key=min(self._output_keys, default=""),
            has_lists=rows.has_lists,
            texts_cut=self._texts_cut,
            rotations=self._rotations,
        )


def read_summaries(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the summaries that runs have written. Raises `InputError` for a file that is none."""
    read_histograms(paths)  # raises
    return [json.loads(path.read_bytes()) for path in paths]


def total(summaries: Sequence[Mapping[str, Any]], name: str) -> int | None:
    """Return the sum of a count over summaries; `None` if one has it not."""
    values = [summary.get(name) for summary in summaries]
    counts = [value for value in values if isinstance(value, int)]
    return sum(counts) if counts and len(counts) == len(values) else None


def counts_of(record: RunRecord) -> Counter[int]:
    """Return the counts of mismatched pairs in a record, by bin of their score."""
    counts = {int(place): count for place, count in (record.mismatched or {}).items()}
    return Counter({place: count for place, count in counts.items() if 0 <= place <= BINS and count > 0})


def facts_of_record(record: RunRecord) -> RunFacts:
    """Return what a run record says of a run."""
    compared = record.compared
    values = (record.device, compared.get("precision"), compared.get("version"), record.start, record.end)
    return facts(record.model, record.model_file, values)


def facts_of_summary(summary: Mapping[str, Any]) -> RunFacts:
    """Return what a summary says of a run."""
    names = ("device", "precision", "version", "start", "end")
    return facts(summary.get("model"), summary.get("model_file"), [summary.get(name) for name in names])


def facts(model: object, file: object, values: Iterable[object]) -> RunFacts:
    """Return facts as texts."""
    known = f"{model} ({file})" if file and file != model else model
    return RunFacts(*(UNKNOWN if value is None else str(value)[:MOST_CHARACTERS] for value in (known, *values)))
