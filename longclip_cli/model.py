"""The network: two transformer towers that put images and texts into one space.

LongCLIP (Zhang et al., 2024, arXiv:2403.15378) is CLIP (Radford et al., 2021, arXiv:2103.00020)
with a text tower stretched from 77 to 248 positions. Parameters carry the names of the published
checkpoints but for what computes faster in another form, into which loading puts it, once:

- query, key and value in projections of their own, and the patches' convolution as a linear layer (`layouts.py`),
- one positional table for the text where the checkpoints hold two (`layouts.py`),
- the 1.702 of QuickGELU multiplied into what stands around it, and weights packed for the CPU (`checkpoint.py`).

Shapes in the comments: B batch, L positions, W channels (width), H heads, E channels of the shared space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longclip_cli.packing import packed_linear

HEAD_DIM = 64  # channels of an attention head, in every published LongCLIP and nearly every CLIP
LAYER_NORM_EPS = 1e-5
QUICK_GELU_SCALE = 1.702
Activation = Literal["quick_gelu", "gelu"]
SCALED_FOR_QUICK_GELU = (".ln_2.weight", ".ln_2.bias", ".mlp.c_fc.bias", ".mlp.c_proj.bias")
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of RGB in [0, 1], from CLIP's preprocessing
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TowerSizes:
    """Width (channels) and number of blocks of one transformer tower, channels of a head, and what its MLPs apply."""

    width: int
    layers: int
    head_dim: int = HEAD_DIM
    activation: Activation = "quick_gelu"


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


class Linear(nn.Linear):
    """A linear layer whose weight may be packed for the CPU by `pack_weight`."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        if self.weight.is_mkldnn:
            return packed_linear(x, self.weight, self.bias)
        return super().forward(x)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, query: Tensor, *, causal: bool = False, visible: Tensor | None = None) -> Tensor:
        """What the positions `query`, `[B, Q, W]`, gather from `x`, `[B, L, W]`: `[B, Q, W]`.

        With `causal` a position sees itself and those before it; `visible` is a `[B, 1, Q, L]` mask of what is seen.
        """
        q, k, v = (
            y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, H, Q or L, head_dim]
            for y in (self.q_proj(query), self.k_proj(x), self.v_proj(x))
        )
        y = attend(q, k, v, visible=visible, causal=causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, *, visible: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention, `[B, H, Q, head_dim]`.

    The CPU does it in float32, since its kernel for smaller types is slower and less exact. On Apple's GPUs some
    releases of PyTorch give wrong results for views (pytorch issues 163597, 181133).
    """
    dtype = q.dtype
    if q.device.type == "cpu":
        q, k, v = q.float(), k.float(), v.float()
    elif q.device.type == "mps":
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return F.scaled_dot_product_attention(q, k, v, visible, is_causal=causal).to(dtype)


class MLP(nn.Module):
    """The two linear layers of a block with GELU or SiLU between them, `1 / output_scale` times too large.

    QuickGELU is `x * sigmoid(1.702 x) = silu(1.702 x) / 1.702`. Loading puts the first factor into the layer norm
    before and the first bias; the second is left to where the block adds the result to its input.
    """

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.c_fc = Linear(sizes.width, 4 * sizes.width)
        self.c_proj = Linear(4 * sizes.width, sizes.width)
        self.is_quick = sizes.activation == "quick_gelu"
        self.output_scale = 1 / QUICK_GELU_SCALE if self.is_quick else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """`[..., W]` to `[..., W]`."""
        hidden = self.c_fc(x)
        return self.c_proj(F.silu(hidden, inplace=True) if self.is_quick else F.gelu(hidden))


class ResidualAttentionBlock(nn.Module):
    """One pre-norm transformer block.

    The residual stream `x` may be of a wider type than the linear layers work in.
    """

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPS)
        self.attn = Attention(sizes.width, sizes.head_dim)
        self.ln_2 = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPS)
        self.mlp = MLP(sizes)

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        """`[B, L, W]` to `[B, L, W]`."""
        normed = self.ln_1(x).to(self.mlp.c_fc.weight.dtype)
        return self._with_mlp(x + self.attn(normed, normed, causal=causal))

    def pool(self, x: Tensor, position: Tensor, visible: Tensor | None) -> Tensor:
        """The block's output at one position (`[B]`) of each sequence: `[B, L, W]` to `[B, W]`.

        `visible` is a `[B, 1, 1, L]` mask of the positions it sees; `None` means all.
        """
        index = position[:, None, None].expand(-1, 1, x.shape[-1])  # [B, 1, W]
        normed = self.ln_1(x).to(self.mlp.c_fc.weight.dtype)
        pooled = x.gather(1, index) + self.attn(normed, normed.gather(1, index), visible=visible)
        return self._with_mlp(pooled).squeeze(1)

    def _with_mlp(self, x: Tensor) -> Tensor:
        normed = self.ln_2(x).to(self.mlp.c_fc.weight.dtype)
        return torch.add(x, self.mlp(normed), alpha=self.mlp.output_scale)


class Transformer(nn.Module):
    """A tower of blocks, of which the caller wants one position of each sequence."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(sizes) for _ in range(sizes.layers))

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
        self.patch_size = sizes.patch_size
        self.conv1 = Linear(3 * sizes.patch_size**2, width, bias=False)  # of one patch; the patches do not overlap
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(sizes.image_positions, width))
        self.ln_pre = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.transformer = Transformer(sizes.vision)
        self.ln_post = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.proj = nn.Parameter(torch.empty(width, sizes.embed_dim))
        # (pixel / 255 - mean) / std, as one product and one sum for each value of a patch. They are on the CPU even
        # where the weights are laid out on `meta`, since no checkpoint fills them.
        mean, std = (
            torch.tensor(rgb, device="cpu").repeat_interleave(sizes.patch_size**2) for rgb in (IMAGE_MEAN, IMAGE_STD)
        )
        self.pixel_scale = nn.Buffer(1 / (255 * std), persistent=False)
        self.pixel_shift = nn.Buffer(-mean / std, persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """`[B, 3, image_size, image_size]` uint8 RGB to `[B, E]`."""
        grid = pixel_values.shape[-1] // self.patch_size
        patches = pixel_values.unflatten(3, (grid, -1)).unflatten(2, (grid, -1)).permute(0, 2, 4, 1, 3, 5)
        patches = patches.reshape(len(patches), grid**2, -1)  # [B, L - 1, 3 * patch_size**2]
        patches = patches.float().mul_(self.pixel_scale).add_(self.pixel_shift)
        x = self.conv1(patches.to(self.conv1.weight.dtype))  # [B, L - 1, W]
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x.to(self.class_embedding.dtype)], dim=1)
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
        # Given a table, it draws none: on `meta` that would import half of PyTorch's compiler, which takes a second.
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(sizes.vocab_size, width), freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context_length, width))
        self.transformer = Transformer(sizes.text)
        self.ln_final = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.text_projection = nn.Parameter(torch.empty(width, sizes.embed_dim))

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """`[B, 3, image_size, image_size]` uint8 RGB to `[B, E]`."""
        return self.visual(pixel_values)

    def encode_text(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """`[B, L]` token ids to `[B, E]`; `L` may be anything up to `context_length`.

        `lengths`, `[B]`, counts each text's tokens up to and with its end token, whose output is the
        text's. What stands behind it is never seen, since the tower is causal.
        """
        x = self.token_embedding(token_ids) + self.positional_embedding[: token_ids.shape[1]]
        return self.ln_final(self.transformer(x, lengths - 1, causal=True)) @ self.text_projection
