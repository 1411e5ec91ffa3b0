"""Devices and precisions by name."""

import pytest
import torch
from helpers import CPU

from longclip_cli.errors import DeviceError, UsageError
from longclip_cli.models.device import select_device, select_dtype


def test_auto_without_a_gpu_is_the_cpu_in_single_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto") == CPU
    assert select_dtype("auto", CPU) == torch.float32
    assert select_dtype("auto", torch.device("cuda")) == torch.float16
    assert select_dtype("bf16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "no CUDA device for --device cuda"),
        ("cuda:3", 2, "no device cuda:3: there are 2"),
        ("mps", 0, "no MPS device"),
    ],
)
def test_a_missing_device_is_named(monkeypatch, name, count, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(DeviceError, match=message):
        select_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "xpu", "cpu:7"])
def test_an_unknown_device_is_wrong_usage(name):
    with pytest.raises(UsageError, match="no such device"):
        select_device(name)
