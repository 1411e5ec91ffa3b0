"""The network: two transformer towers that put images and texts into one space.

LongCLIP (Zhang et al., 2024, arXiv:2403.15378) is CLIP (Radford et al., 2021, arXiv:2103.00020)
with a text tower stretched from 77 to 248 positions. Parameters carry the names of the published
checkpoints; `checkpoint.py` translates what differs, once, while loading:

- one positional table for the text where the checkpoints hold two,
- the 1.702 of QuickGELU folded into the two linear layers around it.

Shapes in the comments: B batch, L positions, W channels (width), H heads, E channels of the shared space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_DIM = 64  # channels of an attention head, in every published CLIP and LongCLIP
LAYER_NORM_EPS = 1e-5
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of RGB in [0, 1], from CLIP's preprocessing
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TowerSizes:
    """Width (channels) and number of blocks of one transformer tower."""

    width: int
    layers: int


@dataclass(frozen=True)
class LongCLIPSizes:
    """All sizes of a network, as its checkpoint's tensor shapes give them.

    `image_size` and `patch_size` are in pixels, `context_length` in tokens.
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
        """Positions of the image tower: one for each patch and one for the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


class Attention(nn.Module):
    """Multi-head self-attention with query, key and value in one projection, as in the checkpoints."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        """`[B, L, W]` to `[B, L, W]`; `causal` lets a position see itself and those before it."""
        q, k, v = (
            self._heads(part) for part in F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        )  # each [B, H, L, 64]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def pool(self, x: Tensor, query: Tensor, visible: Tensor | None) -> Tensor:
        """The same for one query a sequence: `[B, L, W]` and `[B, 1, W]` to `[B, 1, W]`.

        `visible` is a `[B, 1, 1, L]` mask of the positions the query sees; `None` means all.
        """
        w = self.width
        q = self._heads(F.linear(query, self.in_proj_weight[:w], self.in_proj_bias[:w]))  # [B, H, 1, 64]
        k, v = (
            self._heads(part) for part in F.linear(x, self.in_proj_weight[w:], self.in_proj_bias[w:]).chunk(2, dim=-1)
        )  # each [B, H, L, 64]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)  # [B, L, W] to [B, H, L, 64]


class MLP(nn.Module):
    """The two linear layers of a block, with QuickGELU `x * sigmoid(1.702 x)` between them.

    The scale stands in the weights (see `checkpoint.py`), which leaves `silu`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.silu(self.c_fc(x), inplace=True))


class ResidualAttentionBlock(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = Attention(width)
        self.ln_2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        """`[B, L, W]` to `[B, L, W]`."""
        x = x + self.attn(self.ln_1(x), causal=causal)
        return x + self.mlp(self.ln_2(x))

    def pool(self, x: Tensor, position: Tensor, visible: Tensor | None) -> Tensor:
        """The block's output at one position (`[B]`) of each sequence: `[B, L, W]` to `[B, W]`."""
        index = position[:, None, None].expand(-1, 1, x.shape[-1])  # [B, 1, W]
        normed = self.ln_1(x)
        pooled = x.gather(1, index) + self.attn.pool(normed, normed.gather(1, index), visible)
        return (pooled + self.mlp(self.ln_2(pooled))).squeeze(1)


class Transformer(nn.Module):
    """A tower of blocks, of which the caller wants one position of each sequence."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(sizes.width) for _ in range(sizes.layers))

    def forward(self, x: Tensor, position: Tensor, *, causal: bool) -> Tensor:
        """`[B, L, W]` and the position wanted of each, `[B]`, to `[B, W]`.

        In the last block nothing but that position is computed.
        """
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, causal=causal)
        visible = None
        if causal:
            visible = (torch.arange(x.shape[1], device=x.device) <= position[:, None])[:, None, None]
        return last.pool(x, position, visible)  # type: ignore[operator]


class VisionTransformer(nn.Module):
    """The image tower: patches and a class token, whose output is the image's."""

    def __init__(self, sizes: LongCLIPSizes) -> None:
        super().__init__()
        width = sizes.vision.width
        self.conv1 = nn.Conv2d(3, width, sizes.patch_size, stride=sizes.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(sizes.image_positions, width))
        self.ln_pre = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.transformer = Transformer(sizes.vision)
        self.ln_post = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.proj = nn.Parameter(torch.empty(width, sizes.embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pixels `[B, 3, image_size, image_size]` to `[B, E]`."""
        x = self.conv1(x).flatten(2).transpose(1, 2)  # [B, L - 1, W]
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        class_token = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return self.ln_post(self.transformer(x, class_token, causal=False)) @ self.proj


class LongCLIP(nn.Module):
    """Both towers. The features they give are not normalised."""

    def __init__(self, sizes: LongCLIPSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.text.width
        self.visual = VisionTransformer(sizes)
        self.token_embedding = nn.Embedding(sizes.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context_length, width))
        self.transformer = Transformer(sizes.text)
        self.ln_final = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.text_projection = nn.Parameter(torch.empty(width, sizes.embed_dim))
        # On the CPU even where the weights are laid out on `meta`: no checkpoint fills them.
        self.image_mean = nn.Buffer(torch.tensor(IMAGE_MEAN, device="cpu").view(3, 1, 1), persistent=False)
        self.image_std = nn.Buffer(torch.tensor(IMAGE_STD, device="cpu").view(3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The type the network computes in."""
        return self.text_projection.dtype

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """`[B, 3, image_size, image_size]` uint8 RGB to `[B, E]`."""
        x = (pixel_values.float() / 255 - self.image_mean) / self.image_std
        return self.visual(x.to(self.dtype))

    def encode_text(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """`[B, L]` token ids to `[B, E]`; `L` may be anything up to `context_length`.

        `lengths`, `[B]`, counts each text's tokens up to and with its end token, whose output is the
        text's. What stands behind it is never seen, since the tower is causal.
        """
        x = self.token_embedding(token_ids) + self.positional_embedding[: token_ids.shape[1]]
        return self.ln_final(self.transformer(x, lengths - 1, causal=True)) @ self.text_projection
