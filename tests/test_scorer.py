"""Batches, devices, and what must not change a score."""

import random

import pytest
import torch
from conftest import GOLDEN, golden_rows
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.checkpoint import load_model
from longclip_cli.errors import DeviceError, UsageError
from longclip_cli.images import load_image
from longclip_cli.loading import Pair
from longclip_cli.scorer import LongCLIPScorer, length_batches, select_device, select_dtype
from longclip_cli.tokenizer import tokenize

CPU = torch.device("cpu")
ROWS = golden_rows("expected.jsonl")


@pytest.fixture(scope="module")
def pairs():
    return [Pair(load_image(GOLDEN / "images" / row["image_path"], 112), tokenize(row["text"], 248)) for row in ROWS]


@pytest.mark.parametrize("batch_size", [1, 3, 16, None])
def test_the_batch_size_and_the_order_of_rows_change_no_score(checkpoint, pairs, batch_size):
    order = list(range(len(pairs))) * 2
    random.Random(0).shuffle(order)
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp32", batch_size)
    scores = scorer.submit([pairs[i] for i in order]).wait()
    assert scores == pytest.approx([ROWS[i]["clip_score"] for i in order], abs=1e-4)
    alone = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp32", 1).submit(pairs).wait()
    assert scores == pytest.approx([alone[i] for i in order], abs=2e-6)


@pytest.mark.parametrize(("precision", "error"), [("fp16", 2e-3), ("bf16", 5e-3)])
def test_half_precision_scores_nearly_alike(checkpoint, pairs, precision, error):
    scores = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", precision).submit(pairs).wait()
    assert scores == pytest.approx([row["clip_score"] for row in ROWS], abs=error)


def test_no_pairs_have_no_scores(checkpoint):
    assert LongCLIPScorer.from_pretrained(str(checkpoint), "cpu").submit([]).wait() == []


def test_a_score_is_never_outside_zero_and_one(checkpoint, pairs, monkeypatch):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    monkeypatch.setattr(torch.nn.functional, "cosine_similarity", lambda *_: torch.tensor([1.0000002, -1.0000002]))
    assert scorer.submit(pairs[:2]).wait() == [1.0, 0.0]


@given(st.lists(st.integers(2, 248), min_size=1, max_size=60), st.integers(248, 2000))
def test_text_batches_hold_every_text_in_order_and_few_positions(lengths, positions):
    texts = [[length] * length for length in sorted(lengths)]
    batches = list(length_batches(texts, positions))
    assert [ids for batch in batches for ids in batch] == texts
    assert all(len(batch) * len(batch[-1]) <= positions for batch in batches)


def test_small_networks_get_larger_batches(checkpoint):
    model = load_model(str(checkpoint), CPU, torch.float32)
    assert LongCLIPScorer(model, CPU).batch_size == 512 // model.sizes.image_positions
    assert LongCLIPScorer(model, CPU, batch_size=5).batch_size == 5


def test_auto_is_the_cpu_in_single_precision_where_there_is_no_gpu(monkeypatch):
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
def test_a_device_that_is_not_there_is_named(monkeypatch, name, count, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(DeviceError, match=message):
        select_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "xpu", "cpu:7"])
def test_a_name_that_is_no_device_is_wrong_usage(name):
    with pytest.raises(UsageError, match="no such device"):
        select_device(name)


def test_out_of_memory_halves_the_batch_once_for_the_rest_of_the_run(checkpoint, pairs, monkeypatch, caplog):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp32", batch_size=16)
    expected = scorer.submit(pairs).wait()
    encode_image = scorer.model.encode_image

    def encode_few(pixel_values):
        if len(pixel_values) > 5:
            raise torch.OutOfMemoryError("tried to allocate more than there is")
        return encode_image(pixel_values)

    monkeypatch.setattr(scorer.model, "encode_image", encode_few)
    assert scorer.submit(pairs).wait() == pytest.approx(expected, abs=2e-6)
    assert scorer.submit(pairs).wait() == pytest.approx(expected, abs=2e-6)
    assert [record.message for record in caplog.records] == [
        f"out of memory on cpu: going on with --batch-size {size}" for size in (8, 4)
    ]


def test_out_of_memory_with_a_single_image_ends_the_run(checkpoint, pairs, monkeypatch):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp32", batch_size=2)

    def fail(_):
        raise torch.OutOfMemoryError("tried to allocate more than there is")

    monkeypatch.setattr(scorer.model, "encode_image", fail)
    with pytest.raises(DeviceError, match="out of memory on cpu with a single image"):
        scorer.submit(pairs)
