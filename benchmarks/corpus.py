"""Make what the benchmark scores: photographs and captions of usual sizes, and networks of published shapes.

The photographs are cut from those in the packages scikit-image and scikit-learn, which are not imported. The seed is
fixed, so every machine scores the same data.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import files
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from longclip_cli.checkpoints.layouts import network_layout

SEED = 20240322
MEGAPIXELS = (0.3, 2.0)
PHOTOGRAPHS = {
    "scikit-image": ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "retina.jpg"),
    "scikit-learn": ("china.jpg", "flower.jpg"),
}
WORDS = """a the of in on with and behind beside under small large red blue green wooden old bright quiet man woman
child dog cat street house tree table window bicycle river mountain light shadow cup book sky cloud grass stone
glass road standing sitting holding looking wearing painted covered surrounded reflecting slightly clearly"""
SHAPES = {
    "ViT-B/16": dict(
        embed_dim=512, image_size=224, patch=16, image_width=768, image_layers=12, text_width=512, text_layers=12
    ),
    "ViT-L/14@336": dict(
        embed_dim=768, image_size=336, patch=14, image_width=1024, image_layers=24, text_width=768, text_layers=12
    ),
    "tiny": dict(embed_dim=64, image_size=224, patch=32, image_width=64, image_layers=1, text_width=64, text_layers=1),
}


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEG files of 0.3 to 2 megapixels, each a different part of a photograph; keep those that exist."""
    rng = random.Random(SEED)
    originals = [Image.open(path).convert("RGB") for path in original_photographs()]
    for number in range(count):
        original = rng.choice(originals)
        share = rng.uniform(0.6, 1)
        width, height = int(original.width * share), int(original.height * share)
        left, top = rng.randint(0, original.width - width), rng.randint(0, original.height - height)
        scale = (rng.uniform(*MEGAPIXELS) * 1e6 / (width * height)) ** 0.5
        size = round(width * scale), round(height * scale)
        path, quality = folder / f"{number:05}.jpg", rng.randint(85, 95)
        if not path.exists():
            part = original.crop((left, top, left + width, top + height))
            part.resize(size, Image.Resampling.LANCZOS).save(path, quality=quality)


def original_photographs() -> Iterator[Path]:
    """Yield the paths of the photographs in the packages."""
    for package, names in PHOTOGRAPHS.items():
        for file in files(package) or ():
            if file.name in names:
                yield Path(str(file.locate()))


def captions(count: int, mean_words: int) -> list[str]:
    """Return different captions of `mean_words` words on average, from a quarter of that to three times as many."""
    rng, words = random.Random(SEED), WORDS.split()
    lengths = [mean_words * min(3, max(0.25, rng.lognormvariate(-0.1, 0.45))) for _ in range(count)]
    return [" ".join(rng.choices(words, k=round(length))) + f" {number}." for number, length in enumerate(lengths)]


def write_rows(path: Path, images: Sequence[Path], texts: Sequence[str]) -> Path:
    """Write a JSONL file with a row for each text; if there are fewer images, consecutive texts share one."""
    each = -(-len(texts) // len(images))
    with path.open("w") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"image_path": str(images[number // each]), "text": text}) + "\n")
    return path


def checkpoint_maker() -> ModuleType:
    """Return the script that builds random checkpoints for the tests."""
    path = Path(__file__).parent.parent / "tests" / "golden" / "make_checkpoint.py"
    spec = importlib.util.spec_from_file_location("make_checkpoint", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkpoint_path(folder: Path, shape: str) -> Path:
    """Return the path of a network's weights."""
    return folder / f"{shape.replace('/', '-')}.safetensors"


def write_checkpoint(folder: Path, shape: str) -> Path:
    """Write random weights in the original layout, and in a folder for `transformers.CLIPModel`.

    The second has one positional table of 248 rows in place of LongCLIP's two. Return the path of the first.
    """
    path = checkpoint_path(folder, shape)
    if path.exists():
        return path
    maker = checkpoint_maker()
    sizes: dict[str, Any] = SHAPES[shape]
    weights: dict[str, torch.Tensor] = maker.longclip(SEED, **sizes)
    reference = path.with_suffix("")
    reference.mkdir(exist_ok=True)
    (reference / "config.json").write_text(json.dumps(maker.config(weights, "clip", sizes["image_size"])))
    original = dict(weights)
    weights["positional_embedding"] = network_layout(weights)["positional_embedding"]
    del weights["positional_embedding_res"]
    renamed = maker.transformers_layout(weights, nested=False)
    save_file(renamed, reference / "model.safetensors", metadata={"format": "pt"})
    save_file(original, path)  # last: if it exists, both do
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_photographs(folder, int(sys.argv[2]))
    print(json.dumps([str(write_checkpoint(folder, shape)) for shape in SHAPES]))
