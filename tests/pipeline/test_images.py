"""Files to pixels."""

import errno
import warnings
from contextlib import contextmanager, suppress

import pytest
import torch
from helpers import IMAGES, PICTURES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFile

from longclip_cli.errors import RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.image_formats import configure_pillow, readable_formats
from longclip_cli.pipeline.images import load_image
from longclip_cli.pipeline.pixels import resized, to_pixels


@pytest.fixture
def pixel_limit():
    """Puts Pillow's limit, and what it does there, back as they were."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        yield
    Image.MAX_IMAGE_PIXELS = before


def test_pixels_are_channels_first_and_of_the_network_s_size():
    pixels = load_image(IMAGES / "wide.png", 112)
    assert pixels.shape == (3, 112, 112)
    assert pixels.dtype == torch.uint8


def test_the_centre_is_what_stays():
    image = Image.new("RGB", (30, 10), "black")
    image.paste((255, 0, 0), (10, 0, 20, 10))
    assert to_pixels(image, 10)[0].min() == 255


def test_exif_rotation_is_not_applied():
    path = IMAGES / "exif_rotated.jpg"
    with Image.open(path) as image:
        assert image.getexif().get(0x0112, 1) != 1
        assert torch.equal(load_image(path, 64), to_pixels(image.convert("RGB"), 64))


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([112, 224, 336]))
def test_the_shorter_side_becomes_the_network_s_size_and_the_other_keeps_the_shape(width, height, size):
    new_width, new_height = resized((width, height), size)
    assert min(new_width, new_height) == size
    assert abs(max(new_width, new_height) - size * max(width, height) / min(width, height)) < 1


@pytest.mark.parametrize(("limit", "is_refused"), [(1200, False), (1199, True), (599, True)])
def test_an_image_over_the_limit_is_refused(tmp_path, pixel_limit, limit, is_refused):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    configure_pillow(limit)
    if is_refused:
        with pytest.raises(RowError, match=f"a.png has 1200 pixels, --max-pixels is {limit}"):
            load_image(tmp_path / "a.png", 16, ScoringOptions(max_pixels=limit))
    else:
        load_image(tmp_path / "a.png", 16, ScoringOptions(max_pixels=limit))


def test_a_file_that_may_not_be_read_says_so(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(RowError, match=r"image: cannot be read: .*photo.jpg \(Permission denied\)"):
        load_image(IMAGES / "photo.jpg", 112)


def test_no_format_is_decoded_by_another_program():
    assert "EPS" not in readable_formats()
    assert {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"} <= set(readable_formats())


@settings(max_examples=200)
@given(st.data())
def test_a_mutated_file_is_decoded_or_refused_as_a_row(tmp_path_factory, data):
    name = data.draw(
        st.sampled_from(["photo.jpg", "palette.png", "lossy.webp", "animated.gif", "photo.tif", "photo.bmp"])
    )
    content = bytearray((IMAGES / name).read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.mktemp("mutated") / name
    path.write_bytes(content)
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:
        with pytest.raises(RowError, match=r"^image: "):
            load_image(path, 32)
    else:
        with suppress(RowError):  # that may be a damage which only the conversion to RGB meets
            assert load_image(path, 32).shape == (3, 32, 32)


def test_fast_decoding_gives_nearly_the_same_pixels_of_a_jpeg_and_the_same_of_a_png(tmp_path):
    with Image.open(PICTURES / "astronaut.png") as photo:
        photo.convert("RGB").resize((1023, 1371)).save(tmp_path / "a.jpg", quality=95)
        photo.convert("RGB").resize((1023, 1371)).save(tmp_path / "a.png")
    full, fast = (
        load_image(tmp_path / "a.jpg", 224, ScoringOptions(fast_decode=fast)).float() for fast in (False, True)
    )
    assert full.shape == fast.shape == (3, 224, 224)
    assert not torch.equal(full, fast)
    assert (full - fast).abs().mean() < 3
    assert torch.equal(
        load_image(tmp_path / "a.png", 224), load_image(tmp_path / "a.png", 224, ScoringOptions(fast_decode=True))
    )


@given(st.integers(30, 700), st.integers(30, 700), st.sampled_from([32, 56]))
@settings(max_examples=25, deadline=None)
def test_fast_decoding_gives_pixels_of_the_network_s_size_whatever_the_image_s(
    tmp_path_factory, width, height, image_size
):
    file = tmp_path_factory.mktemp("grey") / "grey.jpg"
    Image.new("L", (width, height), 100).save(file)
    for fast_resize in (False, True):
        pixels = load_image(file, image_size, ScoringOptions(fast_decode=True, fast_resize=fast_resize))
        assert pixels.shape == (3, image_size, image_size)
        assert (pixels.float() - 100).abs().max() <= 1


def picture_of_lines(width, height):
    """Black on white, such that roundings show."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for step in range(0, width + height, 7):
        draw.line((step, 0, 0, step), fill=(step % 256, 0, 90))
    return picture


