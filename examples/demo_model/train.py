"""Train the built-in `demo` model on scenes that this script draws.

    python examples/demo_model/train.py longclip_cli/data/demo.safetensors

Both towers learn the code of a scene: the sum of fixed random vectors, one for each fact ("the group at the top left is
red"). The features of a picture and of its caption then agree, and a wrong caption has different features. Each tower
has a fixed target from the first step on, so this takes half an hour on two CPU cores. With CLIP's contrastive loss,
each tower is the other's target, and training takes far longer.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import scenes
import torch
from safetensors.torch import save_file
from scenes import Scene, Wording
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from longclip_cli.checkpoints.layouts import original_layout
from longclip_cli.models.clip import LongCLIP, LongCLIPSizes
from longclip_cli.models.tokenizer import END_TOKEN, VOCAB_SIZE, tokenize
from longclip_cli.models.transformer import QUICK_GELU_SCALE, SCALED_FOR_QUICK_GELU, TowerSizes
from longclip_cli.pipeline.pixels import to_pixels

SIZES = LongCLIPSizes(
    embed_dim=64,
    image_size=66,
    patch_size=22,  # a patch is a field of the scene's grid
    vision=TowerSizes(width=64, layers=8),
    context_length=248,
    vocab_size=VOCAB_SIZE,
    text=TowerSizes(width=64, layers=5),
)
SEED = 20240322
BATCH_SIZE = 64
STEPS = 7_000
WARM_UP_STEPS = 100
LONGER_FROM, LONG_FROM = 0.45, 0.85  # shares of the steps after which captions grow, and are long
VISION_LEARNING_RATE, TEXT_LEARNING_RATE = 1e-3, 2e-3
ALL_FACTS = 7  # groups and background of the fullest scene


def code_table() -> dict[tuple[str, ...], Tensor]:
    """Return a random unit vector for each fact that a scene can have."""
    generator = torch.Generator().manual_seed(SEED)
    facts: list[tuple[str, ...]] = [("background", name) for name in scenes.BACKGROUNDS]
    for place in scenes.PLACES:
        for values in (scenes.COUNTS, scenes.SIZES, scenes.COLOURS, scenes.SHAPES):
            facts += [(place, value) for value in values]
    vectors = F.normalize(torch.randn(len(facts), SIZES.embed_dim, generator=generator), dim=-1)
    return dict(zip(facts, vectors, strict=True))


CODES = code_table()


def code(scene: Scene, told: tuple[int, ...]) -> Tensor:
    """Return the code, `[E]`, of the groups in `told`; -1 stands for the background."""
    facts: list[tuple[str, ...]] = []
    for i in told:
        if i < 0:
            facts.append(("background", scene.background))
        else:
            group = scene.groups[i]
            facts += [(group.place, value) for value in (group.count, group.size, group.colour, group.shape)]
    return F.normalize(torch.stack([CODES[fact] for fact in facts]).sum(0), dim=0)


@dataclass(frozen=True)
class Batch:
    """Pictures with their captions, and the codes of both."""

    pixel_values: Tensor  # [B, 3, n, n] uint8
    image_codes: Tensor  # [B, E]
    token_ids: Tensor  # [B, L]
    lengths: Tensor  # [B]
    text_codes: Tensor  # [B, E]


class Batches(IterableDataset[Batch]):
    """All batches of a run; captions get longer during the run."""

    def __init__(self, seed: int, steps: int) -> None:
        self.seed = seed
        self.steps = steps

    def __iter__(self) -> Iterator[Batch]:
        rng = random.Random(self.seed)
        for step in range(self.steps):
            growth = (step / self.steps - LONGER_FROM) / (LONG_FROM - LONGER_FROM)
            most = 2 + round((ALL_FACTS - 2) * min(1.0, max(0.0, growth)))
            pairs = []
            for _ in range(BATCH_SIZE):
                scene = scenes.random_scene(rng)
                is_long = most == ALL_FACTS and rng.random() < 0.8
                wording = scenes.long_wording(rng, scene) if is_long else scenes.short_wording(rng, scene, most)
                pairs.append((scene, wording))
            yield make_batch(rng, pairs)


def make_batch(rng: random.Random, pairs: list[tuple[Scene, Wording]]) -> Batch:
    """Return the batch of these scenes, each with a caption in its wording."""
    token_ids = [tokenize(scenes.caption(scene, wording), SIZES.context_length).ids for scene, wording in pairs]
    longest = max(map(len, token_ids))
    return Batch(
        pixel_values=torch.stack([picture(rng, scene) for scene, _ in pairs]),
        image_codes=torch.stack([code(scene, tuple(range(-1, len(scene.groups)))) for scene, _ in pairs]),
        token_ids=torch.tensor([ids + [END_TOKEN] * (longest - len(ids)) for ids in token_ids]),
        lengths=torch.tensor([len(ids) for ids in token_ids]),
        text_codes=torch.stack([code(scene, wording.told) for scene, wording in pairs]),
    )


def picture(rng: random.Random, scene: Scene) -> Tensor:
    """Return a scene's pixels, `[3, n, n]` uint8; one in four as `longclip-score` makes them, the others faster."""
    if rng.random() < 0.25:
        return to_pixels(scenes.draw(rng, scene), SIZES.image_size)
    return to_pixels(scenes.draw(rng, scene, 3 * SIZES.image_size).reduce(3), SIZES.image_size)


