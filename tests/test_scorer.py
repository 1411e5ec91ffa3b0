"""The public API: scores, and what does not change a score."""

import math
import random
import re

import numpy
import pytest
import torch
from helpers import IMAGES, ROOT, golden_rows, golden_score, run_python
from PIL import Image, ImageOps

from longclip_cli.errors import RowError, UsageError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.cache import ImageInput
from longclip_cli.pipeline.encode import chunks
from longclip_cli.pipeline.images import load_image
from longclip_cli.pipeline.load import Pair, load_text
from longclip_cli.scorer import LongCLIPScorer

ROWS = golden_rows("expected.jsonl")


@pytest.fixture
def pairs():
    """Return the golden rows, not encoded yet."""
    images = [ImageInput(load_image(IMAGES / row["image_path"], 112, ScoringOptions()).pixel_values) for row in ROWS]
    return [Pair(image, load_text(row["text"], 248)) for image, row in zip(images, ROWS, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 3, 16, None])
def test_the_batch_size_and_the_order_of_rows_change_no_score(checkpoint, pairs, batch_size):
    order = list(range(len(pairs))) * 2
    random.Random(0).shuffle(order)
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp32", batch_size=batch_size)
    scores = [score for chunk in chunks(order, 20) for score in scorer.encoder.submit([pairs[i] for i in chunk]).wait()]
    assert scores == [golden_score(ROWS[i]) for i in order]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_scores_are_close(checkpoint, pairs, precision):
    scores = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", precision).encoder.submit(pairs).wait()
    assert scores == pytest.approx([row["clip_score"] for row in ROWS], abs=2e-3)


def test_no_pairs_give_no_scores(checkpoint):
    assert LongCLIPScorer.from_pretrained(str(checkpoint), "cpu").encoder.submit([]).wait() == []


def test_paths_and_pil_images_get_the_golden_scores(checkpoint):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    paths = [IMAGES / row["image_path"] for row in ROWS]
    texts = [row["text"] for row in ROWS]
    scores = scorer.score(paths, texts)
    assert scores == [golden_score(row) for row in ROWS]
    assert scorer.score([Image.open(path) for path in paths], texts) == pytest.approx(scores, abs=2e-6)
    assert scorer.score([str(path) for path in paths[:3]], texts[:3]) == pytest.approx(scores[:3], abs=2e-6)


def test_features_have_length_one_and_may_be_empty(checkpoint):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    texts = scorer.encode_texts(["a red circle", "a blue square " * 100])
    assert texts.shape == (2, 64)
    assert texts.dtype == torch.float32
    assert texts.norm(dim=-1).tolist() == pytest.approx([1, 1])
    assert scorer.encode_texts([]).shape == scorer.encode_images([]).shape == (0, 64)


def test_an_image_without_a_text_is_refused(checkpoint):
    with pytest.raises(ValueError, match="1 images and 2 texts"):
        LongCLIPScorer.from_pretrained(str(checkpoint), "cpu").score(["a.png"], ["one", "two"])


def test_a_string_in_place_of_a_list_is_an_error(checkpoint):
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    for call in (
        lambda: scorer.score(["a.png"], "a cat"),
        lambda: scorer.encode_texts("a cat"),
        lambda: scorer.encode_images(IMAGES / "photo.jpg"),
    ):
        with pytest.raises(TypeError, match="expected a list, got "):
            call()


def test_a_repeated_image_is_read_and_encoded_once(checkpoint, monkeypatch):
    scorer = LongCLIPScorer.from_pretrained(checkpoint, torch.device("cpu"))
    path = IMAGES / "photo.jpg"
    sizes = []
    encode = scorer.model.encode_image
    monkeypatch.setattr(scorer.model, "encode_image", lambda pixels: sizes.append(len(pixels)) or encode(pixels))
    with Image.open(path) as image:  # not loaded yet: threads must not load it at the same time
        images = scorer.encode_images([image, path, image, str(path), image])
    assert sizes == [2]
    assert torch.equal(images[0], images[2])
    assert torch.allclose(images, images[0].expand(5, -1), atol=1e-6)


