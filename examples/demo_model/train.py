"""Trains the built-in `demo` model on scenes that it draws as it goes.

    python examples/demo_model/train.py longclip_cli/data/demo.safetensors

Both towers learn to give a scene's code: the sum of fixed random vectors, one for each thing that is so in
the scene ("the group at the top left is red"). What they give for a picture and for its caption then agree,
and differ where the caption differs. In the last part of the run captions with one thing changed
compete with the right one for the picture, as in CLIP's own contrastive loss.
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
from scenes import Scene
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from longclip_cli.checkpoint import QUICK_GELU_SCALE
from longclip_cli.images import to_pixels
from longclip_cli.model import LongCLIP, LongCLIPSizes, TowerSizes
from longclip_cli.tokenizer import END_TOKEN, tokenize

SIZES = LongCLIPSizes(
    embed_dim=64,
    image_size=66,
    patch_size=22,  # a patch is a field of the scene's grid
    vision=TowerSizes(width=64, layers=8),
    context_length=248,
    vocab_size=END_TOKEN + 1,
    text=TowerSizes(width=64, layers=5),
)
SEED = 20240322
BATCH_SIZE = 64
STEPS = 10_000
WARM_UP_STEPS = 100
LONGER_FROM, CONTRASTIVE_FROM = 0.35, 0.7  # shares of the steps: captions grow longer; captions compete
VISION_LEARNING_RATE, TEXT_LEARNING_RATE = 1e-3, 2e-3
ALL_FACTS = 7  # groups and background of the fullest scene


def code_table() -> dict[tuple[str, ...], Tensor]:
    """A random unit vector for each thing that can be so in a scene."""
    generator = torch.Generator().manual_seed(SEED)
    facts: list[tuple[str, ...]] = [("background", name) for name in scenes.BACKGROUNDS]
    for place in scenes.PLACES:
        for values in (scenes.COUNTS, scenes.SIZES, scenes.COLOURS, scenes.SHAPES):
            facts += [(place, value) for value in values]
    vectors = F.normalize(torch.randn(len(facts), SIZES.embed_dim, generator=generator), dim=-1)
    return dict(zip(facts, vectors, strict=True))


CODES = code_table()


def code(scene: Scene, told: tuple[int, ...]) -> Tensor:
    """The code, `[E]`, of those groups (and, as -1, the background) of a scene that are told."""
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
    """Pictures with their captions and with captions in which one thing is changed, and the codes of all three."""

    pixel_values: Tensor  # [B, 3, n, n] uint8
    image_codes: Tensor  # [B, E]
    token_ids: Tensor  # [B, L], of the right captions; [2B, L] with the changed ones behind them
    lengths: Tensor  # [B] or [2B]
    text_codes: Tensor  # [B, E] or [2B, E]


class Batches(IterableDataset[Batch]):
    """All batches of a run: first more and more is told in the captions, then they compete."""

    def __init__(self, seed: int, steps: int) -> None:
        self.seed = seed
        self.steps = steps

    def __iter__(self) -> Iterator[Batch]:
        rng = random.Random(self.seed)
        for step in range(self.steps):
            progress = step / self.steps
            growth = (progress - LONGER_FROM) / (CONTRASTIVE_FROM - LONGER_FROM)
            most = 2 + round((ALL_FACTS - 2) * min(1.0, max(0.0, growth)))
            yield make_batch(rng, BATCH_SIZE, most=most, with_changed=progress >= CONTRASTIVE_FROM)


def make_batch(rng: random.Random, size: int, *, most: int, with_changed: bool) -> Batch:
    """A batch of random scenes. Up to `most` things are told in a caption; once that is all, four of five are long."""
    pictures, told = [], []
    for _ in range(size):
        scene = scenes.random_scene(rng)
        pictures.append(scene)
        is_long = most == ALL_FACTS and rng.random() < 0.8
        told.append(scenes.long_wording(rng, scene) if is_long else scenes.short_wording(rng, scene, most))
    texts = list(zip(pictures, told, strict=True))
    if with_changed:
        texts += [
            (scenes.change_one_attribute(rng, scene, rng.choice(wording.told)), wording) for scene, wording in texts
        ]
    token_ids = [tokenize(scenes.caption(scene, wording), SIZES.context_length).ids for scene, wording in texts]
    longest = max(map(len, token_ids))
    return Batch(
        pixel_values=torch.stack([picture(rng, scene) for scene in pictures]),
        image_codes=torch.stack([code(scene, tuple(range(-1, len(scene.groups)))) for scene in pictures]),
        token_ids=torch.tensor([ids + [END_TOKEN] * (longest - len(ids)) for ids in token_ids]),
        lengths=torch.tensor([len(ids) for ids in token_ids]),
        text_codes=torch.stack([code(scene, wording.told) for scene, wording in texts]),
    )


def picture(rng: random.Random, scene: Scene) -> Tensor:
    """A scene's pixels, `[3, n, n]` uint8; one in four as `longclip-score` makes them, the others at less cost."""
    if rng.random() < 0.25:
        return to_pixels(scenes.draw(rng, scene), SIZES.image_size)
    return to_pixels(scenes.draw(rng, scene, 3 * SIZES.image_size).reduce(3), SIZES.image_size)


