"""Base64 data: URIs of images."""

import base64

import pytest
from helpers import IMAGES
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import Reason, RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.data_uris import decode_data_uri
from longclip_cli.pipeline.images import load_image

PNG = (IMAGES / "rgb.png").read_bytes()
CONTENT = bytes(range(256)) * 3 + b"\xfb\xff"  # of which base64 has both + and /, and padding
ENCODED = base64.b64encode(CONTENT).decode()
IN_LINES = base64.encodebytes(CONTENT).decode()


def error_of(uri):
    """Return the message of a URI that is not read."""
    with pytest.raises(RowError) as failure:
        decode_data_uri(uri)
    assert failure.value.reason is Reason.DATA_URI
    return str(failure.value)


def test_an_image_in_a_uri_is_loaded_as_its_file():
    image = decode_data_uri("data:image/png;base64," + base64.b64encode(PNG).decode())
    assert image.content == PNG
    assert load_image(image, 32, ScoringOptions()).pixel_values.shape == (3, 32, 32)


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{ENCODED}",
        f"data:IMAGE/Png;BASE64,{ENCODED}",
        f"Data:image/jpeg;base64,{ENCODED}",
        f"data:image/svg+xml;charset=utf-8;name=a.svg;base64,{ENCODED}",
        f"data:;base64,{ENCODED}",
        f"data:image/png; base64 , {ENCODED} ",
        f"data:image/png;base64,\r\n\t{IN_LINES}",
        f"data:image/png;base64,{ENCODED.rstrip('=')}",
        f"data:image/png;base64,{ENCODED.replace('+', '%2B').replace('/', '%2f').replace('=', '%3D')}",
        f"data:image/png;base64,{IN_LINES.replace(chr(10), '%0A%20')}",
    ],
)
def test_a_uri_is_read_in_any_usual_spelling(uri):
    assert decode_data_uri(uri).content == CONTENT


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("data:image/png", "it has no comma"),
        ("", "it has no comma"),
        ("file:image/png;base64,QUJD", "it does not start with data:"),
        ("data:image/png,QUJD", "it has no ;base64 before the comma"),
        ("data:base64,QUJD", "it has no ;base64 before the comma"),
        ("data:image/png;base64;name=a,QUJD", "it has no ;base64 before the comma"),
        ("data:text/html;base64,QUJD", "its media type is not an image's"),
        ("data:imagery/png;base64,QUJD", "its media type is not an image's"),
        ("data:image/png;base64,", "it has no content"),
        ("data:image/png;base64, %20", "it has no content"),
        ("data:image/png;base64,QUJDR", "its base64 is not valid"),
        ("data:image/png;base64,QUJ-", "its base64 is not valid"),
        ("data:image/png;base64,QUJD%41", "its base64 is not valid"),
        ("data:image/png;base64,QQ==QUJD", "its base64 is not valid"),
        ("data:image/png;base64,=QUJ", "its base64 is not valid"),
        ("data:image/png;base64,QUJé", "its base64 is not valid"),
        ("data:image/png;base64,QUJ\ud800", "its base64 is not valid"),
    ],
)
def test_anything_else_is_an_error_that_says_why(uri, problem):
    assert error_of(uri) == f"image: not a base64 data: URI of an image: {uri} ({problem})"


def test_a_long_uri_is_cut_in_messages():
    uri = f"data:image/png;base64,{ENCODED}"
    name = f"{uri[:40]}…{uri[-39:]} (a data: URI)"
    assert decode_data_uri(uri).name == name
    assert error_of(uri + "!").endswith(f"…{uri[-38:]}! (a data: URI) (its base64 is not valid)")


@given(st.binary(min_size=1, max_size=2000), st.sampled_from(["image/png", "", "image/webp;a=b"]))
def test_any_bytes_come_back(content, media_type):
    assert decode_data_uri(f"data:{media_type};base64,{base64.b64encode(content).decode()}").content == content


@given(
    st.sampled_from(["", "data:", "data:image/png;base64,", "data:image/png;base64,QUJD", "DATA:;base64,"]),
    st.text() | st.text("QUJD=%2B+/ \n", max_size=30),
)
def test_any_text_is_bytes_or_a_row_error(start, text):
    try:
        assert decode_data_uri(start + text).content
    except RowError as error:
        assert error.reason is Reason.DATA_URI
        assert len(str(error)) < 200