@pytest.mark.parametrize("size", [(1200, 900), (600, 1600), (2000, 300), (20, 1500), (100, 100), (224, 223)])
def test_fast_resizing_moves_some_values_and_none_by_much(size):
    exact, fast = (to_pixels(picture_of_lines(*size), 224, fast_resize=fast) for fast in (False, True))
    assert fast.untyped_storage().nbytes() == exact.untyped_storage().nbytes() == 3 * 224 * 224
    difference = (exact.int() - fast.int()).abs()
    assert 0 < difference.float().mean() < 0.02
    assert difference.max() <= 2


@pytest.mark.parametrize("name", sorted(path.name for path in (IMAGES).iterdir()))
def test_fast_resizing_takes_every_kind_of_image(name):
    exact, fast = (load_image(IMAGES / name, 112, ScoringOptions(fast_resize=fast)).int() for fast in (False, True))
    assert (exact - fast).abs().max() <= 2


def test_images_are_resized_in_width_first_however_tall_they_are():
    picture = picture_of_lines(300, 1300)
    in_width = picture.resize((56, 1300), Image.Resampling.BICUBIC)
    size = resized(picture.size, 56)
    expected = in_width.resize(size, Image.Resampling.BICUBIC).crop((0, (size[1] - 56) // 2, 56, (size[1] + 56) // 2))
    assert to_pixels(picture, 56).permute(1, 2, 0).flatten().tolist() == list(expected.tobytes())


@pytest.mark.parametrize(
    ("name", "mode", "bytes_per_pixel"),
    [("a.png", "RGB", 4), ("a.png", "L", 8), ("a.png", "RGBA", 8), ("a.jpg", "RGB", 10), ("a.webp", "RGB", 18)],
)
def test_bytes_are_reserved_from_the_header_before_decoding(tmp_path, monkeypatch, name, mode, bytes_per_pixel):
    Image.new(mode, (40, 30)).save(tmp_path / name, progressive=True)
    events = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: events.append("decoded") or load(image))

    @contextmanager
    def reserve(bytes_needed):
        events.append(bytes_needed)
        yield
        events.append("released")

    assert load_image(tmp_path / name, 16, reserve=reserve).shape == (3, 16, 16)
    assert events[0] == bytes_per_pixel * 40 * 30 + 4 * 21 * (30 + 16)
    assert events[1] == "decoded"
    assert events[-1] == "released"


def test_what_reserving_raises_is_no_error_of_the_row(tmp_path):
    def reserve(bytes_needed):
        raise MemoryError(bytes_needed)

    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(MemoryError):
        load_image(tmp_path / "a.png", 16, reserve=reserve)


def test_pillow_s_own_limit_is_named_where_it_is_the_lower_one(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(RowError, match=r"a\.png has 1200 pixels, Pillow's limit is 100"):
        load_image(tmp_path / "a.png", 16)


def test_nothing_is_reserved_for_an_image_above_the_limit(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(RowError, match="--max-pixels is 1199"):
        load_image(
            tmp_path / "a.png", 16, ScoringOptions(max_pixels=1199), reserve=lambda _: pytest.fail("was reserved")
        )
