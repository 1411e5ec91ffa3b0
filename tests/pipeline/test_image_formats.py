"""Which image files are read, and what is checked before Pillow decodes them."""

import errno
import struct
from pathlib import Path

import pytest
from helpers import IMAGES, encoded_image, jsonl, longclip_score, parse_jsonl
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from longclip_cli.errors import ResourceError, RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.image_formats import FORMATS, PNG_SIGNATURE, readable_formats
from longclip_cli.pipeline.images import load_image
from longclip_cli.pipeline.jpeg_scans import MOST_SCANS
from longclip_cli.rows import EncodedImage

RGB_PNG = (IMAGES / "rgb.png").read_bytes()
NOISE = Image.effect_noise((64, 64), 100).convert("RGB")


def pixels_of(source):
    """Return the pixels of an image file."""
    return load_image(source, 32, ScoringOptions()).pixel_values


def with_tag(tiff, tag, value):
    """Return a little-endian TIFF with the value of a tag in its first directory replaced."""
    content = bytearray(tiff)
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry) == (tag,):
            struct.pack_into("<H", content, entry + 8, value)
    return bytes(content)


def error_of(tmp_path, content):
    """Return the error of a file with these bytes, which is the same when they are in memory."""
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(RowError) as failure:
        pixels_of(tmp_path / "a")
    with pytest.raises(RowError) as same_failure:
        pixels_of(EncodedImage(bytes(content), "a"))
    message = str(failure.value).replace(f"{tmp_path}/", "")
    assert str(same_failure.value) == message
    return message


def bmp_rle8(width, height, codes):
    """Return a run-length encoded BMP."""
    offset = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(codes), 0, 0, offset) + header + bytes(1024) + codes


def qoi(width, height):
    """Return a QOI header and one pixel."""
    return b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + b"\xfe\1\2\3" + bytes(7) + b"\1"


def icon(width, height):
    """Return an icon with one PNG, listed as 256 x 256 in its directory."""
    png = encoded_image(Image.new("1", (width, height)), "PNG")
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(png), 22) + png


def test_a_png_with_zeros_in_its_data_is_an_error(tmp_path):
    content = bytearray(encoded_image(NOISE, "PNG", compress_level=0))
    content[2000:6096] = bytes(4096)
    assert error_of(tmp_path, content) == "image: cannot be decoded: a (wrong checksum in chunk 'IDAT')"


@given(st.integers(8, RGB_PNG.index(b"IEND") - 5), st.integers(1, 255))
def test_a_png_with_any_byte_changed_is_an_error(tmp_path_factory, position, change):
    content = bytearray(RGB_PNG)
    content[position] ^= change
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(content)
    with pytest.raises(RowError, match=r"image: cannot be decoded: .*(checksum|truncated)"):
        pixels_of(path)


def test_a_png_without_its_end_chunk_is_an_error(tmp_path):
    content = RGB_PNG[: RGB_PNG.index(b"IEND") - 4]
    assert error_of(tmp_path, content) == "image: cannot be decoded: a (truncated: it has no end chunk)"


