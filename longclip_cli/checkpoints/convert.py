"""Any checkpoint to one safetensors file with the original's tensor names, which is fast and safe to load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from longclip_cli.checkpoints.find import find_checkpoint
from longclip_cli.checkpoints.layouts import original_layout
from longclip_cli.checkpoints.load import check_values, lay_out
from longclip_cli.checkpoints.messages import errors_naming
from longclip_cli.checkpoints.sizes import CONFIG_METADATA
from longclip_cli.checkpoints.state_dict import weight_files
from longclip_cli.errors import OutputError
from longclip_cli.models.clip import LongCLIPSizes
from longclip_cli.models.device import dtype_name
from longclip_cli.models.transformer import TowerSizes
from longclip_cli.storage.files import whole_file


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion: source and target, the network's sizes, and the number and types of its weights."""

    model: str
    target: Path
    sizes: LongCLIPSizes
    parameters: int
    dtypes: set[torch.dtype]

    def __str__(self) -> str:
        """Return a description in several lines."""
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
    """Write the weights of a model reference (see `find_checkpoint`) to a safetensors file.

    They keep their type unless a `dtype` is given. The file is written whole or not at all. Raises `CheckpointError`
    and `OutputError`.
    """
    source = find_checkpoint(model, revision)
    if target.suffix != ".safetensors":
        raise OutputError(f"cannot write {target}: its name must end with .safetensors")
    if not target.absolute().parent.is_dir():
        raise OutputError(f"cannot write {target}: no such folder")
    if target.exists() and any(target.samefile(file) for file in weight_files(source)):
        raise OutputError(f"cannot write {target}: it is the checkpoint itself")
    network, weights = lay_out(source)
    sizes = network.sizes
    with errors_naming(source):
        for name, weight in weights.tensors.items():
            check_values(name, weight)
    config = {"vision_config": tower_config(sizes.vision), "text_config": tower_config(sizes.text)}
    try:
        tensors = original_layout(weights.tensors, sizes.patch_size)
        written = {name: tensor.to(dtype or tensor.dtype).contiguous() for name, tensor in tensors.items()}
        with whole_file(target) as new:
            mode = new.stat().st_mode  # from the umask; safetensors would deny others to read the file
            save_file(written, new, metadata={"format": "pt", CONFIG_METADATA: json.dumps(config)})
            new.chmod(mode)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {target}: {error}") from error
    parameters = sum(tensor.numel() for tensor in weights.tensors.values())
    return Conversion(model, target, sizes, parameters, {tensor.dtype for tensor in written.values()})


def tower_config(sizes: TowerSizes) -> dict[str, str | int]:
    """Return the settings of a tower that shapes do not determine, with the names of Transformers' `config.json`."""
    return {"hidden_act": sizes.activation, "num_attention_heads": sizes.width // sizes.head_dim}
