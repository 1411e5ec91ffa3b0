"""Measure the demo model on scenes that it was not trained on.

    python examples/demo_model/evaluate.py [MODEL]

Prints how often the right caption of a picture scores higher than the same caption with one thing changed. Also prints
how often, among a hundred scenes, a picture finds its caption and a caption its picture.
"""

from __future__ import annotations

import random
import sys

import torch
from scenes import draw, random_example
from torch import Tensor

from longclip_cli.scorer import LongCLIPScorer

HELD_OUT_SEED = 77_000_248  # the training uses a different seed
PAIRS = 1000
GALLERY = 100


def main(model: str = "demo") -> None:
    """Print the results."""
    scorer = LongCLIPScorer.from_pretrained(model, "cpu", "fp32")
    rng = random.Random(HELD_OUT_SEED)
    examples = [random_example(rng) for _ in range(PAIRS)]
    images = scorer.encode_images([draw(rng, example.scene) for example in examples])

    def cosines(texts: list[str]) -> Tensor:
        return (images * scorer.encode_texts(texts)).sum(dim=-1)

    right = cosines([example.right for example in examples])
    print(f"{PAIRS} pictures, each with its long caption and with the same caption where one thing is changed:")
    for where, place in (("anywhere", "anywhere"), ("early", "before token 77"), ("late", "past token 77")):
        wins = (right > cosines([getattr(example, where) for example in examples])).float().mean().item()
        print(f"  the right one scores higher, changed {place:<15}  {100 * wins:.1f} %")
    products = images[:GALLERY] @ scorer.encode_texts([example.right for example in examples[:GALLERY]]).T
    own = torch.arange(GALLERY)
    print(f"retrieval among {GALLERY} scenes, first hit:")
    print(f"  a picture finds its caption  {100 * (products.argmax(1) == own).float().mean().item():.0f} %")
    print(f"  a caption finds its picture  {100 * (products.argmax(0) == own).float().mean().item():.0f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
