"""Measures the demo model on scenes it has never seen.

    python examples/demo_model/evaluate.py [MODEL]

Prints how often the right caption of a picture scores higher than the same caption with one thing changed, and
how often, among a hundred scenes, a picture finds its caption and a caption its picture.
"""

from __future__ import annotations

import random
import sys

import torch
from scenes import draw, random_example
from torch import Tensor
from torch.nn import functional as F

from longclip_cli.images import to_pixels
from longclip_cli.loading import Pair
from longclip_cli.scorer import LongCLIPScorer
from longclip_cli.tokenizer import tokenize

HELD_OUT_SEED = 77_000_248  # training counts from another
PAIRS = 1000
GALLERY = 100


def main(model: str = "demo") -> None:
    """Prints the measures."""
    scorer = LongCLIPScorer.from_pretrained(model, "cpu", "fp32")
    sizes = scorer.model.sizes
    rng = random.Random(HELD_OUT_SEED)
    examples = [random_example(rng) for _ in range(PAIRS)]
    pictures = [to_pixels(draw(rng, example.scene), sizes.image_size) for example in examples]

    def scores(texts: list[str]) -> Tensor:
        pairs = [Pair(p, tokenize(text, sizes.context_length)) for p, text in zip(pictures, texts, strict=True)]
        return torch.tensor(scorer.submit(pairs).wait())

    right = scores([example.right for example in examples])
    print(f"{PAIRS} pictures, each with its long caption and with the same caption where one thing is changed:")
    for where, place in (("anywhere", "anywhere"), ("early", "before token 77"), ("late", "past token 77")):
        wins = (right > scores([getattr(example, where) for example in examples])).float().mean().item()
        print(f"  the right one scores higher, changed {place:<15}  {100 * wins:.1f} %")
    with torch.inference_mode():
        images = F.normalize(scorer.model.encode_image(torch.stack(pictures[:GALLERY])), dim=-1)
        ids = [tokenize(example.right, sizes.context_length).ids for example in examples[:GALLERY]]
        texts = F.normalize(
            torch.cat([scorer.model.encode_text(torch.tensor([i]), torch.tensor([len(i)])) for i in ids]), dim=-1
        )
    cosines = images @ texts.T
    own = torch.arange(GALLERY)
    print(f"retrieval among {GALLERY} scenes, first hit:")
    print(f"  a picture finds its caption  {100 * (cosines.argmax(1) == own).float().mean().item():.0f} %")
    print(f"  a caption finds its picture  {100 * (cosines.argmax(0) == own).float().mean().item():.0f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
