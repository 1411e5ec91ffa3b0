"""Packed weights."""

import pytest
import torch
from torch.nn import functional as F

from longclip_cli.models.packing import can_pack, pack_weight, packed_linear


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("rows", [1, 7, 200])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_packed_weight_multiplies_as_the_plain_one(dtype, tolerance, rows, has_bias):
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(96, 64, generator=generator) / 8).to(dtype)
    if not can_pack(weight):
        pytest.skip("no packing on this processor")
    bias = torch.randn(96, generator=generator).to(dtype) if has_bias else None
    x = torch.randn(2, rows, 64, generator=generator).to(dtype)
    packed = packed_linear(x, pack_weight(weight), bias)
    torch.testing.assert_close(packed, F.linear(x, weight, bias), rtol=tolerance, atol=tolerance)


def test_a_part_of_a_larger_matrix_can_be_packed():
    whole = torch.randn(96, 32)
    if not can_pack(whole):
        pytest.skip("no packing on this processor")
    x = torch.randn(5, 32)
    packed = packed_linear(x, pack_weight(whole[32:64]), None)
    torch.testing.assert_close(packed, x @ whole[32:64].T, rtol=1e-5, atol=1e-5)


def test_half_precision_and_vectors_stay_as_they_are():
    assert not can_pack(torch.ones(4, 4, dtype=torch.float16))
    assert not can_pack(torch.ones(4))
    assert not can_pack(torch.ones(4, 4, device="meta"))
