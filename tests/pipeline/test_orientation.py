"""Photos are turned upright, or it is said that they are not."""

import io
import struct
import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from helpers import encoded_image, png_chunk
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from longclip_cli.models.preprocessing import resized
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.image_formats import configure_pillow
from longclip_cli.pipeline.images import load_image
from longclip_cli.pipeline.orientation import from_exif, is_on_its_side, orientation_of
from longclip_cli.pipeline.pixels import to_pixels
from longclip_cli.rows import EncodedImage

NOISE = Image.effect_noise((150, 97), 100).convert("RGB").crop((10, 0, 150, 97))
KINDS = {"PNG": {}, "TIFF": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}
KINDS["MPO"] = {"save_all": True, "append_images": [NOISE]}
if features.check("avif"):
    KINDS["AVIF"] = {}
UPRIGHT, TURN = ScoringOptions(), ScoringOptions(exif_orientation=True)


def exif_with(orientation):
    """Return an EXIF with an orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def exif_bytes(order, entries, *, start=8):
    """Return an EXIF whose first directory has these entries: tag, kind, count and four bytes."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(
        struct.pack(f"{order}HHI4s", *entry) for entry in entries
    )
    return (mark + struct.pack(f"{order}I", start)).ljust(start, b"\0") + directory


def loaded(content, options):
    """Return an image of 56 pixels a side that is loaded from its bytes."""
    return load_image(EncodedImage(content, "a"), 56, options)


