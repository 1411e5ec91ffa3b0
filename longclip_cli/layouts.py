"""Names and shapes of a checkpoint's tensors, and those that the network has for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# LongCLIP keeps CLIP's first 20 positions as trained and stretches the rest (paper, section 3.1);
# its checkpoints hold two tables, of which each serves its own positions.
KEPT_POSITIONS = 20
UNUSED_KEYS = ("logit_scale",)  # the training temperature: scores are plain cosines


def network_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an original checkpoint under the names and in the shapes that `LongCLIP` has, as views of them."""
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".attn.in_proj_" in name:
            block, _, kind = name.partition("in_proj_")
            weights |= {f"{block}{part}_proj.{kind}": view for part, view in zip("qkv", tensor.chunk(3), strict=False)}
        elif name == "visual.conv1.weight":
            weights[name] = tensor.flatten(1)
        elif name == "positional_embedding":
            stretched = tensors["positional_embedding_res"]
            weights[name] = torch.cat([tensor[:KEPT_POSITIONS], stretched[KEPT_POSITIONS:]])
        elif name not in UNUSED_KEYS and name != "positional_embedding_res":
            weights[name] = tensor
    return weights


def original_layout(weights: Mapping[str, Tensor], patch_size: int) -> dict[str, Tensor]:
    """The reverse: a network's weights as the original checkpoints hold them, the positional table twice."""
    tensors = {}
    for name, tensor in weights.items():
        if ".attn.q_proj." in name:
            parts = [weights[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            tensors[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
        elif name == "visual.conv1.weight":
            tensors[name] = tensor.unflatten(1, (3, patch_size, patch_size))
        elif name == "positional_embedding":
            tensors |= {name: tensor, "positional_embedding_res": tensor.clone()}
        elif ".k_proj." not in name and ".v_proj." not in name:
            tensors[name] = tensor
    return tensors
