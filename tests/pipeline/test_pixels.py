"""Pixels of every depth."""

import io
import struct
import zlib

import pytest
from helpers import encoded_image, png_chunk
from PIL import Image

from longclip_cli.errors import RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.image_formats import PNG_SIGNATURE
from longclip_cli.pipeline.images import load_image
from longclip_cli.pipeline.pixels import rgb_values, to_rgb

VALUES = range(2**16)
SCALED = [round(value * 255 / 65535) for value in VALUES]
RAMP = Image.frombytes("I;16", (256, 256), struct.pack("<65536H", *VALUES))
BIG_ENDIAN_RAMP = Image.frombytes("I;16B", (256, 256), struct.pack(">65536H", *VALUES))


def reopened(image, kind, **options):
    """Return an image after writing and reading it."""
    return Image.open(io.BytesIO(encoded_image(image, kind, **options)))


def grey_tiff(bits, data, width):
    """Return a TIFF with one row of grey."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(data))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "image",
    [
        RAMP,
        BIG_ENDIAN_RAMP,
        reopened(RAMP, "PNG"),
        reopened(RAMP, "TIFF"),
        reopened(RAMP, "TIFF", compression="tiff_lzw"),
        reopened(BIG_ENDIAN_RAMP, "TIFF"),
        reopened(RAMP, "PPM"),
        reopened(RAMP, "JPEG2000"),
    ],
    ids=["I;16", "I;16B", "PNG", "TIFF", "TIFF LZW", "big-endian TIFF", "PGM", "JPEG 2000"],
)
def test_16_bit_grey_is_scaled_to_8_bits(image):
    red, green, blue = rgb_values(to_rgb(image)).flatten(1).tolist()
    assert red == green == blue == SCALED


def test_16_bit_grey_whose_zero_is_white_is_inverted():
    image = reopened(RAMP, "TIFF", tiffinfo={262: 0})
    assert rgb_values(to_rgb(image))[0].flatten().tolist() == [255 - value for value in SCALED]


def test_12_bit_grey_is_scaled_to_8_bits():
    image = Image.open(io.BytesIO(grey_tiff(12, bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x00]), 4)))
    assert image.mode == "I;16"
    assert rgb_values(to_rgb(image))[0].flatten().tolist() == [0, 128, 255, 0]


@pytest.mark.parametrize(("mode", "kind"), [("I", "integers"), ("F", "floats")])
def test_32_bit_pixels_are_an_error(tmp_path, mode, kind):
    Image.new(mode, (8, 8), 200).save(tmp_path / "a.tif")
    with pytest.raises(RowError, match=rf"cannot be decoded: .*a\.tif \(pixels are 32-bit {kind}, .*; convert it"):
        load_image(tmp_path / "a.tif", 32, ScoringOptions())


def test_16_bit_colour_keeps_its_high_bytes():
    samples = struct.pack(">6H", 0x00FF, 0x80FF, 0xFFFF, 0x0100, 0x7FFF, 0xFE01)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    png = PNG_SIGNATURE + header + png_chunk(b"IDAT", zlib.compress(b"\0" + samples)) + png_chunk(b"IEND", b"")
    assert rgb_values(to_rgb(Image.open(io.BytesIO(png)))).flatten().tolist() == [0, 1, 128, 127, 255, 254]
