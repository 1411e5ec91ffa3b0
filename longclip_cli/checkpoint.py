"""A model reference to a loaded `LongCLIP`: find the file, read it, translate its layout.

Checkpoints are data. A `.pt` file is read with `weights_only=True`, which refuses any pickled call.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from longclip_cli.errors import CheckpointError
from longclip_cli.hub import DEMO_MODEL, download, looks_like_hub_id, pick_checkpoint
from longclip_cli.model import HEAD_DIM, LongCLIP, LongCLIPSizes, TowerSizes
from longclip_cli.tokenizer import END_TOKEN

# LongCLIP keeps CLIP's first 20 positions as trained and stretches the rest (paper, section 3.1);
# its checkpoints hold two tables, of which each serves its own positions.
KEPT_POSITIONS = 20
QUICK_GELU_SCALE = 1.702
NESTED_UNDER = ("state_dict", "model")
UNUSED_KEYS = ("logit_scale",)  # the training temperature: scores are plain cosines


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


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name, mapped into memory where the format allows it.

    Wrappers that training code leaves around the weights are taken off: a dict that holds them
    under `state_dict` or `model`, and a `module.` before every name.
    """
    content: Any = load_safetensors(path) if path.suffix == ".safetensors" else load_torch(path)
    for key in NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__} where a state dict (names and tensors) is needed")
    tensors = {str(name).removeprefix("module."): value for name, value in content.items()}
    strays = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if strays:
        raise CheckpointError(f"not a state dict: {listing(strays)} not a tensor")
    return tensors


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The content of a `.safetensors` file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file: {error}") from error


def load_torch(path: Path) -> Any:
    """The content of a file that `torch.save` wrote; nothing in it is executed."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            if "_use_new_zipfile_serialization" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
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


def build_model(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> LongCLIP:
    """A `LongCLIP` that takes over the tensors of an original-layout state dict.

    The network is laid out on the `meta` device and filled by assignment, so no weight is
    initialised only to be overwritten.
    """
    with torch.device("meta"):
        model = LongCLIP(sizes_from_shapes(tensors))
    weights = translate(tensors, device, dtype)
    check_names_and_shapes(expected=model.state_dict(), found=weights)
    model.load_state_dict(weights, assign=True)
    return model.to(device).eval().requires_grad_(False)  # moves the constants; the weights are there


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


def translate(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights as `LongCLIP` takes them: one positional table, QuickGELU folded, in `dtype` on `device`.

    QuickGELU is `x * sigmoid(1.702 x) = silu(1.702 x) / 1.702`: the factor goes into the layer before
    it, its inverse into the layer behind. The arithmetic is done in float32.
    """
    weights = {}
    for name, tensor in tensors.items():
        if name in UNUSED_KEYS or name == "positional_embedding_res":
            continue
        tensor = tensor.to(device)
        if name == "positional_embedding":
            stretched = tensors["positional_embedding_res"].to(device)
            tensor = torch.cat([tensor[:KEPT_POSITIONS], stretched[KEPT_POSITIONS:]])
        elif ".mlp.c_fc." in name:
            tensor = tensor.float() * QUICK_GELU_SCALE
        elif name.endswith(".mlp.c_proj.weight"):
            tensor = tensor.float() / QUICK_GELU_SCALE
        weights[name] = tensor.to(dtype)
    return weights


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
