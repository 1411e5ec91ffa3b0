"""The network: two transformer towers that map images and texts into one space.

LongCLIP (Zhang et al., 2024, arXiv:2403.15378) is CLIP (Radford et al., 2021, arXiv:2103.00020)
with a text tower stretched from 77 to 248 positions. Parameters have the names of the published
checkpoints, except where another form computes faster. Loading converts these once:

- separate projections for query, key and value, and the patches' convolution as a linear layer (`layouts.py`),
- one positional table for the text where the checkpoints hold two (`layouts.py`),
- the 1.702 of QuickGELU multiplied into the weights around it, and weights packed for the CPU (`load.py`).

Shapes in the comments: B batch, L positions, W channels (width), E channels of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longclip_cli.models.preprocessing import IMAGE_MEAN, IMAGE_STD
from longclip_cli.models.tokenizer import END_TOKEN
from longclip_cli.models.transformer import LAYER_NORM_EPS, Linear, TowerSizes, Transformer


@dataclass(frozen=True)
class LongCLIPSizes:
    """All sizes of a network. They follow from the shapes of its checkpoint's tensors.

    `image_size` and `patch_size` are in pixels, `context_length` is in tokens.
    """

    embed_dim: int
    image_size: int
    patch_size: int
    vision: TowerSizes
    context_length: int
    vocab_size: int
    text: TowerSizes

    @property
    def image_positions(self) -> int:
        """Return the positions of the image tower: one for each patch and one for the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


class VisionTransformer(nn.Module):
    """The image tower: a sequence of patches and a class token, whose output is the image's."""

    def __init__(self, sizes: LongCLIPSizes) -> None:
        super().__init__()
        width = sizes.vision.width
        self.patch_size = sizes.patch_size
        self.conv1 = Linear(3 * sizes.patch_size**2, width, bias=False)  # of one patch; the patches do not overlap
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(sizes.image_positions, width))
        self.ln_pre = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.transformer = Transformer(sizes.vision)
        self.ln_post = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.proj = nn.Parameter(torch.empty(width, sizes.embed_dim))
        # (pixel / 255 - mean) / std, as one product and one sum for each value of a patch. No checkpoint holds these
        # two, so they are on the CPU even if the network is built on `meta`.
        mean, std = (
            torch.tensor(rgb, device="cpu").repeat_interleave(sizes.patch_size**2) for rgb in (IMAGE_MEAN, IMAGE_STD)
        )
        self.pixel_scale = nn.Buffer(1 / (255 * std), persistent=False)
        self.pixel_shift = nn.Buffer(-mean / std, persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the features, `[B, E]`, of RGB images, `[B, 3, image_size, image_size]` uint8."""
        grid = pixel_values.shape[-1] // self.patch_size
        patches = pixel_values.unflatten(3, (grid, -1)).unflatten(2, (grid, -1)).permute(0, 2, 4, 1, 3, 5)
        patches = patches.reshape(len(patches), grid**2, -1)  # [B, L - 1, 3 * patch_size**2]
        patches = patches.float().mul_(self.pixel_scale).add_(self.pixel_shift)
        x = self.conv1(patches.to(self.conv1.weight.dtype))  # [B, L - 1, W]
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x.to(self.class_embedding.dtype)], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        class_token = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return self.ln_post(self.transformer([x], class_token, causal=False)) @ self.proj


class LongCLIP(nn.Module):
    """Both towers. Their features are not normalised."""

    padding_token = END_TOKEN  # any token would do: no position sees those after it

    def __init__(self, sizes: LongCLIPSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.text.width
        self.visual = VisionTransformer(sizes)
        # From an existing table, since drawing a random one on `meta` imports much of PyTorch's compiler (1 s).
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(sizes.vocab_size, width), freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context_length, width))
        self.transformer = Transformer(sizes.text)
        self.ln_final = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.text_projection = nn.Parameter(torch.empty(width, sizes.embed_dim))

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Return the features, `[B, E]`, of RGB images, `[B, 3, image_size, image_size]` uint8."""
        return self.visual(pixel_values)

    def encode_text(self, token_ids: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the features, `[N, E]`, of N texts in groups.

        A group is the token ids of texts padded to one length, `[B, L]`, with `L` at most `context_length`.
        `lengths`, `[N]`, counts each text's tokens up to and including its end token, whose output is the text's.
        The padding after it has no effect, since the tower is causal.
        """
        x = [self.token_embedding(group) + self.positional_embedding[: group.shape[1]] for group in token_ids]
        return self.ln_final(self.transformer(x, lengths - 1, causal=True)) @ self.text_projection


def scores_from_cosines(cosines: Tensor) -> Tensor:
    """Return `(cosine + 1) / 2` of each, clamped to [0, 1] against rounding; NaN stays NaN."""
    return ((cosines + 1) / 2).clamp(0, 1)
