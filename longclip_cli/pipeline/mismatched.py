"""Mismatched pairs: images beside texts of other rows, from features that a run has anyway.

Their scores show what a score means for this model and this data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from random import Random

import torch
from torch import Tensor

from longclip_cli.models.clip import scores_from_cosines
from longclip_cli.pipeline.load import Pair

RECENT = 512  # pairs whose texts are drawn from: those of about a hundred images with five captions each
DRAWN = 2  # texts for each image
ATTEMPTS = 6  # draws for an image; those that share its image or text do not count


@dataclass(frozen=True)
class DrawnScores:
    """Scores of mismatched pairs that the device may still be working on; `owners` are the places of their images."""

    cosines: Tensor | None  # [M] float32, on the device
    owners: list[int]
    count: int

    def wait(self) -> list[tuple[float, ...]]:
        """Return the scores for each of the `count` pairs that were given; those of an image are at its first pair."""
        scores: list[tuple[float, ...]] = [()] * self.count
        if self.cosines is not None:
            for owner, score in zip(self.owners, scores_from_cosines(self.cosines.cpu()).tolist(), strict=True):
                if isfinite(score):
                    scores[owner] += (score,)
        return scores


class MismatchedPairs:
    """Draws texts of other rows for images, from a sample of recent pairs. One thread uses it.

    The same pairs in the same chunks give the same draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)
        self._recent: list[Pair] = []

    @torch.inference_mode()
    def draw(self, pairs: Sequence[Pair]) -> DrawnScores:
        """Start scoring each image of some encoded pairs beside texts that belong to other images."""
        self._remember(pairs)
        drawn = list(self._draw(pairs))
        if not drawn:
            return DrawnScores(None, [], len(pairs))
        images = torch.stack([features(pairs[owner].image.features) for owner, _ in drawn])  # [M, E]
        texts = torch.stack([features(other.text.features) for _, other in drawn])  # [M, E]
        return DrawnScores((images * texts).sum(dim=-1), [owner for owner, _ in drawn], len(pairs))

    def _remember(self, pairs: Sequence[Pair]) -> None:
        """Let some pairs take the places of random ones, once there are enough."""
        for pair in pairs:
            if len(self._recent) < RECENT:
                self._recent.append(pair)
            else:
                self._recent[self._random.randrange(RECENT)] = pair

    def _draw(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Pair]]:
        """Yield the place of each image's first pair with recent pairs that share neither image nor text with it."""
        texts_of: dict[int, set[int]] = {}
        for pair in pairs:
            texts_of.setdefault(id(pair.image), set()).add(id(pair.text))
        for place, pair in enumerate(pairs):
            texts = texts_of.pop(id(pair.image), None)
            if texts is None:
                continue
            others = (self._random.choice(self._recent) for _ in range(ATTEMPTS))
            fitting: dict[int, Pair] = {}
            for other in others:
                if other.image is not pair.image and id(other.text) not in texts:
                    fitting.setdefault(id(other.text), other)
            yield from ((place, other) for other in list(fitting.values())[:DRAWN])


def features(of_one: Tensor | None) -> Tensor:
    """Return the features of an image or a text, which are there once it is encoded."""
    assert of_one is not None, "it is encoded"
    return of_one
