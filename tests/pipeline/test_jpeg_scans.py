"""The scans of a JPEG are counted."""

import io
import struct

import pytest
from helpers import IMAGES, encoded_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from longclip_cli.pipeline.jpeg_scans import END, MOST_SCANS, SCAN, STRIP_BYTES, check_scans, segments

SEQUENTIAL, PROGRESSIVE = 0xC0, 0xC2
NOISE = Image.effect_noise((400, 300), 100).convert("RGB")
COMMENT = 0xFE


def segment(marker, content):
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def scan(components):
    """Return a scan of so many components, without data."""
    return segment(SCAN, bytes([components, *range(2 * components), 0, 63, 0]))


def jpeg(frame, *parts):
    """Return a JPEG of three components with these parts behind its frame."""
    head = segment(frame, struct.pack(">BHHB", 8, 100, 100, 3) + bytes(9))
    return b"\xff\xd8" + head + b"".join(parts) + b"\xff\xd9"


def is_refused(content):
    """Return whether a JPEG has too many scans."""
    try:
        check_scans(io.BytesIO(content))
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("frame", "components", "refused"),
    [(PROGRESSIVE, 3, True), (PROGRESSIVE, 1, True), (SEQUENTIAL, 1, True), (SEQUENTIAL, 3, False)],
)
def test_scans_count_where_one_is_not_the_whole_picture(frame, components, refused):
    """A decoder stops behind the first scan of a sequential JPEG if that has all components."""
    assert not is_refused(jpeg(frame, scan(components) * MOST_SCANS))
    assert is_refused(jpeg(frame, scan(components) * (MOST_SCANS + 1))) == refused


def test_markers_inside_segments_and_behind_the_end_are_no_scans():
    comment = segment(COMMENT, scan(1) * (MOST_SCANS + 1))
    assert not is_refused(jpeg(PROGRESSIVE, comment, scan(1), comment) + scan(1) * (MOST_SCANS + 1))


def test_an_end_inside_a_segment_hides_no_scans():
    comment = segment(COMMENT, b"\xff\xd9")
    assert is_refused(jpeg(PROGRESSIVE, (scan(1) + comment) * (MOST_SCANS + 1)))


@given(st.integers(STRIP_BYTES - 80, STRIP_BYTES + 80), st.sampled_from([b"\1", b"\xff\0", b"\xff\xd0", b"\xff"]))
def test_scans_are_found_across_the_borders_of_strips(count, filler):
    content = jpeg(PROGRESSIVE, scan(1), (filler * count)[:count].rstrip(b"\xff"), scan(2), scan(3))
    found = [marker for marker, _ in segments(io.BytesIO(content), 2)]
    assert found == [PROGRESSIVE, SCAN, SCAN, SCAN, END]


@pytest.mark.parametrize("progressive", [False, True])
def test_segments_of_a_real_file_are_those_pillow_has_written(progressive):
    content = encoded_image(NOISE, "JPEG", quality=95, progressive=progressive)
    assert len(content) > STRIP_BYTES
    found = [marker for marker, _ in segments(io.BytesIO(content), 2)]
    assert found[-1] == END
    assert found.count(SCAN) == (10 if progressive else 1)


class CountingFile(io.BytesIO):
    """A file that counts the bytes that are read from it."""

    bytes_read = 0

    def read(self, size=-1):
        content = super().read(size)
        self.bytes_read += len(content)
        return content


def test_only_the_header_of_a_large_baseline_jpeg_is_read():
    file = CountingFile(encoded_image(NOISE.resize((2000, 1500)), "JPEG", quality=95) + bytes(2**20))
    check_scans(file)
    assert file.bytes_read == STRIP_BYTES


@given(st.binary(max_size=300), st.integers(0, 600))
def test_any_bytes_behind_the_signature_are_walked_to_their_end(content, length):
    photo = (IMAGES / "photo.jpg").read_bytes()
    for file in (b"\xff\xd8\xff" + content, photo[:length] + content, jpeg(PROGRESSIVE, content)[:length]):
        assert is_refused(file) is False
