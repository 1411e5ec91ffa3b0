"""A model reference to a loaded `LongCLIP`: find the file, read it, check it, fill the network."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from longclip_cli.checkpoints.find import find_checkpoint
from longclip_cli.checkpoints.layouts import network_layout, original_names
from longclip_cli.checkpoints.messages import errors_naming, listing, shown
from longclip_cli.checkpoints.sizes import read_config, sizes_from_shapes
from longclip_cli.checkpoints.state_dict import StateDict, read_state_dict
from longclip_cli.errors import CheckpointError
from longclip_cli.models.clip import LongCLIP
from longclip_cli.models.device import dtype_name, enough_memory_for
from longclip_cli.models.packing import can_pack, pack_weight
from longclip_cli.models.transformer import QUICK_GELU_SCALE, SCALED_FOR_QUICK_GELU, Linear

MADV_DONTNEED = 4  # of Linux's madvise: drop the pages
# The types of one byte are plain numbers here, without the scales of quantized checkpoints.
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def load_model(model: str, device: torch.device, dtype: torch.dtype, revision: str | None = None) -> LongCLIP:
    """Return the network of a model reference (see `find_checkpoint`), ready on `device` in `dtype`.

    Raises `CheckpointError`, or `DeviceError` if the memory of the device is too small.
    """
    path = find_checkpoint(model, revision)
    network, weights = lay_out(path)
    with errors_naming(path), enough_memory_for("the model", device):
        return filled(network, weights, device, dtype)


def lay_out(path: Path) -> tuple[LongCLIP, StateDict]:
    """Return a checkpoint's network on the `meta` device, and its weights under the network's names, not converted.

    Raises a `CheckpointError` that names the file.
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


def filled(network: LongCLIP, weights: StateDict, device: torch.device, dtype: torch.dtype) -> LongCLIP:
    """Return a network from the `meta` device with its weights filled in.

    One weight after another: none is initialised first, and at most one is in memory twice.
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
    return network.to(device).eval()  # moves the constants; the weights are already there


def converted(weight: Tensor, dtype: torch.dtype, *, is_linear: bool) -> Tensor:
    """Return a weight in the type to compute in, packed if that is faster.

    bfloat16, with its eight significant bits, is for linear layers only. What is summed from block to block stays
    float32.
    """
    weight = weight.to(torch.float32 if dtype == torch.bfloat16 and not is_linear else dtype)
    return pack_weight(weight) if is_linear and can_pack(weight) else weight


def release_pages(tensor: Tensor) -> None:
    """Release the memory pages of a tensor that is mapped from a file. If it is read again, they are loaded again.

    Otherwise the process would be twice as large as its weights until the kernel runs short of memory.
    """
    if sys.platform != "linux" or not tensor.is_contiguous():
        return
    page = mmap.PAGESIZE
    begin = -(-tensor.data_ptr() // page) * page
    end = (tensor.data_ptr() + tensor.nbytes) // page * page
    if begin < end:
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)


def check_types(tensors: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` if weights are not floating-point numbers but, for example, quantized ones."""
    if others := [f"{shown(name)} ({dtype_name(t.dtype)})" for name, t in tensors.items() if t.dtype not in FLOATS]:
        raise CheckpointError(f"weights are not floating-point numbers: {listing(others)}")


def check_values(name: str, weight: Tensor) -> None:
    """Raise `CheckpointError` for a weight that no training produces and that makes all scores equal or NaN.

    That is a weight with NaN or infinity, a matrix that repeats one number, or all zeros in anything but a bias.
    """
    low, high = (bound.item() for bound in (weight if weight.itemsize > 1 else weight.float()).aminmax())
    if not (isfinite(low) and isfinite(high)):
        raise CheckpointError(f"{name} holds NaN or infinity: the file is damaged, or its training failed")
    is_one_number = low == high and weight.numel() > 1
    if is_one_number and (weight.dim() > 1 or (low == 0 and not name.endswith("bias"))):
        raise CheckpointError(f"all values of {name} are {low:g}: the file is damaged, or was never trained")


def check_names_and_shapes(*, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise a `CheckpointError` that lists missing and unexpected tensors, and those of another shape."""
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
