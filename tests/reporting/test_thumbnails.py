"""Thumbnails of untrusted images."""

import base64
import io
import os
from dataclasses import replace
from random import Random

import pytest
from helpers import IMAGES, encoded_image
from PIL import Image

from longclip_cli.options import ScoringOptions
from longclip_cli.reporting.thumbnails import MOST_BYTES, SIDE, image_size, thumbnail
from longclip_cli.rows import EncodedImage

OPTIONS = ScoringOptions(image_root=IMAGES)


def opened(content):
    image = Image.open(io.BytesIO(content))
    assert image.format == "WEBP"
    return image


def test_a_file_becomes_a_small_webp():
    large = EncodedImage(encoded_image(Image.new("RGB", (1000, 500), "red"), "PNG"), "red.png")
    assert opened(thumbnail(large, OPTIONS)).size == (SIDE, SIDE // 2)
    assert image_size(large, OPTIONS) == (1000, 500)


def test_a_data_uri_and_a_relative_path_are_read():
    uri = "data:image/png;base64," + base64.b64encode((IMAGES / "rgb.png").read_bytes()).decode()
    assert thumbnail(uri, OPTIONS) == thumbnail("rgb.png", OPTIONS) is not None


def test_noise_stays_below_the_limit():
    noise = Image.frombytes("RGB", (400, 400), Random(0).randbytes(400 * 400 * 3))
    content = thumbnail(EncodedImage(encoded_image(noise, "PNG"), "noise"), OPTIONS)
    assert content is not None
    assert len(content) <= MOST_BYTES


def test_a_photo_is_turned_only_if_it_was_for_its_score():
    size = opened(thumbnail("exif_rotated.jpg", OPTIONS)).size
    turned = opened(thumbnail("exif_rotated.jpg", replace(OPTIONS, exif_orientation=True))).size
    assert turned == size[::-1]


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", (IMAGES / "rgb.png").read_bytes()[:60]])
def test_what_is_no_image_has_no_thumbnail(content):
    assert thumbnail(EncodedImage(content, "x"), OPTIONS) is None


@pytest.mark.parametrize("path", ["missing.png", ".", "\0", "/dev/zero", "https://example.org/a.png"])
def test_a_path_that_leads_to_no_file_has_no_thumbnail(path):
    assert thumbnail(path, OPTIONS) is None
    assert image_size(path, OPTIONS) is None


def test_a_fifo_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert thumbnail(str(tmp_path / "fifo"), OPTIONS) is None


def test_an_image_above_the_pixel_limit_is_not_decoded():
    assert thumbnail("rgb.png", replace(OPTIONS, max_pixels=10)) is None
