"""Checkpoint files to tensors by name.

Checkpoints are data. A `.pt` file is read with `weights_only=True`, which refuses any pickled call.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from longclip_cli.errors import CheckpointError, LongCLIPError
from longclip_cli.hub import INDEX_SUFFIX

NESTED_UNDER = ("state_dict", "model")


@dataclass(frozen=True)
class StateDict:
    """The tensors of a checkpoint by name; `is_mapped` tells that their memory is that of the file."""

    tensors: dict[str, Tensor]
    is_mapped: bool


def read_state_dict(path: Path) -> StateDict:
    """The tensors of a checkpoint, mapped into memory where the format allows it; raises `CheckpointError`.

    `path` is one file, or the index of one that lies in several. Wrappers that training code leaves around the weights
    are taken off: a dict that holds them under `state_dict` or `model`, and a `module.` before every name.
    """
    parts = [unwrapped(*load(file)) for file in weight_files(path)]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    return StateDict(tensors, is_mapped=all(part.is_mapped for part in parts))


def weight_files(path: Path) -> list[Path]:
    """The files that a checkpoint's tensors lie in: those that its index names, or the checkpoint itself."""
    if not path.name.endswith(INDEX_SUFFIX):
        return [path]
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        files = [path.parent / Path(name).name for name in names]  # whatever it says, not outside the folder
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError("not the index of a checkpoint in several files") from error
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"parts of the checkpoint are missing: {listing(missing)}")
    return files


def load(path: Path) -> tuple[Any, bool]:
    """The content of a checkpoint file, and whether it is mapped."""
    return load_safetensors(path) if path.suffix == ".safetensors" else load_torch(path)


def unwrapped(content: Any, is_mapped: bool) -> StateDict:
    """The state dict in what a file holds."""
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
    if is_torchscript(path):
        raise CheckpointError(
            "refused, since it is a TorchScript program, as OpenAI publishes CLIP, and loading it would run it; take "
            "the same weights from the Hub (--model openai/clip-vit-large-patch14), or save them alone: "
            "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'weights.pt')"
        )
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
    except LongCLIPError:  # of a signal
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError("not a PyTorch checkpoint") from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive that `torch.jit.save` wrote."""
    with suppress(OSError, zipfile.BadZipFile, ValueError, NotImplementedError), zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def listing(names: Iterable[str], most: int = 5) -> str:
    """The first few of some names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
