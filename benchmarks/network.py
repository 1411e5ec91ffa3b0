"""Time the network alone, with decoded images from memory.

    python network.py CHECKPOINT --device cuda --precision fp16 --pairs 4096

Prints pairs and operations per second, and the rate of matrix products measured before and after, as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import deque

import torch
from operations import image_operations, product_rate, text_operations

from longclip_cli.pipeline.batches import chunks
from longclip_cli.pipeline.cache import ImageInput, TextInput
from longclip_cli.pipeline.encode import PendingScores
from longclip_cli.pipeline.load import Pair
from longclip_cli.scorer import LongCLIPScorer

LENGTHS = range(24, 165)  # tokens, 94 on average


def random_pairs(scorer: LongCLIPScorer, count: int) -> list[Pair]:
    """Return pairs of noise and random tokens; the images lie in one block of memory and repeat after 256."""
    side, rng = scorer.model.sizes.image_size, random.Random(0)
    pixels = torch.randint(256, (min(count, 256), 3, side, side), dtype=torch.uint8)
    texts = [[49406, *rng.choices(range(49000), k=rng.choice(LENGTHS) - 2), 49407] for _ in range(count)]
    return [
        Pair(ImageInput(pixels[number % len(pixels)]), TextInput(token_ids, is_cut=False))
        for number, token_ids in enumerate(texts)
    ]


def seconds_to_score(scorer: LongCLIPScorer, pairs: list[Pair]) -> float:
    """Return the seconds that the pairs take, submitted as the pipeline submits them."""
    start = time.perf_counter()
    in_flight: deque[PendingScores] = deque()
    for chunk in chunks(pairs, scorer.encoder.chunk_rows):
        in_flight.append(scorer.encoder.submit(chunk))
        while len(in_flight) > scorer.encoder.chunks_in_flight:
            in_flight.popleft().wait()
    for pending in in_flight:
        pending.wait()
    return time.perf_counter() - start


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Time the network alone.")
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--pairs", type=int, default=16)
    options = parser.parse_args()
    scorer = LongCLIPScorer.from_pretrained(options.model, options.device, options.precision)
    dtype = scorer.model.visual.conv1.weight.dtype
    seconds_to_score(scorer, random_pairs(scorer, max(2, options.pairs // 4)))
    pairs = random_pairs(scorer, options.pairs)
    sizes = scorer.model.sizes
    operations = len(pairs) * image_operations(sizes)
    operations += text_operations(sizes, (len(pair.text.content or ()) for pair in pairs))
    before = product_rate(options.device, dtype)
    seconds = seconds_to_score(scorer, pairs)
    rate = (before + product_rate(options.device, dtype)) / 2
    result = dict(pairs_per_second=len(pairs) / seconds, operations_per_second=operations / seconds, product_rate=rate)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
