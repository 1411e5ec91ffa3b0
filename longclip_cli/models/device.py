"""Devices: which one to use, in which precision, and the errors of one whose memory is too small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longclip_cli.errors import DeviceError, UsageError, quote

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Parts of error messages that have no exception class of their own. In this order: CUDA, ROCm, XPU and MPS; cuBLAS,
# cuDNN and similar libraries; PyTorch's allocator on the CPU, on Linux and on Windows.
OUT_OF_MEMORY_SIGNS = (
    "out of memory",
    "_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
    "can't allocate memory",
    "not enough memory",
)


def select_device(name: str) -> torch.device:
    """Return the device for the value of `--device`; `auto` is CUDA if there is a CUDA device, else the CPU.

    Raises `UsageError` if the name is not that of a device, `DeviceError` if the device is missing.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise UsageError(f"no such device: {quote(name)}; use auto, cpu, cuda, cuda:N or mps")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"no CUDA device for --device {name}: PyTorch finds no NVIDIA GPU; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"no device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no MPS device: PyTorch finds no Apple GPU; use --device cpu")
    return device


def select_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in; `auto` is float16 on a GPU and float32 on the CPU. Raise `UsageError`."""
    if precision == "auto":
        precision = "fp32" if device.type == "cpu" else "fp16"
    if precision not in PRECISIONS:
        raise UsageError(f"no such precision: {quote(precision)}; use auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def dtype_name(dtype: torch.dtype) -> str:
    """Return `float16` for `torch.float16`."""
    return str(dtype).removeprefix("torch.")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device, or the host, has too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS)


def out_of_memory(device: torch.device, what: str, error: BaseException) -> DeviceError:
    """Return the error that ends the run; `what` did not fit into the memory of `device`."""
    elsewhere = "" if device.type == "cpu" else "--device cpu, "
    less = "bf16" if device.type == "cpu" else "fp16"
    cause = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return DeviceError(
        f"out of memory on {device} with {what} ({cause}); "
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
