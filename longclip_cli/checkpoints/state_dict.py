"""Checkpoint files to tensors by name.

Checkpoints are data. A `.pt` file is read with `weights_only=True`, which rejects all pickled calls.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from longclip_cli.checkpoints.bounded import check_header, check_regular, read_json
from longclip_cli.checkpoints.messages import listing, shown
from longclip_cli.checkpoints.names import INDEX_SUFFIX
from longclip_cli.checkpoints.pickles import PickleFile, check_archive, is_archive
from longclip_cli.errors import CheckpointError, LongCLIPError

NESTED_UNDER = ("state_dict", "model")


@dataclass(frozen=True)
class StateDict:
    """The tensors of a checkpoint by name. `is_mapped`: their memory is mapped from the file."""

    tensors: dict[str, Tensor]
    is_mapped: bool


def read_state_dict(path: Path) -> StateDict:
    """Return the tensors of a checkpoint, mapped into memory if the format allows it.

    `path` is a single file, or the index of several. Wrappers that training code leaves around the weights are removed:
    a dict that holds them under `state_dict` or `model`, and `module.` before each name. Raises `CheckpointError`.
    """
    files = weight_files(path)
    parts = [unwrapped(*load(file)) for file in files]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    check_claims(tensors.values(), file_bytes=sum(file.stat().st_size for file in files))
    return StateDict(tensors, is_mapped=all(part.is_mapped for part in parts))


def weight_files(path: Path) -> list[Path]:
    """Return the files that hold a checkpoint's tensors: those in its index, or the checkpoint itself.

    Raises `CheckpointError` unless all of them are regular files.
    """
    files = [path]
    if path.name.endswith(INDEX_SUFFIX):
        index = read_json(path, "the index")
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        names = set(weight_map.values()) if is_text_to_text(weight_map) else set()
        if not names:
            raise CheckpointError("not the index of a checkpoint in several files: no file names in its weight_map")
        files = [path.parent / Path(name).name for name in sorted(names)]  # never outside the folder
        if missing := [file.name for file in files if not os.path.lexists(file)]:
            raise CheckpointError(f"parts of the checkpoint are missing: {listing(map(shown, missing))}")
    for file in files:
        check_regular(file, "it" if file == path else f"its part {shown(file.name)}")
    return files


def is_text_to_text(value: Any) -> TypeGuard[dict[str, str]]:
    """Return whether a value from JSON is an object with only strings as values."""
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def load(path: Path) -> tuple[Any, bool]:
    """Return the content of a checkpoint file, and whether it is mapped."""
    return load_safetensors(path) if path.suffix == ".safetensors" else load_torch(path)


def unwrapped(content: Any, is_mapped: bool) -> StateDict:
    """Return the state dict in the content of a file. Raise `CheckpointError`."""
    for key in NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"not a state dict (tensors by name) but a {type(content).__name__}")
    if not all(isinstance(name, str) for name in content):
        raise CheckpointError("not a state dict: not all keys are names")
    tensors = {name.removeprefix("module."): value for name, value in content.items()}
    if strays := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"not a state dict: no tensor under {listing(map(shown, strays))}")
    if unusual := [f"{shown(name)} is {kind}" for name, value in tensors.items() if (kind := unusual_kind(value))]:
        raise CheckpointError(f"not a state dict of plain tensors: {listing(unusual)}")
    return StateDict(tensors, is_mapped)


def unusual_kind(tensor: Tensor) -> str:
    """Return how a tensor stores its numbers if not as a plain array, else an empty string."""
    if tensor.is_meta:
        return "without data (meta)"
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantized"
    return "" if tensor.layout == torch.strided else "sparse"


def check_claims(tensors: Iterable[Tensor], *, file_bytes: int) -> None:
    """Raise `CheckpointError` if the tensors are more than twice as large as the file.

    Tensors can repeat numbers of the file to any size. Twice is accepted, since two names for one tensor are common.
    """
    claimed = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
    if claimed > 2 * file_bytes:
        raise CheckpointError(f"its tensors claim {claimed:,} bytes, but the file has {file_bytes:,}")


def load_safetensors(path: Path) -> tuple[Any, bool]:
    """Return the content of a `.safetensors` file, and that it is mapped."""
    try:
        check_header(path)
        return load_file(path), True
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file: {error}") from error


def load_torch(path: Path) -> tuple[Any, bool]:
    """Return the content of a file from `torch.save`, and whether it is mapped. Nothing in it is executed."""
    try:
        if is_archive(path):
            check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True), True
        with PickleFile.checked(path) as file:  # older than torch 1.6, cannot be mapped
            return torch.load(file, map_location="cpu", weights_only=True), False
    except pickle.UnpicklingError as error:
        # The rest of torch's message says how to load such a file regardless.
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it contains {shown(named[1])}" if named else "it is not a plain state dict"
        raise CheckpointError(
            f"refused: {what}, and loading anything but tensors could run code; save only the state dict, "
            "preferably as .safetensors"
        ) from error
    except (RuntimeError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"not a readable PyTorch checkpoint: {str(error).partition('. ')[0]}") from error
    except LongCLIPError:
        raise
    except Exception as error:  # a damaged archive or pickle can raise anything
        raise CheckpointError("not a PyTorch checkpoint") from error
