"""Count the operations that a pair needs, and measure the operations per second of this machine."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable

import torch

from longclip_cli.models.clip import LongCLIPSizes
from longclip_cli.models.transformer import TowerSizes

PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}
PRODUCTS_TIMED = 15


def tower_operations(sizes: TowerSizes, positions: int) -> int:
    """Return the multiplications and additions for one sequence; the last block computes one position."""
    width = sizes.width
    block = 24 * width**2 * positions + 4 * width * positions**2
    last_block = 20 * width**2 + 4 * width**2 * positions + 4 * width * positions
    return (sizes.layers - 1) * block + last_block


def image_operations(sizes: LongCLIPSizes) -> int:
    """Return the multiplications and additions for one image."""
    patches = 2 * (sizes.image_positions - 1) * 3 * sizes.patch_size**2 * sizes.vision.width
    return patches + tower_operations(sizes.vision, sizes.image_positions) + 2 * sizes.vision.width * sizes.embed_dim


def text_operations(sizes: LongCLIPSizes, lengths: Iterable[int]) -> int:
    """Return the multiplications and additions for texts of these lengths in tokens."""
    return sum(tower_operations(sizes.text, length) + 2 * sizes.text.width * sizes.embed_dim for length in lengths)


def product_rate(device: str, dtype: torch.dtype) -> float:
    """Return the operations per second of PyTorch's product of two square matrices, the median of several."""
    side = PRODUCT_SIDE[torch.device(device).type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(PRODUCTS_TIMED + 3):
        start = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds[3:])


if __name__ == "__main__":
    print(json.dumps(product_rate(sys.argv[1], getattr(torch, sys.argv[2]))))
