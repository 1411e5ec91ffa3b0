"""What thresholds do: the shares of pairs and of mismatched pairs that they keep, from two histograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from longclip_cli.reporting.counts import BINS

SHARES = (0.05, 0.01, 0.001)  # of mismatched pairs that pass
SHOWN = 0.01  # the share that the end of a run names
LEAST_DRAWN = 100  # mismatched pairs, for that share to mean something


@dataclass(frozen=True)
class Threshold:
    """A threshold, and the shares of pairs and of mismatched pairs that score at least as much."""

    score: float
    pairs_kept: float
    mismatched_kept: float


def threshold_for(share: float, pairs: Mapping[int, int], mismatched: Mapping[int, int]) -> Threshold:
    """Return the lowest threshold that at most this share of mismatched pairs reach.

    `pairs` and `mismatched` count scores by bin, of which there are `BINS` from 0 to 1. A score is in the bin that it
    rounds to, so the threshold is exact to 0.00005.
    """
    room = share * sum(mismatched.values())
    start = 0
    for place in sorted(mismatched, reverse=True):
        room -= mismatched[place]
        if room < 0:
            start = place + 1
            break
    return Threshold(min(start / BINS, 1), share_from(start, pairs), share_from(start, mismatched))


def share_from(place: int, counts: Mapping[int, int]) -> float:
    """Return the share of scores in this bin or a higher one."""
    total = sum(counts.values())
    return sum(count for other, count in counts.items() if other >= place) / total if total else 0.0


def separation(pairs: Mapping[int, int], mismatched: Mapping[int, int]) -> float | None:
    """Return the probability that a pair scores more than a mismatched one (the area under the ROC curve, AUC).

    Ties count half. `None` if there are no scores of one kind.
    """
    below = 0
    wins = 0.0
    for place in sorted(pairs.keys() | mismatched.keys()):
        wins += pairs.get(place, 0) * (below + mismatched.get(place, 0) / 2)
        below += mismatched.get(place, 0)
    count = sum(pairs.values()) * below
    return wins / count if count else None


def meaning(pairs: Mapping[int, int], mismatched: Mapping[int, int]) -> str:
    """Return in a sentence what a threshold does; empty if there are too few mismatched pairs to tell."""
    if sum(mismatched.values()) < LEAST_DRAWN or not pairs:
        return ""
    found = threshold_for(SHOWN, pairs, mismatched)
    kept, passing = (f"{100 * share:.1f} %" for share in (found.pairs_kept, found.mismatched_kept))
    return f"a threshold of {found.score:.4f} keeps {kept} of your pairs and {passing} of mismatched ones"


def describe(pairs: Counter[int], mismatched: Counter[int]) -> dict[str, object]:
    """Return what `--summary` says of mismatched pairs."""
    found = {f"{100 * share:g}%": threshold_for(share, pairs, mismatched) for share in SHARES} if mismatched else {}
    auc = separation(pairs, mismatched)
    return {
        "scores": sum(mismatched.values()),
        "separation": auc and round(auc, 6),
        "thresholds": {
            name: {
                "threshold": threshold.score,
                "pairs_kept": round(threshold.pairs_kept, 6),
                "mismatched_kept": round(threshold.mismatched_kept, 6),
            }
            for name, threshold in found.items()
        },
        "histogram": dense(mismatched),
    }


def dense(counts: Counter[int]) -> dict[str, object]:
    """Return a histogram as `--summary` has it: the counts of the bins from the first to the last that is not empty."""
    places = range(min(counts), max(counts) + 1) if counts else range(0)
    return {"bins": BINS, "first": places.start, "counts": [counts[place] for place in places]}
