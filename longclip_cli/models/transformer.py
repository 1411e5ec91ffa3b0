"""A tower: pre-norm transformer blocks over sequences of several lengths at once, of which one position each is wanted.

Sequences of one length form a group, `[B, L, W]`. Between attentions the positions of all groups lie one behind the
other in one matrix, `[T, W]`, so that linear layers have many rows and none of them is padding.

Shapes in the comments: B sequences of a group, L positions of each, T positions of all groups, N sequences of all
groups, W channels (width), H heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longclip_cli.models.packing import packed_linear

HEAD_DIM = 64  # channels of an attention head, in every published LongCLIP and nearly every CLIP
LAYER_NORM_EPS = 1e-5
QUICK_GELU_SCALE = 1.702
Activation = Literal["quick_gelu", "gelu"]
SCALED_FOR_QUICK_GELU = (".ln_2.weight", ".ln_2.bias", ".mlp.c_fc.bias", ".mlp.c_proj.bias")
Groups = Sequence[tuple[int, int]]  # (B, L) of each group


@dataclass(frozen=True)
class TowerSizes:
    """Width (channels) and number of blocks of one transformer tower, channels of a head, and what its MLPs apply."""

    width: int
    layers: int
    head_dim: int = HEAD_DIM
    activation: Activation = "quick_gelu"


class Linear(nn.Linear):
    """A linear layer whose weight may be packed for the CPU by `pack_weight`."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        if self.weight.is_mkldnn:
            return packed_linear(x, self.weight, self.bias)
        return super().forward(x)


class Attention(nn.Module):
    """Multi-head self-attention, each sequence for itself."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(
        self, x: Tensor, groups: Groups, query: Tensor, queries: Groups, *, causal: bool, visible: Tensor | None = None
    ) -> Tensor:
        """What the positions `query`, `[Q, W]`, gather from their sequences in `x`, `[T, W]`: `[Q, W]`.

        With `causal` a position sees itself and those before it; `visible`, `[N, longest L]`, masks what is seen.
        """
        heads = zip(
            self._heads(self.q_proj(query), queries),
            self._heads(self.k_proj(x), groups),
            self._heads(self.v_proj(x), groups),
            masks_of(visible, groups),
            strict=True,
        )
        gathered = [attend(q, k, v, mask, causal=causal) for q, k, v, mask in heads]
        return self.out_proj(flat([y.transpose(1, 2).flatten(2) for y in gathered]).to(x.dtype))

    def _heads(self, x: Tensor, groups: Groups) -> Iterator[Tensor]:
        """`[T, W]` to `[B, H, L, head_dim]` for each group.

        The CPU attends in float32, since its kernel for smaller types is slower and less exact.
        """
        x = x.float() if x.device.type == "cpu" else x
        for (count, length), rows in zip(groups, x.split([math.prod(group) for group in groups]), strict=True):
            yield rows.view(count, length, -1, self.head_dim).transpose(1, 2)


def masks_of(visible: Tensor | None, groups: Groups) -> Sequence[Tensor | None]:
    """What of its sequence's positions one position sees, `[N, longest L]`, as a `[B, 1, 1, L]` mask for each group."""
    if visible is None:
        return [None] * len(groups)
    parts = visible.split([count for count, _ in groups])
    return [part[:, None, None, :length] for part, (_, length) in zip(parts, groups, strict=True)]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """Scaled dot-product attention, `[B, H, Q, head_dim]`.

    On Apple's GPUs some releases of PyTorch give wrong results for views (pytorch issues 163597, 181133) and for a
    mask that heads share (184180).
    """
    if q.device.type == "mps":
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        mask = None if mask is None else mask.expand(-1, q.shape[1], -1, -1).contiguous()
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


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

    def forward(self, x: Tensor, groups: Groups, *, causal: bool) -> Tensor:
        """`[T, W]` to `[T, W]`."""
        normed = self.ln_1(x).to(self.mlp.c_fc.weight.dtype)
        return self._with_mlp(x + self.attn(normed, groups, normed, groups, causal=causal))

    def pool(self, x: Tensor, groups: Groups, position: Tensor, *, causal: bool) -> Tensor:
        """The block's output at one position (`[N]`) of each sequence: `[T, W]` to `[N, W]`."""
        normed = self.ln_1(x).to(self.mlp.c_fc.weight.dtype)
        row = first_rows(groups, x.device) + position
        visible = None
        if causal:
            visible = torch.arange(max(length for _, length in groups), device=x.device) <= position[:, None]
        ones = [(count, 1) for count, _ in groups]
        return self._with_mlp(x[row] + self.attn(normed, groups, normed[row], ones, causal=False, visible=visible))

    def _with_mlp(self, x: Tensor) -> Tensor:
        normed = self.ln_2(x).to(self.mlp.c_fc.weight.dtype)
        return torch.add(x, self.mlp(normed), alpha=self.mlp.output_scale)


def flat(sequences: Sequence[Tensor]) -> Tensor:
    """Groups of `[B, L, W]` one behind the other, `[T, W]`; a view, if there is but one."""
    rows = [group.flatten(0, 1) for group in sequences]
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def first_rows(groups: Groups, device: torch.device) -> Tensor:
    """The row in which each sequence begins, `[N]`."""
    rows, begin = [], 0
    for count, length in groups:
        rows.append(torch.arange(begin, begin + count * length, length, device=device))
        begin += count * length
    return torch.cat(rows)


class Transformer(nn.Module):
    """A tower of blocks, of which the caller wants one position of each sequence."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(sizes) for _ in range(sizes.layers))

    def forward(self, sequences: Sequence[Tensor], position: Tensor, *, causal: bool) -> Tensor:
        """Groups of sequences, `[B, L, W]` each, and the position wanted of each sequence, `[N]`, to `[N, W]`.

        In the last block nothing but that position is computed.
        """
        groups = [(len(group), group.shape[1]) for group in sequences]
        x = flat(sequences)
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, groups, causal=causal)
        return last.pool(x, groups, position, causal=causal)  # type: ignore[operator]
