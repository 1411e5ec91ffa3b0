"""The names and shapes of a checkpoint's tensors: the original layout, that of Transformers, and the network's own.

The layout is detected from the tensor names. The original names are those of OpenAI's CLIP, to which LongCLIP adds
`positional_embedding_res`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# LongCLIP keeps CLIP's first 20 positions as trained and stretches the rest (paper, section 3.1).
# Its checkpoints hold two tables: one is used up to this position, the other from there on.
KEPT_POSITIONS = 20
CLIP_CONTEXT_LENGTH = 77
UNUSED_KEYS = (
    "logit_scale",  # the training temperature: scores are plain cosines
    "input_resolution",  # this and the next two: sizes that OpenAI's state dicts repeat from the shapes
    "context_length",
    "vocab_size",
)
# Transformers' names without the tower's prefix. Buffers that number the positions are skipped.
TRANSFORMERS_TEXT = {
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.position_embedding_res": "positional_embedding_res",
    "encoder.layers.": "transformer.resblocks.",
    "final_layer_norm.": "ln_final.",
}
TRANSFORMERS_VISION = {
    "embeddings.class_embedding": "visual.class_embedding",
    "embeddings.patch_embedding.": "visual.conv1.",
    "embeddings.position_embedding.weight": "visual.positional_embedding",
    "pre_layrnorm.": "visual.ln_pre.",  # Transformers' own spelling
    "encoder.layers.": "visual.transformer.resblocks.",
    "post_layernorm.": "visual.ln_post.",
}
TRANSFORMERS_BLOCK = {
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".self_attn.": ".attn.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}
TRANSFORMERS_PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}


def original_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that are used, under the original's names, as views.

    If query, key and value are separate, they stay separate (`attn.q_proj.` and so on). The original has no such names.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tower := re.match(r"(text|vision)_model\.(?:\1_model\.)?", name):
            names = TRANSFORMERS_TEXT if tower[1] == "text" else TRANSFORMERS_VISION
            rest = name[tower.end() :]
            for theirs, ours in names.items():
                if rest.startswith(theirs):
                    renamed[with_block_names(ours + rest.removeprefix(theirs))] = tensor
        elif name in TRANSFORMERS_PROJECTIONS:
            renamed[TRANSFORMERS_PROJECTIONS[name]] = tensor.mT if tensor.dim() == 2 else tensor
        elif name not in UNUSED_KEYS:
            renamed[name] = tensor
    return renamed


def with_block_names(name: str) -> str:
    """Return a name with Transformers' names for the parts of a block replaced by the original's."""
    for theirs, ours in TRANSFORMERS_BLOCK.items():
        name = name.replace(theirs, ours)
    return name


def network_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the original's names in the layout of `LongCLIP`: views, except for the positional table."""
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".attn.in_proj_" in name and tensor.dim():
            block, _, kind = name.partition("in_proj_")
            weights |= {f"{block}{part}_proj.{kind}": view for part, view in zip("qkv", tensor.chunk(3), strict=False)}
        elif name == "visual.conv1.weight":
            weights[name] = tensor.flatten(1)
        elif name == "positional_embedding" and "positional_embedding_res" in tensors:
            stretched = tensors["positional_embedding_res"]
            weights[name] = torch.cat([tensor[:KEPT_POSITIONS], stretched[KEPT_POSITIONS:]])
        elif name != "positional_embedding_res":
            weights[name] = tensor
    return weights


def original_layout(weights: Mapping[str, Tensor], patch_size: int) -> dict[str, Tensor]:
    """Return a network's weights in the original layout, in which LongCLIP's positional table appears twice."""
    tensors = {}
    for name, tensor in weights.items():
        if ".attn.q_proj." in name:
            parts = [weights[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            tensors[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
        elif name == "visual.conv1.weight":
            tensors[name] = tensor.unflatten(1, (3, patch_size, patch_size))
        elif name == "positional_embedding" and len(tensor) > CLIP_CONTEXT_LENGTH:
            tensors |= {name: tensor, "positional_embedding_res": tensor.clone()}
        elif ".k_proj." not in name and ".v_proj." not in name:
            tensors[name] = tensor
    return tensors
