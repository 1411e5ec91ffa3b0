"""Out of memory, under the many names that devices and their libraries have for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longclip_cli.errors import DeviceError

# What errors say that have no class of their own. In this order: CUDA, ROCm, XPU and MPS; cuBLAS, cuDNN and their like;
# PyTorch's allocator on the CPU, on Linux and on Windows.
SIGNS = ("out of memory", "_ALLOC_FAILED", "_ALLOCATION_FAILED", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device, or the host, has too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def out_of_memory(device: torch.device, what: str, error: BaseException) -> DeviceError:
    """Return the error that ends the run; `what` did not fit into the memory of `device`."""
    elsewhere = "" if device.type == "cpu" else "--device cpu, "
    less = "bf16" if device.type == "cpu" else "fp16"
    said = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return DeviceError(
        f"out of memory on {device} with {what} ({said}); "
        f"use --precision {less}, {elsewhere}or a smaller model such as --model longclip-b"
    )


@contextmanager
def enough_memory_for(what: str, device: torch.device) -> Iterator[None]:
    """Raise `DeviceError` if the memory of `device` is too small for `what`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(device, what, error) from error
