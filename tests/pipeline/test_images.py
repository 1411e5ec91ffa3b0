"""Files to pixels."""

import errno
import warnings
from contextlib import contextmanager, nullcontext, suppress

import pytest
import torch
from helpers import IMAGES, PICTURES, encoded_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFile

from longclip_cli.errors import RowError, quote
from longclip_cli.models.preprocessing import resized
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.image_formats import configure_pillow, readable_formats
from longclip_cli.pipeline.images import load_image
from longclip_cli.pipeline.pixels import to_pixels
from longclip_cli.rows import EncodedImage


def pixels_of(source, image_size, *, reserve=nullcontext, **options):
    """Return the pixels of an image file that is loaded with these options."""
    return load_image(source, image_size, ScoringOptions(**options), reserve=reserve).pixel_values


@pytest.fixture
def pixel_limit():
    """Restore Pillow's limit and its warnings after the test."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        yield
    Image.MAX_IMAGE_PIXELS = before


def test_pixels_are_channels_first_and_of_the_network_s_size():
    pixels = pixels_of(IMAGES / "wide.png", 112)
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
        loaded = load_image(path, 64, ScoringOptions())
        assert torch.equal(loaded.pixel_values, to_pixels(image.convert("RGB"), 64))
    assert loaded.is_rotated


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([112, 224, 336]))
def test_resizing_fits_the_shorter_side_and_keeps_the_ratio(width, height, size):
    new_width, new_height = resized((width, height), size)
    assert min(new_width, new_height) == size
    assert abs(max(new_width, new_height) - size * max(width, height) / min(width, height)) < 1


@pytest.mark.parametrize(("limit", "is_refused"), [(1200, False), (1199, True), (599, True)])
def test_an_image_over_the_limit_is_refused(tmp_path, pixel_limit, limit, is_refused):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    configure_pillow(limit)
    if is_refused:
        with pytest.raises(RowError, match=f"a.png has 1200 pixels, --max-pixels is {limit}"):
            pixels_of(tmp_path / "a.png", 16, max_pixels=limit)
    else:
        pixels_of(tmp_path / "a.png", 16, max_pixels=limit)


def test_a_file_without_read_permission_is_named(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(RowError, match=r"image: cannot be read: .*photo.jpg \(Permission denied\)"):
        pixels_of(IMAGES / "photo.jpg", 112)


def test_no_format_is_decoded_by_another_program():
    assert "EPS" not in readable_formats()
    assert {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"} <= set(readable_formats())


@settings(max_examples=200)
@given(st.data())
def test_a_mutated_file_is_decoded_or_a_row_error(tmp_path_factory, data):
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
            pixels_of(path, 32)
    else:
        with suppress(RowError):  # only the conversion to RGB may find the damage
            assert pixels_of(path, 32).shape == (3, 32, 32)


def test_fast_decoding_hardly_changes_a_jpeg_and_never_a_png(tmp_path):
    with Image.open(PICTURES / "astronaut.png") as photo:
        photo.convert("RGB").resize((1023, 1371)).save(tmp_path / "a.jpg", quality=95)
        photo.convert("RGB").resize((1023, 1371)).save(tmp_path / "a.png")
    full, fast = (pixels_of(tmp_path / "a.jpg", 224, fast_decode=fast).float() for fast in (False, True))
    assert full.shape == fast.shape == (3, 224, 224)
    assert not torch.equal(full, fast)
    assert (full - fast).abs().mean() < 3
    assert torch.equal(pixels_of(tmp_path / "a.png", 224), pixels_of(tmp_path / "a.png", 224, fast_decode=True))


@given(st.integers(30, 700), st.integers(30, 700), st.sampled_from([32, 56]))
@settings(max_examples=25, deadline=None)
def test_fast_decoding_gives_the_network_s_size_for_any_image(tmp_path_factory, width, height, image_size):
    file = tmp_path_factory.mktemp("grey") / "grey.jpg"
    Image.new("L", (width, height), 100).save(file)
    for fast_resize in (False, True):
        pixels = pixels_of(file, image_size, fast_decode=True, fast_resize=fast_resize)
        assert pixels.shape == (3, image_size, image_size)
        assert (pixels.float() - 100).abs().max() <= 1


def picture_of_lines(width, height):
    """Return a picture of lines, in which rounding shows."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for step in range(0, width + height, 7):
        draw.line((step, 0, 0, step), fill=(step % 256, 0, 90))
    return picture