def transposed(content):
    """Return an image as Pillow turns it."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fast_resize", [False, True])
def test_a_turned_image_has_the_pixels_of_one_stored_upright(kind, orientation, fast_resize):
    content = encoded_image(NOISE, kind, exif=exif_with(orientation), **KINDS[kind])
    options = ScoringOptions(exif_orientation=True, fast_resize=fast_resize)
    image = loaded(content, options)
    upright = loaded(encoded_image(transposed(content), "PNG"), ScoringOptions(fast_resize=fast_resize))
    assert torch.equal(image.pixel_values, upright.pixel_values)
    assert not image.is_rotated


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(10))
def test_without_the_option_pixels_stay_and_it_is_said(kind, orientation):
    content = encoded_image(NOISE, kind, exif=exif_with(orientation), **KINDS[kind])
    image = loaded(content, UPRIGHT)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.format == kind
        assert torch.equal(image.pixel_values, to_pixels(opened.convert("RGB"), 56))
    assert image.is_rotated == (2 <= orientation <= 8 and kind != "TIFF")  # which Pillow turns


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1023, 771), (771, 1023), (600, 600)])
def test_fast_decoding_turns_what_it_has_decoded(orientation, size):
    content = encoded_image(NOISE.resize(size), "JPEG", exif=exif_with(orientation))
    decoded = Image.open(io.BytesIO(content))
    decoded.draft("RGB", resized(size, 56))
    assert decoded.width < size[0] / 2
    upright = ImageOps.exif_transpose(decoded)
    upright_size = size[::-1] if is_on_its_side(orientation) else size
    image = loaded(content, ScoringOptions(exif_orientation=True, fast_decode=True))
    assert torch.equal(image.pixel_values, to_pixels(upright, 56, resized(upright_size, 56)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_images_of_every_mode_are_turned(mode):
    content = encoded_image(NOISE.convert("L").convert(mode), "PNG", exif=exif_with(6))
    upright = encoded_image(transposed(content), "PNG")
    assert torch.equal(loaded(content, TURN).pixel_values, loaded(upright, UPRIGHT).pixel_values)
    assert loaded(content, UPRIGHT).is_rotated


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_pillow_turns_a_tiff_and_nothing_else_does(compression):
    content = encoded_image(NOISE, "TIFF", exif=exif_with(6), compression=compression)
    images = [loaded(content, options) for options in (UPRIGHT, TURN)]
    assert torch.equal(images[0].pixel_values, images[1].pixel_values)
    assert not images[0].is_rotated


def test_a_tiff_that_only_loading_turns_keeps_its_ratio():
    xmp = b'<x tiff:Orientation="6">'
    content = encoded_image(NOISE, "TIFF", tiffinfo={700: xmp})
    with Image.open(io.BytesIO(content)) as image:
        assert orientation_of(image) == 1
        expected = to_pixels(image.convert("RGB"), 56)
    for options in (UPRIGHT, TURN):
        assert torch.equal(loaded(content, options).pixel_values, expected)


def png_with(*chunks, at):
    """Return the PNG with chunks before or behind its pixels."""
    content = encoded_image(NOISE, "PNG")
    place = content.index(at) - 4
    return content[:place] + b"".join(png_chunk(*chunk) for chunk in chunks) + content[place:]


@pytest.mark.parametrize("at", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", exif_with(6).tobytes()[6:]),
        (b"tEXt", b"Raw profile type exif\0\nexif\n32\n" + exif_with(6).tobytes().hex().encode()),
        (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<a tiff:Orientation="6"/>'),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>6</tiff:Orientation>"),
    ],
    ids=["eXIf", "raw profile", "XMP attribute", "XMP element"],
)
def test_a_png_is_turned_wherever_it_has_its_orientation(chunk, at):
    content = png_with(chunk, at=at)
    upright = encoded_image(NOISE.transpose(Image.Transpose.ROTATE_270), "PNG")
    assert torch.equal(loaded(content, TURN).pixel_values, loaded(upright, UPRIGHT).pixel_values)
    assert loaded(content, UPRIGHT).is_rotated


def test_exif_that_says_upright_comes_before_xmp():
    content = png_with(
        (b"eXIf", exif_with(1).tobytes()[6:]),
        (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<a tiff:Orientation="6"/>'),
        at=b"IDAT",
    )
    assert not loaded(content, UPRIGHT).is_rotated


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"Raw profile type exif\0\nexif\n32\nno hexadecimal digits"),
        (b"tEXt", b"Raw profile type exif\0"),
        (b"tEXt", b"xmp\0text"),
        (b"tEXt", b"exif\0text"),
        (b"zTXt", b"exif\0\0x\x9c\x03\0\0\0\0\1"),
        (b"eXIf", b""),
    ],
)
def test_a_png_without_a_readable_orientation_is_upright(chunk):
    content = png_with(chunk, at=b"IDAT")
    assert torch.equal(loaded(content, TURN).pixel_values, loaded(content, UPRIGHT).pixel_values)
    assert not loaded(content, UPRIGHT).is_rotated


BROKEN = {
    "empty": b"",
    "no TIFF": b"Exif\0\0Exif",
    "ends in its header": b"II*\0\x08",
    "starts behind its end": exif_bytes("<", [])[:4] + b"\xff\xff\xff\xff",
    "starts in its header": b"II*\0\0\0\0\0",
    "counts more than there is": exif_bytes("<", [])[:8] + b"\xff\xff",
    "a cycle": exif_bytes("<", [(0x8769, 4, 1, struct.pack("<I", 8))]) + struct.pack("<I", 8),
    "a giant count": exif_bytes("<", [(274, 3, 2**32 - 1, struct.pack("<I", 8))]),
    "a text": exif_bytes(">", [(274, 2, 1, b"6\0\0\0")]),
    "a rational at a far place": exif_bytes(">", [(274, 5, 1, b"\xff\xff\xff\xff")]),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_is_no_orientation_and_no_error(name, kind):
    content = encoded_image(NOISE, kind, exif=b"Exif\0\0" + BROKEN[name], **KINDS[kind])
    assert torch.equal(loaded(content, TURN).pixel_values, loaded(content, UPRIGHT).pixel_values)
    assert not loaded(content, UPRIGHT).is_rotated


def test_broken_exif_prints_no_warning():
    limit = Image.MAX_IMAGE_PIXELS
    content = encoded_image(NOISE, "JPEG", exif=b"Exif\0\0" + BROKEN["counts more than there is"])
    with warnings.catch_warnings(record=True) as printed:
        configure_pillow(limit)
        loaded(content, TURN)
    assert printed == []


@given(st.sampled_from("<>"), st.integers(0, 2**16 - 1), st.sampled_from([(3, "H"), (4, "I")]), st.integers(8, 90))
def test_an_orientation_is_found_in_either_byte_order(order, value, kind, start):
    number, code = kind
    entries = [(256, 3, 1, b"\0\6\0\6"), (274, number, 1, struct.pack(f"{order}{code}", value).ljust(4, b"\0"))]
    exif = exif_bytes(order, entries, start=start)
    assert from_exif(exif) == from_exif(b"Exif\0\0Exif\0\0" + exif) == value


@given(st.binary(max_size=100), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0"]))
def test_any_bytes_are_an_orientation_or_none(content, start):
    assert isinstance(from_exif(start + content), int | None)
    image = Image.new("RGB", (1, 1))
    image.info["exif"] = start + content
    assert 1 <= orientation_of(image) <= 8


@pytest.mark.parametrize(
    ("kind", "orientation", "options", "bytes_per_pixel", "resizing"),
    [
        ("JPEG", 6, UPRIGHT, 4, 21 * (30 + 16)),
        ("JPEG", 1, TURN, 4, 21 * (30 + 16)),
        ("JPEG", 6, TURN, 8, max(21 * (30 + 16), 16 * (40 + 21))),
        ("PNG", 1, TURN, 8, max(21 * (30 + 16), 16 * (40 + 21))),
        ("PNG", 1, ScoringOptions(fast_resize=True), 7, 21 * (30 + 16)),
        ("JPEG", 6, replace(TURN, fast_resize=True), 11, max(21 * (30 + 16), 16 * (40 + 21))),
        ("WEBP", 6, TURN, 18, max(21 * (30 + 16), 16 * (40 + 21))),
    ],
)
def test_what_turning_and_fast_resizing_take_is_reserved(kind, orientation, options, bytes_per_pixel, resizing):
    reserved = []

    @contextmanager
    def reserve(bytes_needed):
        reserved.append(bytes_needed)
        yield

    content = encoded_image(Image.new("RGB", (40, 30)), kind, exif=exif_with(orientation))
    load_image(EncodedImage(content, "a"), 16, options, reserve=reserve)
    assert reserved == [bytes_per_pixel * 40 * 30 + 4 * resizing]
