"""Weights in the memory order that the CPU's matrix products read fastest.

oneDNN, which comes with PyTorch, multiplies 10 to 33 % faster by a packed weight than by a plain one. The gain is
largest for few rows (see docs/performance.md). `torch.compile` packs in the same way when it freezes a network.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor


def can_pack(weight: Tensor) -> bool:
    """Return whether packing this weight is possible and faster: a matrix, on x86, in float32 or bfloat16."""
    if weight.dim() != 2 or weight.device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def pack_weight(weight: Tensor) -> Tensor:
    """Return a weight, `[out_features, in_features]`, in oneDNN's order. Only `packed_linear` can read the result."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


def packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x @ weight.T + bias` for a packed weight."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
