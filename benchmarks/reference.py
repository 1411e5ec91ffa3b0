"""Score with a plain loop over `transformers.CLIPModel`, for comparison; every text is padded to 248 tokens.

    python reference.py MODEL_FOLDER ROWS.jsonl --batch-size 1

It decodes, tokenises and scores one batch after the other. DataFlow's `LongCLIPEvaluator` does so with batches of one.
Prints the seconds from the first row to the last and the scores, as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPModel

from longclip_cli.models.preprocessing import IMAGE_MEAN, IMAGE_STD, resized
from longclip_cli.models.tokenizer import byte_pair_encoder, tokenize

CONTEXT_LENGTH = 248


def preprocess(path: str, image_size: int) -> Tensor:
    """Return the normalised pixels of an image, `[3, image_size, image_size]` float32, as in CLIP's own code."""
    image = Image.open(path).convert("RGB")
    image = image.resize(resized(image.size, image_size), Image.Resampling.BICUBIC)
    left, top = round((image.width - image_size) / 2), round((image.height - image_size) / 2)
    pixels = np.asarray(image.crop((left, top, left + image_size, top + image_size)), dtype=np.float32) / 255
    pixels = (pixels - np.array(IMAGE_MEAN, dtype=np.float32)) / np.array(IMAGE_STD, dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def padded(text: str) -> list[int]:
    """Return the token ids of a text, padded with zeros."""
    ids = tokenize(text, CONTEXT_LENGTH).ids
    return ids + [0] * (CONTEXT_LENGTH - len(ids))


@torch.inference_mode()
def score(model: Any, rows: list[dict[str, str]], device: torch.device, dtype: torch.dtype) -> list[float]:
    """Return the scores of the rows, computed in one batch."""
    image_size = model.config.vision_config.image_size
    pixel_values = torch.stack([preprocess(row["image_path"], image_size) for row in rows])
    input_ids = torch.tensor([padded(row["text"]) for row in rows])
    output = model(input_ids=input_ids.to(device), pixel_values=pixel_values.to(device, dtype))
    cosines = torch.cosine_similarity(output.image_embeds.float(), output.text_embeds.float())
    scores: list[float] = ((cosines + 1) / 2).clamp(0, 1).tolist()
    return scores


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Score rows with transformers.CLIPModel.")
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    model = CLIPModel.from_pretrained(options.model, dtype=dtype).to(device).eval()
    byte_pair_encoder()
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    start = time.perf_counter()
    scores = []
    for begin in range(0, len(rows), options.batch_size):
        scores += score(model, rows[begin : begin + options.batch_size], device, dtype)
    print(json.dumps({"seconds": time.perf_counter() - start, "scores": scores}))


if __name__ == "__main__":
    main()
