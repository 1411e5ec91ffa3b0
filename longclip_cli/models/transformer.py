"""A tower: pre-norm transformer blocks that run over sequences of several lengths and return one position of each.

Sequences of one length form a group, `[B, L, W]`. Outside attention, the positions of all groups are the rows of one
matrix, `[T, W]`: linear layers get many rows, and sequences are not padded to the longest.

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

HEAD_DIM = 64  # channels of an attention head in all published LongCLIP models and nearly all CLIP models
LAYER_NORM_EPS = 1e-5
QUICK_GELU_SCALE = 1.702
Activation = Literal["quick_gelu", "gelu"]
SCALED_FOR_QUICK_GELU = (".ln_2.weight", ".ln_2.bias", ".mlp.c_fc.bias", ".mlp.c_proj.bias")
Groups = Sequence[tuple[int, int]]  # (B, L) of each group


@dataclass(frozen=True)
class TowerSizes:
    """The sizes of one tower: channels, blocks, channels of an attention head, and the activation of its MLPs."""

    width: int
    layers: int
    head_dim: int = HEAD_DIM
    activation: Activation = "quick_gelu"


class Linear(nn.Linear):
    """A linear layer whose weight can be packed for the CPU by `pack_weight`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., out_features]` for `[..., in_features]`."""
        if self.weight.is_mkldnn:
            return packed_linear(x, self.weight, self.bias)
        return super().forward(x)


class Attention(nn.Module):
    """Multi-head attention within each sequence."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(
        self,
        targets: Tensor,
        target_groups: Groups,
        sources: Tensor,
        source_groups: Groups,
        *,
        causal: bool,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Return for each target position, `[Q, W]`, what it reads from the sources of its sequence: `[Q, W]`.

        The sources, `[T, W]`, give keys and values, the targets give queries. If `causal`, a position reads itself
        and those before it. `visible`, `[N, longest L]` bool, selects the sources of a sequence that are read.
        """
        heads = zip(
            self._heads(self.q_proj(targets), target_groups),
            self._heads(self.k_proj(sources), source_groups),
            self._heads(self.v_proj(sources), source_groups),
            masks_of(visible, source_groups),
            strict=True,
        )
        attended = [attend(q, k, v, mask, causal=causal) for q, k, v, mask in heads]
        return self.out_proj(flat([y.transpose(1, 2).flatten(2) for y in attended]).to(sources.dtype))

    def _heads(self, x: Tensor, groups: Groups) -> Iterator[Tensor]:
        """Yield `[B, H, L, head_dim]` for each group of `[T, W]`.

        On the CPU in float32: its attention for smaller types is slower and less exact.
        """
        x = x.float() if x.device.type == "cpu" else x
        for (count, length), rows in zip(groups, x.split([math.prod(group) for group in groups]), strict=True):
            yield rows.view(count, length, -1, self.head_dim).transpose(1, 2)


def masks_of(visible: Tensor | None, groups: Groups) -> Sequence[Tensor | None]:
    """Return for each group its part of `visible`, `[N, longest L]`, as a mask for attention, `[B, 1, 1, L]`."""
    if visible is None:
        return [None] * len(groups)
    parts = visible.split([count for count, _ in groups])
    return [part[:, None, None, :length] for part, (_, length) in zip(parts, groups, strict=True)]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """Return scaled dot-product attention, `[B, H, Q, head_dim]`.

    On Apple's GPUs, some PyTorch releases give wrong results for views (pytorch issues 163597, 181133) and for a
    mask that heads share (184180). There, the arguments are copied.
    """
    if q.device.type == "mps":
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        mask = None if mask is None else mask.expand(-1, q.shape[1], -1, -1).contiguous()
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


class MLP(nn.Module):
    """The MLP of a block: two linear layers with GELU or SiLU between them. Its output lacks the factor `output_scale`.

    QuickGELU is `x * sigmoid(1.702 x) = silu(1.702 x) / 1.702`. Loading multiplies the 1.702 into the preceding layer
    norm and the first bias. The block multiplies by `output_scale`, `1 / 1.702`, when it adds the output to its input.
    """

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.c_fc = Linear(sizes.width, 4 * sizes.width)
        self.c_proj = Linear(4 * sizes.width, sizes.width)
        self.is_quick = sizes.activation == "quick_gelu"
        self.output_scale = 1 / QUICK_GELU_SCALE if self.is_quick else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., W]` for `[..., W]`."""
        hidden = self.c_fc(x)
        return self.c_proj(F.silu(hidden, inplace=True) if self.is_quick else F.gelu(hidden))


class ResidualAttentionBlock(nn.Module):
    """One pre-norm transformer block.

    The residual stream `x` may have a wider dtype than the linear layers.
    """

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPS)
        self.attn = Attention(sizes.width, sizes.head_dim)
        self.ln_2 = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPS)
        self.mlp = MLP(sizes)

    def forward(self, x: Tensor, groups: Groups, *, causal: bool) -> Tensor:
        """Return the output at all positions, `[T, W]`, for the input `[T, W]`."""
        normed = self.ln_1(x).to(self.mlp.c_fc.weight.dtype)
        return self._with_mlp(x + self.attn(normed, groups, normed, groups, causal=causal))

    def pool(self, x: Tensor, groups: Groups, position: Tensor, *, causal: bool) -> Tensor:
        """Return the output at one position (`[N]`) of each sequence, `[N, W]`, for the input `[T, W]`."""
        normed = self.ln_1(x).to(self.mlp.c_fc.weight.dtype)
        row = first_rows(groups, x.device) + position
        visible = None
        if causal:
            visible = torch.arange(max(length for _, length in groups), device=x.device) <= position[:, None]
        ones = [(count, 1) for count, _ in groups]
        return self._with_mlp(x[row] + self.attn(normed[row], ones, normed, groups, causal=False, visible=visible))

    def _with_mlp(self, x: Tensor) -> Tensor:
        normed = self.ln_2(x).to(self.mlp.c_fc.weight.dtype)
        return torch.add(x, self.mlp(normed), alpha=self.mlp.output_scale)


def flat(sequences: Sequence[Tensor]) -> Tensor:
    """Return groups of `[B, L, W]` as the rows of one matrix, `[T, W]`; of a single group, a view."""
    rows = [group.flatten(0, 1) for group in sequences]
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def first_rows(groups: Groups, device: torch.device) -> Tensor:
    """Return the row at which each sequence begins, `[N]`."""
    rows, begin = [], 0
    for count, length in groups:
        rows.append(torch.arange(begin, begin + count * length, length, device=device))
        begin += count * length
    return torch.cat(rows)


class Transformer(nn.Module):
    """A tower of blocks that returns one position of each sequence."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(sizes) for _ in range(sizes.layers))

    def forward(self, sequences: Sequence[Tensor], position: Tensor, *, causal: bool) -> Tensor:
        """Return the output at one position (`[N]`) of each sequence, `[N, W]`, for groups of `[B, L, W]`.

        The last block computes only that position.
        """
        groups = [(len(group), group.shape[1]) for group in sequences]
        x = flat(sequences)
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, groups, causal=causal)
        return last.pool(x, groups, position, causal=causal)  # type: ignore[operator]
