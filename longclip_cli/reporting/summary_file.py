"""The histograms in files that `longclip-score --summary` has written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from longclip_cli.errors import InputError
from longclip_cli.reporting.counts import BINS


def read_histograms(paths: Iterable[Path]) -> tuple[Counter[int], Counter[int]]:
    """Return the counts of pairs and of mismatched pairs by bin, over all summaries. Raise `InputError`."""
    pairs: Counter[int] = Counter()
    mismatched: Counter[int] = Counter()
    for path in paths:
        try:
            summary = json.loads(path.read_bytes())
            pairs += sparse(summary["histogram"])
            mismatched += sparse(summary["mismatched"]["histogram"])
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, RecursionError, LookupError, TypeError) as error:
            raise InputError(f"{path}: no summary with histograms; longclip-score --summary FILE writes one") from error
    return pairs, mismatched


def sparse(histogram: dict[str, object]) -> Counter[int]:
    """Return the counts by bin of a histogram in a summary. Raise `ValueError` if it is none."""
    bins, first, counts = histogram["bins"], histogram["first"], histogram["counts"]
    if bins != BINS or not isinstance(first, int) or not isinstance(counts, list):
        raise ValueError("not a histogram")
    if not all(isinstance(count, int) and count >= 0 for count in counts) or not 0 <= first <= BINS + 1 - len(counts):
        raise ValueError("not the counts of scores")
    return Counter({first + index: count for index, count in enumerate(counts) if count})
