"""Scores, devices, and what must not change a score."""

import random

import pytest
import torch
from conftest import GOLDEN, LOSSY, golden_rows
from PIL import Image

from longclip_cli.encoding import chunks
from longclip_cli.errors import DeviceError, RowError, UsageError
from longclip_cli.images import load_image
from longclip_cli.loading import Pair, load_text
from longclip_cli.remembering import ImageInput
from longclip_cli.scorer import LongCLIPScorer, scores_of, select_device, select_dtype

CPU = torch.device("cpu")
ROWS = golden_rows("expected.jsonl")


@pytest.fixture
def pairs():
    """The golden rows, nothing encoded."""
    images = [ImageInput(load_image(GOLDEN / "images" / row["image_path"], 112)) for row in ROWS]
    return [Pair(image, load_text(row["text"], 248)) for image, row in zip(images, ROWS, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 3, 16, None])
def test_the_batch_size_and_the_order_of_rows_change_no_score(checkpoint, pairs, batch_size):
    order = list(range(len(pairs))) * 2
    random.Random(0).shuffle(order)
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp32", batch_size=batch_size)
    scores = [score for chunk in chunks(order, 20) for score in scorer.submit([pairs[i] for i in chunk]).wait()]
    assert scores == pytest.approx([ROWS[i]["clip_score"] for i in order], abs=1e-4)
    exact = [(score, ROWS[i]) for i, score in zip(order, scores, strict=True) if ROWS[i]["image_path"] not in LOSSY]
    assert [score for score, _ in exact] == pytest.approx([row["clip_score"] for _, row in exact], abs=2e-6)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_scores_nearly_alike(checkpoint, pairs, precision):
    scores = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", precision).submit(pairs).wait()
    assert scores == pytest.approx([row["clip_score"] for row in ROWS], abs=2e-3)


def test_no_pairs_have_no_scores(checkpoint):
    assert LongCLIPScorer.from_pretrained(str(checkpoint), "cpu").submit([]).wait() == []


def test_a_score_is_never_outside_zero_and_one():
    assert scores_of(torch.tensor([1.0000002, -1.0000002, 0.0])) == [1.0, 0.0, 0.5]


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


def test_paths_and_pil_images_score_alike_and_as_the_command_scores_them(checkpoint):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    paths = [GOLDEN / "images" / row["image_path"] for row in ROWS]
    texts = [row["text"] for row in ROWS]
    scores = scorer.score(paths, texts)
    assert scores == pytest.approx([row["clip_score"] for row in ROWS], abs=1e-4)
    assert scorer.score([Image.open(path) for path in paths], texts) == pytest.approx(scores, abs=2e-6)
    assert scorer.score([str(path) for path in paths[:3]], texts[:3]) == pytest.approx(scores[:3], abs=2e-6)


def test_features_are_of_length_one_and_none_has_a_shape(checkpoint):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    texts = scorer.encode_texts(["a red circle", "a blue square " * 100])
    assert texts.shape == (2, 64)
    assert texts.dtype == torch.float32
    assert texts.norm(dim=-1).tolist() == pytest.approx([1, 1])
    assert scorer.encode_texts([]).shape == scorer.encode_images([]).shape == (0, 64)


def test_an_image_without_a_text_is_refused(checkpoint):
    with pytest.raises(ValueError, match="1 images and 2 texts"):
        LongCLIPScorer.from_pretrained(str(checkpoint), "cpu").score(["a.png"], ["one", "two"])


def test_one_string_is_not_taken_for_several(checkpoint):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    for call in (
        lambda: scorer.score(["a.png"], "a cat"),
        lambda: scorer.encode_texts("a cat"),
        lambda: scorer.encode_images(GOLDEN / "images" / "photo.jpg"),
    ):
        with pytest.raises(TypeError, match="where a list belongs"):
            call()


def test_an_image_and_a_text_given_several_times_are_read_and_encoded_once(checkpoint, monkeypatch):
    scorer = LongCLIPScorer.from_pretrained(checkpoint, torch.device("cpu"))
    path = GOLDEN / "images" / "photo.jpg"
    sizes = []
    encode = scorer.model.encode_image
    monkeypatch.setattr(scorer.model, "encode_image", lambda pixels: sizes.append(len(pixels)) or encode(pixels))
    with Image.open(path) as image:  # not loaded yet, which threads must not do at the same time
        images = scorer.encode_images([image, path, image, str(path), image])
    assert sizes == [2]
    assert torch.equal(images[0], images[2])
    assert torch.allclose(images, images[0].expand(5, -1), atol=1e-6)


def test_a_broken_pil_image_is_a_row_error_that_names_its_file(checkpoint, tmp_path):
    whole = (GOLDEN / "images" / "photo.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    with Image.open(tmp_path / "cut.jpg") as image, pytest.raises(RowError, match=r"cut\.jpg .*truncated"):
        scorer.encode_images([image])
    with pytest.raises(RowError, match="too many pixels: a PIL image has 12544000 pixels once resized"):
        limit_and_encode(scorer)


def limit_and_encode(scorer):
    """Encodes an image of 1,000 pixels that would be resized to 12 million."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = 10_000_000
    try:
        scorer.encode_images([Image.new("RGB", (1000, 1))])
    finally:
        Image.MAX_IMAGE_PIXELS = before


def test_a_precision_that_does_not_exist_is_wrong_usage(checkpoint):
    with pytest.raises(UsageError, match="no such precision: fp8"):
        LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp8")