def test_a_broken_pil_image_is_a_row_error_that_names_its_file(checkpoint, tmp_path):
    whole = (IMAGES / "photo.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    scorer = LongCLIPScorer.from_pretrained(str(checkpoint), "cpu")
    with Image.open(tmp_path / "cut.jpg") as image, pytest.raises(RowError, match=r"cut\.jpg .*truncated"):
        scorer.encode_images([image])


PICTURE = Image.effect_noise((40, 30), 100).convert("RGB")


@pytest.fixture(scope="module")
def scorer():
    return LongCLIPScorer.from_pretrained("demo", "cpu", max_pixels=10_000)


@pytest.mark.parametrize("image", [PICTURE, PICTURE.convert("L"), PICTURE.rotate(90, expand=True)])
def test_arrays_score_like_the_images_they_hold(scorer, image):
    array = numpy.asarray(image)
    assert scorer.score([array, array[::1, ::-1]], ["noise"] * 2) == pytest.approx(
        scorer.score([image, ImageOps.mirror(image)], ["noise"] * 2), abs=1e-6
    )


@pytest.mark.parametrize(
    ("array", "given"),
    [
        (numpy.zeros((40, 30, 3)), "float64 of shape (40, 30, 3)"),
        (numpy.zeros((40, 30), bool), "bool of shape (40, 30)"),
        (numpy.zeros((3, 40, 30), numpy.uint8), "uint8 of shape (3, 40, 30)"),
        (numpy.zeros((40, 30, 4), numpy.uint8), "uint8 of shape (40, 30, 4)"),
        (numpy.zeros(30, numpy.uint8), "uint8 of shape (30,)"),
        (numpy.zeros((0, 30, 3), numpy.uint8), "uint8 of shape (0, 30, 3)"),
    ],
)
def test_an_array_that_is_not_an_image_is_refused(scorer, array, given):
    with pytest.raises(RowError) as failure:
        scorer.encode_images([array])
    assert str(failure.value) == (
        f"image: not an array of pixels: 'images[0]' is {given}; give uint8, [H, W, 3] or [H, W]"
    )


@pytest.mark.parametrize(
    ("image", "text", "error"),
    [
        (PICTURE, None, "text: not a string: 'texts[1]' is null"),
        (PICTURE, "", "text: blank: 'texts[1]'"),
        (PICTURE, " \n", "text: blank: 'texts[1]'"),
        (PICTURE, ("a", "b"), "text: not a string: 'texts[1]' is of type tuple"),
        (None, "noise", "image: not a path: 'images[1]' is null"),
        ("", "noise", "image: not a path: 'images[1]' is blank"),
        (bytearray(b"a.png"), "noise", "image: not a path: 'images[1]' is of type bytearray"),
        (b"a.png", "noise", "image: not an image format that can be read: images[1]"),
        ("https://example.org/a.png", "noise", "image: URLs are not read: https://example.org/a.png"),
        ("no/such.png", "noise", "image: no such file: no/such.png"),
        (
            Image.new("RGB", (101, 100)),
            "noise",
            "image: too many pixels: images[1] has 10100 pixels, --max-pixels is 10000",
        ),
        (
            Image.new("RGB", (500, 1)),
            "noise",
            "image: too many pixels: images[1] has 2178000 pixels once resized, --max-pixels is 10000",
        ),
    ],
)
def test_a_bad_pair_is_an_error_and_can_be_returned(scorer, image, text, error):
    images, texts = [PICTURE, image, PICTURE], ["noise", text, "nothing"]
    scores = scorer.score(images, texts, errors="return")
    assert [scores[0], scores[2]] == pytest.approx(scorer.score([PICTURE] * 2, ["noise", "nothing"]), abs=1e-6)
    assert isinstance(scores[1], RowError)
    assert str(scores[1]) == error
    with pytest.raises(RowError) as failure:
        scorer.score(images, texts)
    assert str(failure.value) == error


def test_if_all_pairs_are_bad_all_errors_are_returned(scorer):
    assert [str(error) for error in scorer.score(["a.png"], [""], errors="return")] == ["image: no such file: a.png"]
    assert scorer.score([], [], errors="return") == scorer.score([], []) == []


def test_an_unknown_value_of_errors_is_refused(scorer):
    with pytest.raises(ValueError, match="errors is 'ignore'; it can be 'raise' or 'return'"):
        scorer.score([], [], errors="ignore")


@pytest.mark.parametrize("image", [PICTURE, numpy.asarray(PICTURE), numpy.asarray(PICTURE.convert("L"))])
def test_an_image_in_place_of_a_list_is_an_error(scorer, image):
    with pytest.raises(TypeError, match="expected a list, got "):
        scorer.encode_images(image)


def test_a_pair_whose_score_is_not_a_number_is_an_error(scorer, monkeypatch):
    monkeypatch.setattr("longclip_cli.pipeline.encode.scores_from_cosines", lambda _: torch.tensor([math.nan, 0.5]))
    assert [str(score)[:10] for score in scorer.score([PICTURE] * 2, ["a", "b"], errors="return")] == [
        "score: the",
        "0.5",
    ]
    with pytest.raises(RowError, match="the network gave no number"):
        scorer.score([PICTURE] * 2, ["a", "b"])


def test_the_pixel_limit_holds_without_pillow_s(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.new("RGB", (101, 100)).save(tmp_path / "a.png")
    with pytest.raises(RowError, match="has 10100 pixels, --max-pixels is 10000"):
        scorer.encode_images([tmp_path / "a.png"])
    assert LongCLIPScorer.from_pretrained("demo", "cpu").encode_images([tmp_path / "a.png"]).shape == (1, 64)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_documented_python_runs(tmp_path, page):
    """With the demo model instead of one that would be downloaded."""
    (block,) = re.findall(
        r"```python\n(from longclip_cli import LongCLIPScorer\n.*?)```", (ROOT / page).read_text(), re.DOTALL
    )
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name in ("a.png", "b.png"):
        PICTURE.save(tmp_path / name)
    code = block.replace('from_pretrained("longclip-l-336")', 'from_pretrained("demo")') + "\nprint(scorer.batch_size)"
    run = run_python(code, cwd=tmp_path)
    assert int(run.stdout) > 0


def test_an_unknown_precision_is_wrong_usage(checkpoint):
    with pytest.raises(UsageError, match="no such precision: fp8"):
        LongCLIPScorer.from_pretrained(str(checkpoint), "cpu", "fp8")
