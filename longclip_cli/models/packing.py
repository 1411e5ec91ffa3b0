"""Weights in the order in which the CPU's matrix products read them.

oneDNN, which comes with PyTorch, multiplies by a packed weight a tenth to a third faster than by a plain one, most of
all where there are few rows (see docs/performance.md). It is what `torch.compile` does when it freezes a network,
here without a compiler.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys

import torch
from torch import Tensor

MADV_DONTNEED = 4


def can_pack(weight: Tensor) -> bool:
    """Whether this weight can be packed, and would gain by it: on x86, in single precision or bfloat16."""
    if weight.dim() != 2 or weight.device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def pack_weight(weight: Tensor) -> Tensor:
    """A weight, `[out_features, in_features]`, in oneDNN's order: the same shape, opaque to all but `packed_linear`."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


def packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` with a packed weight."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def release_pages(tensor: Tensor) -> None:
    """Lets go of the memory pages of a tensor that is mapped from a file and has been read for the last time soon.

    They would be read again if they were needed. Without this the process is twice as large as its weights until the
    kernel needs the memory for something else.
    """
    if sys.platform != "linux" or not tensor.is_contiguous():
        return
    page = mmap.PAGESIZE
    begin = -(-tensor.data_ptr() // page) * page
    end = (tensor.data_ptr() + tensor.nbytes) // page * page
    if begin < end:
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)