def test_decoders_write_nothing_to_standard_error(tmp_path):
    """Messages of libtiff and Pillow would ignore -q and name no file."""
    lzw = encoded_image(NOISE, "TIFF", compression="tiff_lzw")
    files = {
        "good.tif": lzw,
        "webp.tif": with_tag(lzw, 259, 50001),
        "samples.tif": with_tag(lzw, 277, 9),
        "jpeg.tif": with_tag(lzw, 259, 6),
        "broken.tif": lzw[:100] + bytes([255] * 200) + lzw[300:],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    rows = [{"image_path": name, "text": "noise"} for name in files]
    run = longclip_score("-m", "demo", "--device", "cpu", "-q", input=jsonl(*rows), cwd=tmp_path)
    assert run.stderr == b""
    assert run.returncode == 3
    assert [row["clip_score"] is None for row in parse_jsonl(run.stdout)] == [False, True, True, True, True]


def test_every_format_on_the_list_is_read(tmp_path):
    """Pillow can write all but two of them. The suffix of the file does not matter."""
    assert set(FORMATS) - set(readable_formats()) <= {"MPO", "AVIF"}  # the first is opened as JPEG
    for name in FORMATS.keys() & Image.SAVE.keys():
        (tmp_path / "any.txt").write_bytes(encoded_image(NOISE, name))
        assert pixels_of(tmp_path / "any.txt").shape == (3, 32, 32), name


@pytest.mark.parametrize("kind", ["BLP", "EPS", "ICNS", "IM", "MSP", "SPIDER", "XBM"])
def test_a_format_that_is_not_on_the_list_is_not_read(tmp_path, kind):
    mode = {"BLP": "P", "MSP": "1", "SPIDER": "F", "XBM": "1"}.get(kind, "RGB")
    content = encoded_image(NOISE.convert(mode), kind)
    assert error_of(tmp_path, content) == "image: not an image format that can be read: a"


def test_a_fits_file_is_not_read(tmp_path):
    header = "".join(
        card.ljust(80)
        for card in (
            "SIMPLE  =                    T",
            "BITPIX  = 8",
            "NAXIS   = 2",
            "NAXIS1  = 8",
            "NAXIS2  = 8",
            "END",
        )
    )
    assert "not an image format" in error_of(tmp_path, header.ljust(2880).encode() + bytes(2880))


@pytest.mark.parametrize(
    "content",
    [
        qoi(2001, 2000),
        bmp_rle8(2001, 2000, b"\xff\7"),
        bmp_rle8(10, 10, b"\0\2\0\0" * 8_000_001),
        b"P6 2001 2000 100\n",
        b"P5 2001 2000 1000\n",
    ],
    ids=["QOI", "BMP RLE", "BMP RLE that draws nothing", "PPM", "PGM"],
)
def test_formats_that_are_decoded_in_python_are_limited(tmp_path, content):
    expected = "image: cannot be decoded: a (of more than 4000000 pixels and slow to decode; convert it to PNG)"
    assert error_of(tmp_path, content) == expected


@pytest.mark.parametrize("magic", ["P1", "P2 ", "P3 "])
def test_ascii_pixels_are_not_read(tmp_path, magic):
    content = f"{magic} 1 1 {'255' if magic != 'P1' else ''}\n1 1 1\n".encode()
    expected = "image: cannot be decoded: a (ASCII pixels are not read; convert it to PNG)"
    assert error_of(tmp_path, content) == expected


@pytest.mark.parametrize("bytes_per_channel", [1, 2])
def test_sgi_files_of_any_size_are_read(tmp_path, bytes_per_channel):
    """Pillow's decoder for 16 bits is in Python, but does not loop over pixels."""
    header = struct.pack(">HBBHHHH", 474, 0, bytes_per_channel, 2, 2001, 2000, 1).ljust(512, b"\0")
    (tmp_path / "a").write_bytes(header + b"\x80" * (2001 * 2000 * bytes_per_channel))
    assert pixels_of(tmp_path / "a").unique().tolist() == [128]


def test_an_icon_of_a_large_picture_is_an_error(tmp_path):
    """Pillow decodes an icon while opening it, before a limit can be checked."""
    (tmp_path / "a").write_bytes(icon(1024, 1024))
    assert pixels_of(tmp_path / "a").shape == (3, 32, 32)
    expected = "image: cannot be decoded: a (an icon with a picture of 1025 x 10 pixels)"
    assert error_of(tmp_path, icon(1025, 10)) == expected


def test_a_jpeg_of_many_scans_is_an_error(tmp_path):
    """Each is a pass over the whole picture, and may take a few bytes."""
    content = encoded_image(NOISE, "JPEG", progressive=True)
    last_scan = content[content.rindex(b"\xff\xc4") : -2]
    missing = MOST_SCANS - content.count(b"\xff\xda")
    assert pixels_of(EncodedImage(content[:-2] + last_scan * missing + b"\xff\xd9", "a")).shape == (3, 32, 32)
    expected = "image: cannot be decoded: a (of more than 500 scans and slow to decode; convert it to PNG)"
    assert error_of(tmp_path, content[:-2] + last_scan * (missing + 1) + b"\xff\xd9") == expected


@given(st.binary(max_size=200), st.sampled_from([PNG_SIGNATURE, b"\0\0\1\0", b"\0\0\1\0\1\0", b"qoif", b"P6 ", b"BM"]))
def test_any_bytes_are_an_image_or_a_row_error(tmp_path_factory, content, signature):
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(signature + content)
    try:
        assert pixels_of(path).shape == (3, 32, 32)
    except RowError as error:
        assert str(error).startswith("image: ")


def test_running_out_of_file_descriptors_is_not_a_row_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    (tmp_path / "a.png").write_bytes(RGB_PNG)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ResourceError, match=r"Too many open files: .*--workers"):
        pixels_of(tmp_path / "a.png")


def test_a_long_path_is_cut_in_the_message(tmp_path):
    with pytest.raises(RowError, match=r"no such file: .*…") as failure:
        pixels_of(tmp_path / ("a" * 200))
    assert len(str(failure.value)) < 110
