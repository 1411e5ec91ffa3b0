"""A model reference to a loaded `LongCLIP`: find the file, read it, translate its layout.

Checkpoints are data. A `.pt` file is read with `weights_only=True`, which refuses any pickled call.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from longclip_cli.errors import CheckpointError
from longclip_cli.hub import DEMO_MODEL, download, looks_like_hub_id, pick_checkpoint
from longclip_cli.layouts import network_layout
from longclip_cli.model import (
    HEAD_DIM,
    QUICK_GELU_SCALE,
    SCALED_FOR_QUICK_GELU,
    Linear,
    LongCLIP,
    LongCLIPSizes,
    TowerSizes,
)
from longclip_cli.packing import can_pack, pack_weight, release_pages
from longclip_cli.tokenizer import END_TOKEN

NESTED_UNDER = ("state_dict", "model")


@dataclass(frozen=True)
class StateDict:
    """The tensors of a checkpoint by name; `is_mapped` tells that their memory is that of the file."""

    tensors: dict[str, Tensor]
    is_mapped: bool


def load_model(model: str, device: torch.device, dtype: torch.dtype) -> LongCLIP:
    """The network that `model` (a file, a folder, a Hub id or `demo`) names, ready on `device` in `dtype`.

    Raises `CheckpointError`.
    """
    path = find_checkpoint(model)
    try:
        return build_model(read_state_dict(path), device, dtype)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def find_checkpoint(model: str) -> Path:
    """The checkpoint file for a model reference: built in for `demo`, downloaded when it is a Hub id."""
    if model == DEMO_MODEL:
        return Path(str(files("longclip_cli") / "data" / "demo.safetensors"))
    path = Path(os.path.expanduser(model))  # noqa: PTH111  (Path's own raises for an unknown user)
    if path.is_file():
        return path
    if path.is_dir():
        return path / pick_checkpoint((entry.name for entry in path.iterdir()), where=model)
    if looks_like_hub_id(model):
        return download(model)
    raise CheckpointError(f"no such checkpoint: {model} (give a file, a folder, a Hub id such as owner/name, or demo)")


def read_state_dict(path: Path) -> StateDict:
    """The tensors of a checkpoint file, mapped into memory where the format allows it.

    Wrappers that training code leaves around the weights are taken off: a dict that holds them
    under `state_dict` or `model`, and a `module.` before every name.
    """
    content, is_mapped = load_safetensors(path) if path.suffix == ".safetensors" else load_torch(path)
    for key in NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__} where a state dict (names and tensors) is needed")
    tensors = {str(name).removeprefix("module."): value for name, value in content.items()}
    strays = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if strays:
        raise CheckpointError(f"not a state dict: {listing(strays)} not a tensor")
    return StateDict(tensors, is_mapped)


def load_safetensors(path: Path) -> tuple[Any, bool]:
    """The content of a `.safetensors` file, and that it is mapped."""
    try:
        return load_file(path), True
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file: {error}") from error


def load_torch(path: Path) -> tuple[Any, bool]:
    """The content of a file that `torch.save` wrote, and whether it is mapped; nothing in it is executed."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True), True
        except RuntimeError as error:
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            if "_use_new_zipfile_serialization" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True), False
    except pickle.UnpicklingError as error:
        # What torch says beside the name is how to load such a file in spite of this.
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {named[1]} beside tensors" if named else "it is no plain state dict"
        raise CheckpointError(
            f"refused, since {what} and loading anything else could run code; save the state dict alone, "
            "best as .safetensors"
        ) from error
    except (RuntimeError, OSError) as error:
        raise CheckpointError(f"not a readable PyTorch checkpoint: {str(error).partition('. ')[0]}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError("not a PyTorch checkpoint") from error


def build_model(checkpoint: StateDict, device: torch.device, dtype: torch.dtype) -> LongCLIP:
    """A `LongCLIP` with the weights of a checkpoint.

    The network is laid out on the `meta` device and filled weight by weight: none is initialised only to be
    overwritten, and none is in memory twice for longer than its conversion takes.
    """
    with torch.device("meta"):
        model = LongCLIP(sizes_from_shapes(checkpoint.tensors))
    weights = network_layout(checkpoint.tensors)
    check_names_and_shapes(expected=dict(model.named_parameters()), found=weights)
    for name, weight in weights.items():
        module_name, _, parameter_name = name.rpartition(".")
        module = model.get_submodule(module_name)
        placed = converted(name, weight.to(device), dtype, is_linear=isinstance(module, Linear))
        setattr(module, parameter_name, nn.Parameter(placed, requires_grad=False))
        if checkpoint.is_mapped and placed is not weight:
            release_pages(weight)
    return model.to(device).eval()  # moves the constants; the weights are there


def converted(name: str, weight: Tensor, dtype: torch.dtype, *, is_linear: bool) -> Tensor:
    """A weight as the network computes with it: QuickGELU's scale multiplied in, in `dtype`, packed.

    The eight bits of bfloat16 are for linear layers alone; what is added up from block to block stays float32.
    """
    if name.endswith(SCALED_FOR_QUICK_GELU):
        weight = weight.float() * QUICK_GELU_SCALE
    weight = weight.to(torch.float32 if dtype == torch.bfloat16 and not is_linear else dtype)
    return pack_weight(weight) if is_linear and can_pack(weight) else weight


def sizes_from_shapes(tensors: Mapping[str, Tensor]) -> LongCLIPSizes:
    """The network's sizes, read from the shapes of its tensors in the original layout."""
    dimensions = {
        "visual.conv1.weight": 4,
        "visual.positional_embedding": 2,
        "visual.proj": 2,
        "token_embedding.weight": 2,
        "positional_embedding": 2,
        "positional_embedding_res": 2,
    }
    missing = [name for name, count in dimensions.items() if name not in tensors or tensors[name].dim() != count]
    if missing:
        found = f"it holds {listing(tensors)}" if tensors else "it is empty"
        raise CheckpointError(f"not a LongCLIP checkpoint: missing {listing(missing)}; {found}")
    vocab_size = tensors["token_embedding.weight"].shape[0]
    if vocab_size <= END_TOKEN:
        raise CheckpointError(f"token_embedding.weight has {vocab_size} tokens, fewer than CLIP's {END_TOKEN + 1}")
    if tensors["positional_embedding"].shape != tensors["positional_embedding_res"].shape:
        raise CheckpointError("positional_embedding and positional_embedding_res are of different shapes")
    width, _, _, patch_size = tensors["visual.conv1.weight"].shape
    context_length, text_width = tensors["positional_embedding"].shape
    patches = tensors["visual.positional_embedding"].shape[0] - 1
    for name, tower_width in (("visual.conv1.weight", width), ("positional_embedding", text_width)):
        if tower_width % HEAD_DIM:
            raise CheckpointError(
                f"{name} has {tower_width} channels, which attention heads of {HEAD_DIM} do not divide"
            )
    return LongCLIPSizes(
        embed_dim=tensors["visual.proj"].shape[1],
        image_size=patch_size * round(patches**0.5),
        patch_size=patch_size,
        vision=TowerSizes(width, count_layers(tensors, "visual.transformer.resblocks.")),
        context_length=context_length,
        vocab_size=vocab_size,
        text=TowerSizes(text_width, count_layers(tensors, "transformer.resblocks.")),
    )


def count_layers(names: Iterable[str], prefix: str) -> int:
    """How many blocks a tower has, from the numbers in its names."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    if not numbers:
        raise CheckpointError(f"not a LongCLIP checkpoint: missing {prefix}0…")
    return len(numbers)


def check_names_and_shapes(*, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises a `CheckpointError` that names what is missing, unexpected or of another shape."""
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"missing {listing(missing)}")
    if unexpected := [name for name in found if name not in expected]:
        problems.append(f"unexpected {listing(unexpected)}")
    for name in expected.keys() & found.keys():
        if expected[name].shape != found[name].shape:
            problems.append(f"{name} is {list(found[name].shape)}, not {list(expected[name].shape)}")
    if problems:
        raise CheckpointError("not a LongCLIP checkpoint: " + "; ".join(problems))


def listing(names: Iterable[str], most: int = 5) -> str:
    """The first few of some names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