def new_model() -> LongCLIP:
    """Return a network with random weights: blocks start with small outputs, text positions as sinusoids."""
    model = LongCLIP(SIZES)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 1:
            nn.init.ones_(parameter)
        else:
            fan_in = parameter.shape[0 if name.endswith("proj") else -1]
            nn.init.normal_(parameter, std=fan_in**-0.5)
    for tower in (model.visual.transformer, model.transformer):
        for block in tower.resblocks:
            block.attn.out_proj.weight.data *= 0.4
            block.mlp.c_proj.weight.data *= 0.4 * QUICK_GELU_SCALE
    nn.init.normal_(model.visual.conv1.weight, std=(3 * SIZES.patch_size**2) ** -0.5)
    nn.init.normal_(model.visual.class_embedding, std=0.5)
    nn.init.normal_(model.visual.positional_embedding)
    nn.init.normal_(model.token_embedding.weight)
    positions = torch.arange(SIZES.context_length)[:, None]
    half = SIZES.text.width // 2
    angles = positions * torch.exp(-math.log(30) * torch.arange(half) / half)
    model.positional_embedding.data = torch.cat([angles.sin(), angles.cos()], dim=1)
    return model


def code_fit(model: LongCLIP, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the mean cosine between features and codes: of the pictures, and of the captions."""
    images = model.encode_image(batch.pixel_values)
    texts = model.encode_text([batch.token_ids], batch.lengths)
    return (
        F.cosine_similarity(images, batch.image_codes).mean(),
        F.cosine_similarity(texts, batch.text_codes).mean(),
    )


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the factor of a step: it rises linearly, stays at 1 to the middle of the run, and falls linearly."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, 2 * (1 - step / steps))


def train(steps: int, device: torch.device) -> tuple[LongCLIP, Tensor]:
    """Return the trained network, and a mask of the tokens that occurred."""
    torch.manual_seed(SEED)
    model = new_model().to(device)
    vision = list(model.visual.parameters())
    text = [parameter for name, parameter in model.named_parameters() if not name.startswith("visual.")]
    optimizer = torch.optim.AdamW(
        [dict(params=vision, lr=VISION_LEARNING_RATE), dict(params=text, lr=TEXT_LEARNING_RATE)],
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
    seen = torch.zeros(SIZES.vocab_size, dtype=torch.bool)
    started = time.monotonic()
    for step, batch in enumerate(
        DataLoader(Batches(SEED, steps), batch_size=None, num_workers=1, prefetch_factor=8), 1
    ):
        seen[batch.token_ids] = True
        image_fit, text_fit = code_fit(model, to(batch, device))
        optimizer.zero_grad()
        (2 - image_fit - text_fit).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps:
            tokens = batch.lengths.float().mean().item()
            print(
                f"step {step:5d}  {time.monotonic() - started:5.0f} s  {tokens:5.1f} tokens a caption  "
                f"cosine to the code: pictures {image_fit.item():.4f}, captions {text_fit.item():.4f}",
                flush=True,
            )
    return model.eval(), seen


def to(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    return Batch(*(tensor.to(device) for tensor in vars(batch).values()))


def published_weights(model: LongCLIP, seen: Tensor) -> dict[str, Tensor]:
    """Return the weights in the layout of the published LongCLIP checkpoints, in fp16.

    This reverses the changes of loading. Tokens that never occurred are zero, so they have no effect.
    """
    weights = {name: tensor.float().cpu() for name, tensor in model.state_dict().items()}
    for name in weights:
        if name.endswith(SCALED_FOR_QUICK_GELU):
            weights[name] = weights[name] / QUICK_GELU_SCALE
    weights["token_embedding.weight"] = weights["token_embedding.weight"] * seen[:, None]
    weights["logit_scale"] = torch.tensor(math.log(100))
    return {name: tensor.half().contiguous() for name, tensor in original_layout(weights, SIZES.patch_size).items()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Train the built-in demo model.")
    parser.add_argument("output", type=Path, help=".safetensors file to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    model, seen = train(options.steps, torch.device(options.device))
    save_file(published_weights(model, seen), options.output, metadata={"format": "pt"})
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