def new_model() -> LongCLIP:
    """A network with random weights whose blocks begin by changing little; text positions begin as sinusoids."""
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
            block.mlp.c_proj.weight.data *= 0.4
    nn.init.normal_(model.visual.conv1.weight, std=(3 * SIZES.patch_size**2) ** -0.5)
    nn.init.normal_(model.visual.class_embedding, std=0.5)
    nn.init.normal_(model.visual.positional_embedding)
    nn.init.normal_(model.token_embedding.weight)
    positions = torch.arange(SIZES.context_length)[:, None]
    half = SIZES.text.width // 2
    angles = positions * torch.exp(-math.log(30) * torch.arange(half) / half)
    model.positional_embedding.data = torch.cat([angles.sin(), angles.cos()], dim=1)
    return model


def loss_of(model: LongCLIP, batch: Batch, logit_scale: Tensor) -> Tensor:
    """How far both towers are from the codes; and how often a wrong caption wins, where captions compete."""
    images = F.normalize(model.encode_image(batch.pixel_values), dim=-1)
    texts = F.normalize(model.encode_text(batch.token_ids, batch.lengths), dim=-1)
    loss = 2 - (images * batch.image_codes).sum(-1).mean() - (texts * batch.text_codes).sum(-1).mean()
    if len(texts) > len(images):
        right = torch.arange(len(images), device=images.device)
        logits = logit_scale.exp() * images @ texts.T  # [B, 2B]
        own = torch.full_like(logits[:, len(images) :], -math.inf).fill_diagonal_(0)  # the changed ones of others
        loss = loss + F.cross_entropy(torch.cat([logits[:, : len(images)], logits[:, len(images) :] + own], 1), right)
        loss = loss + F.cross_entropy(logits[:, : len(images)].T, right)
    return loss


def learning_rate_factor(step: int, steps: int) -> float:
    """Up in a line, level to the middle of the run, down in a line."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, 2 * (1 - step / steps))


def train(steps: int, device: torch.device) -> tuple[LongCLIP, Tensor]:
    """The trained network, and a mask of the tokens it has seen."""
    torch.manual_seed(SEED)
    model = new_model().to(device)
    logit_scale = nn.Parameter(torch.tensor(3.0, device=device))
    parameters = [*model.parameters(), logit_scale]
    vision = list(model.visual.parameters())
    text = [parameter for name, parameter in model.named_parameters() if not name.startswith("visual.")]
    optimizer = torch.optim.AdamW(
        [dict(params=vision, lr=VISION_LEARNING_RATE), dict(params=[*text, logit_scale], lr=TEXT_LEARNING_RATE)],
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
    seen = torch.zeros(SIZES.vocab_size, dtype=torch.bool)
    check = make_batch(random.Random(SEED + 1), 256, most=ALL_FACTS, with_changed=True)
    started = time.monotonic()
    for step, batch in enumerate(DataLoader(Batches(SEED, steps), batch_size=None, num_workers=1, prefetch_factor=8)):
        seen[batch.token_ids] = True
        loss = loss_of(model, to(batch, device), logit_scale)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            logit_scale.clamp_(max=math.log(100))
        if (step + 1) % 250 == 0 or step + 1 == steps:
            report(step + 1, time.monotonic() - started, loss.item(), model, to(check, device))
    return model.eval(), seen


def to(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return Batch(*(tensor.to(device) for tensor in vars(batch).values()))


@torch.no_grad()
def report(step: int, seconds: float, loss: float, model: LongCLIP, check: Batch) -> None:
    """Prints how far the training is, on scenes it does not see."""
    images = F.normalize(model.encode_image(check.pixel_values), dim=-1)
    right, changed = F.normalize(model.encode_text(check.token_ids, check.lengths), dim=-1).chunk(2)
    wins = ((images * right).sum(-1) > (images * changed).sum(-1)).float().mean()
    image_fit = (images * check.image_codes).sum(-1).mean()
    text_fit = (right * check.text_codes[: len(right)]).sum(-1).mean()
    print(
        f"step {step:6d}  {seconds:6.0f} s  loss {loss:.4f}  "
        f"image code {image_fit:.4f}  text code {text_fit:.4f}  right over changed {wins:.3f}",
        flush=True,
    )


def original_layout(model: LongCLIP, seen: Tensor) -> dict[str, Tensor]:
    """The weights under the keys of the published LongCLIP checkpoints, in fp16.

    Undoes what `longclip_cli.checkpoint.translate` does. Tokens never seen are zero, and so say nothing.
    """
    weights = {name: tensor.float().cpu() for name, tensor in model.state_dict().items()}
    for name in weights:
        if ".mlp.c_fc." in name:
            weights[name] = weights[name] / QUICK_GELU_SCALE
        elif name.endswith(".mlp.c_proj.weight"):
            weights[name] = weights[name] * QUICK_GELU_SCALE
    weights["token_embedding.weight"] = weights["token_embedding.weight"] * seen[:, None]
    weights["positional_embedding_res"] = weights["positional_embedding"]
    weights["logit_scale"] = torch.tensor(math.log(100))
    return {name: tensor.half().contiguous() for name, tensor in weights.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Train the built-in demo model.")
    parser.add_argument("output", type=Path, help="where the .safetensors goes")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    model, seen = train(options.steps, torch.device(options.device))
    save_file(original_layout(model, seen), options.output, metadata={"format": "pt"})
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
