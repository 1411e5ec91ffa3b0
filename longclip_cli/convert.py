"""Any checkpoint to the original's keys in one safetensors file, which is fast and safe to load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from longclip_cli.checkpoint import check_names_and_shapes, find_checkpoint
from longclip_cli.errors import CheckpointError, OutputError
from longclip_cli.layouts import network_layout, original_layout, original_names
from longclip_cli.model import LongCLIP, LongCLIPSizes, TowerSizes
from longclip_cli.sizes import CONFIG_METADATA, read_config, sizes_from_shapes
from longclip_cli.state_dict import read_state_dict, weight_files


@dataclass(frozen=True)
class Conversion:
    """What was converted: the reference to it, the network's sizes, and how many numbers its weights are."""

    model: str
    target: Path
    sizes: LongCLIPSizes
    parameters: int
    dtypes: set[torch.dtype]

    def __str__(self) -> str:
        """For people: a line for each."""
        sizes = self.sizes
        return "\n".join(
            [
                f"{self.model} -> {self.target}",
                f"  image    {sizes.image_size} x {sizes.image_size} pixels in patches of {sizes.patch_size}, "
                f"{sizes.vision.layers} blocks of {sizes.vision.width} channels",
                f"  text     {sizes.context_length} tokens of {sizes.vocab_size:,}, "
                f"{sizes.text.layers} blocks of {sizes.text.width} channels",
                f"  features {sizes.embed_dim} channels",
                f"  weights  {self.parameters:,} parameters, {', '.join(sorted(map(dtype_name, self.dtypes)))}",
            ]
        )


def convert_checkpoint(
    model: str, target: Path, dtype: torch.dtype | None = None, revision: str | None = None
) -> Conversion:
    """Writes the weights that `model` names (see `load_model`) to a safetensors file; `dtype` is theirs by default.

    The file is written whole or not at all. Raises `CheckpointError` and `OutputError`.
    """
    source = find_checkpoint(model, revision)
    if target.suffix != ".safetensors":
        raise OutputError(f"cannot write {target}: its name has to end with .safetensors")
    if target.exists() and any(target.samefile(file) for file in weight_files(source)):
        raise OutputError(f"cannot write {target}: it is the checkpoint itself")
    try:
        found = read_state_dict(source).tensors
        tensors = original_names(found)
        sizes = sizes_from_shapes(tensors, read_config(source, found))
        weights = network_layout(tensors)
        with torch.device("meta"):
            check_names_and_shapes(expected=dict(LongCLIP(sizes).named_parameters()), found=weights)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    partial = target.with_name(f"{target.name}.partial")
    config = {"vision_config": tower_config(sizes.vision), "text_config": tower_config(sizes.text)}
    try:
        tensors = original_layout(weights, sizes.patch_size)
        written = {name: tensor.to(dtype or tensor.dtype).contiguous() for name, tensor in tensors.items()}
        save_file(written, partial, metadata={"format": "pt", CONFIG_METADATA: json.dumps(config)})
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    parameters = sum(tensor.numel() for tensor in weights.values())
    return Conversion(model, target, sizes, parameters, {tensor.dtype for tensor in written.values()})


def tower_config(sizes: TowerSizes) -> dict[str, str | int]:
    """What shapes don't say about a tower, as Transformers' `config.json` has it."""
    return {"hidden_act": sizes.activation, "num_attention_heads": sizes.width // sizes.head_dim}


def dtype_name(dtype: torch.dtype) -> str:
    """`float16` for `torch.float16`."""
    return str(dtype).removeprefix("torch.")
