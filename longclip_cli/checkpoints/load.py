"""A model reference to a loaded `LongCLIP`: find its file, read it, put the weights in as the network wants them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from longclip_cli.checkpoints.bounded import shown
from longclip_cli.checkpoints.hub import DEMO_MODEL, SHORT_NAMES, download, looks_like_hub_id, pick_checkpoint
from longclip_cli.checkpoints.layouts import network_layout, original_names
from longclip_cli.checkpoints.sizes import CONFIG_FILE, read_config, sizes_from_shapes
from longclip_cli.checkpoints.state_dict import StateDict, listing, read_state_dict, weight_files
from longclip_cli.errors import CheckpointError
from longclip_cli.jobs.run_record import file_fingerprint
from longclip_cli.models.clip import LongCLIP
from longclip_cli.models.device import enough_memory_for
from longclip_cli.models.packing import can_pack, pack_weight, release_pages
from longclip_cli.models.transformer import QUICK_GELU_SCALE, SCALED_FOR_QUICK_GELU, Linear

# Those of one byte are without the scales that quantized checkpoints add: what people save CLIP in to save space.
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def load_model(model: str, device: torch.device, dtype: torch.dtype, revision: str | None = None) -> LongCLIP:
    """The network that `model` names, ready on `device` in `dtype`.

    `model` is a file, a folder, a Hub id, a short name for one, or `demo`; `revision` is a Hub repository's branch,
    tag or commit. Raises `CheckpointError`, and `DeviceError` where the memory of the device is too small.
    """
    path = find_checkpoint(model, revision)
    network, weights = lay_out(path)
    with errors_naming(path), enough_memory_for("the model", device):
        return filled(network, weights, device, dtype)


def lay_out(path: Path) -> tuple[LongCLIP, StateDict]:
    """A checkpoint's network, on the `meta` device, and the weights for it under its own names; nothing is converted.

    Raises `CheckpointError`, which names the file.
    """
    with errors_naming(path):
        checkpoint = read_state_dict(path)
        tensors = original_names(checkpoint.tensors)
        with torch.device("meta"):
            network = LongCLIP(sizes_from_shapes(tensors, read_config(path, checkpoint.tensors)))
        check_types(tensors)
        weights = network_layout(tensors)
        check_names_and_shapes(expected=dict(network.named_parameters()), found=weights)
        return network, StateDict(weights, checkpoint.is_mapped)


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Add the path of the checkpoint to a `CheckpointError`."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def find_checkpoint(model: str, revision: str | None = None) -> Path:
    """The checkpoint file for a model reference: built in for `demo`, downloaded when it is a Hub id.

    Where a checkpoint lies in several files it is their index.
    """
    path = Path(os.path.expanduser(model))  # noqa: PTH111  (Path's own raises for an unknown user)
    is_local = model == DEMO_MODEL or os.path.lexists(path)
    if revision and is_local:
        raise CheckpointError(f"--revision {revision} is for models on the Hub, and {model} is not one")
    if model == DEMO_MODEL:
        return Path(str(files("longclip_cli") / "data" / "demo.safetensors"))
    if is_local and path.is_dir():
        try:
            return path / pick_checkpoint((entry.name for entry in path.iterdir()), where=model)
        except OSError as error:
            raise CheckpointError(f"{model}: the folder cannot be read ({error.strerror})") from error
    if is_local:
        return path
    if model in SHORT_NAMES or looks_like_hub_id(model):
        return download(SHORT_NAMES.get(model, model), revision)
    raise CheckpointError(
        f"no such checkpoint: {shown(model)} (give a file, a folder, a Hub id such as owner/name, "
        f"{', '.join(SHORT_NAMES)}, or {DEMO_MODEL})"
    )


def checkpoint_fingerprint(path: Path) -> str:
    """Return the fingerprints of all files that decide what a checkpoint's network is; raise `CheckpointError`."""
    config = path.parent / CONFIG_FILE
    with errors_naming(path):
        files = [*weight_files(path), *([config] if config.is_file() else [])]
        try:
            return " ".join(map(file_fingerprint, files))
        except OSError as error:
            raise CheckpointError(f"it cannot be read: {error.strerror}") from error


def filled(network: LongCLIP, weights: StateDict, device: torch.device, dtype: torch.dtype) -> LongCLIP:
    """The network from the `meta` device with its weights, weight by weight.

    None is initialised only to be overwritten, and none is in memory twice for longer than its conversion takes.
    """
    for name, weight in weights.tensors.items():
        module_name, _, parameter_name = name.rpartition(".")
        module = network.get_submodule(module_name)
        tower = network.sizes.vision if name.startswith("visual.") else network.sizes.text
        placed = weight.to(device)
        check_values(name, placed)
        if tower.activation == "quick_gelu" and name.endswith(SCALED_FOR_QUICK_GELU):
            placed = placed.float() * QUICK_GELU_SCALE
        placed = converted(placed, dtype, is_linear=isinstance(module, Linear))
        setattr(module, parameter_name, nn.Parameter(placed, requires_grad=False))
        if weights.is_mapped and placed is not weight:
            release_pages(weight)
    return network.to(device).eval()  # moves the constants; the weights are there


def converted(weight: Tensor, dtype: torch.dtype, *, is_linear: bool) -> Tensor:
    """A weight in the type it is computed with, and packed if that is of use.

    The eight bits of bfloat16 are for linear layers alone; what is added up from block to block stays float32.
    """
    weight = weight.to(torch.float32 if dtype == torch.bfloat16 and not is_linear else dtype)
    return pack_weight(weight) if is_linear and can_pack(weight) else weight


def check_types(tensors: Mapping[str, Tensor]) -> None:
    """Raises `CheckpointError` for weights that are not floating-point numbers, which are cut or quantized ones."""
    if others := [f"{shown(name)} ({dtype_name(t.dtype)})" for name, t in tensors.items() if t.dtype not in FLOATS]:
        raise CheckpointError(f"its weights are not floating-point numbers: {listing(others)}")


def check_values(name: str, weight: Tensor) -> None:
    """Raises `CheckpointError` for a weight that no training leaves, with which all scores would be alike or NaN.

    That is one with NaN or infinity in it, a matrix of one number only, or anything but a bias that is all zero.
    """
    low, high = (bound.item() for bound in (weight if weight.itemsize > 1 else weight.float()).aminmax())
    if not (isfinite(low) and isfinite(high)):
        raise CheckpointError(f"{name} holds NaN or infinity: the file is damaged, or its training failed")
    is_one_number = low == high and weight.numel() > 1
    if is_one_number and (weight.dim() > 1 or (low == 0 and not name.endswith("bias"))):
        raise CheckpointError(f"{name} is {low:g} throughout: the file is damaged, or was never trained")


def check_names_and_shapes(*, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises a `CheckpointError` that names what is missing, unexpected or of another shape."""
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"missing {listing(missing)}")
    if unexpected := [name for name in found if name not in expected]:
        problems.append(f"unexpected {listing(map(shown, unexpected))}")
    shapes = [
        f"{name} is {list(found[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if name in found and expected[name].shape != found[name].shape
    ]
    if shapes:
        problems.append(listing(shapes))
    if problems:
        raise CheckpointError("not a LongCLIP or CLIP checkpoint: " + "; ".join(problems))


def dtype_name(dtype: torch.dtype) -> str:
    """`float16` for `torch.float16`."""
    return str(dtype).removeprefix("torch.")