@pytest.mark.parametrize("size", [(1200, 900), (600, 1600), (2000, 300), (20, 1500), (100, 100), (224, 223)])
def test_fast_resizing_changes_few_values_and_only_slightly(size):
    exact, fast = (to_pixels(picture_of_lines(*size), 224, fast_resize=fast) for fast in (False, True))
    assert fast.untyped_storage().nbytes() == exact.untyped_storage().nbytes() == 3 * 224 * 224
    difference = (exact.int() - fast.int()).abs()
    assert 0 < difference.float().mean() < 0.02
    assert difference.max() <= 2


@pytest.mark.parametrize("name", sorted(path.name for path in (IMAGES).iterdir()))
def test_fast_resizing_takes_every_kind_of_image(name):
    exact, fast = (pixels_of(IMAGES / name, 112, fast_resize=fast).int() for fast in (False, True))
    assert (exact - fast).abs().max() <= 2


def test_images_are_resized_in_width_first():
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

    assert pixels_of(tmp_path / name, 16, reserve=reserve).shape == (3, 16, 16)
    assert events[0] == bytes_per_pixel * 40 * 30 + 4 * 21 * (30 + 16)
    assert events[1] == "decoded"
    assert events[-1] == "released"


def test_an_error_while_reserving_is_not_a_row_error(tmp_path):
    def reserve(bytes_needed):
        raise MemoryError(bytes_needed)

    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(MemoryError):
        pixels_of(tmp_path / "a.png", 16, reserve=reserve)


def test_pillow_s_own_limit_is_named_if_it_is_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(RowError, match=r"a\.png has 1200 pixels, Pillow's limit is 100"):
        pixels_of(tmp_path / "a.png", 16)


def test_nothing_is_reserved_for_an_image_above_the_limit(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(RowError, match="--max-pixels is 1199"):
        pixels_of(tmp_path / "a.png", 16, max_pixels=1199, reserve=lambda _: pytest.fail("was reserved"))


@pytest.mark.parametrize("name", sorted(path.name for path in IMAGES.iterdir()))
def test_bytes_are_loaded_as_the_file_that_has_them(name):
    content = (IMAGES / name).read_bytes()
    in_memory, from_file = (
        load_image(source, 64, ScoringOptions()) for source in (EncodedImage(content, "a"), IMAGES / name)
    )
    assert torch.equal(in_memory.pixel_values, from_file.pixel_values)
    assert in_memory.is_rotated == from_file.is_rotated == (name == "exif_rotated.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "image: an empty file: 'picture'"),
        (b"text", "image: not an image format that can be read: 'picture'"),
        (b"\xff\xd8\xff", "image: not an image format that can be read: 'picture'"),
        ((IMAGES / "rgb.png").read_bytes()[:-20], "image: cannot be decoded: 'picture' (truncated"),
    ],
)
def test_errors_of_bytes_have_their_name(content, message):
    with pytest.raises(RowError) as failure:
        load_image(EncodedImage(content, "'picture'"), 32, ScoringOptions())
    assert str(failure.value).startswith(message)


def test_the_name_of_bytes_is_not_cut_again():
    name = quote("data:image/png;base64," + "A" * 1000)
    with pytest.raises(RowError) as failure:
        load_image(EncodedImage(b"text", name), 32, ScoringOptions())
    assert str(failure.value) == f"image: not an image format that can be read: {name}"


def test_a_limit_holds_for_bytes():
    content = encoded_image(Image.new("RGB", (40, 30)), "PNG")
    with pytest.raises(RowError, match="too many pixels: a has 1200 pixels, --max-pixels is 1199"):
        load_image(EncodedImage(content, "a"), 16, ScoringOptions(max_pixels=1199))
