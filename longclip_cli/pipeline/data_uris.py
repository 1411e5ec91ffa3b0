"""Images that rows hold in themselves, as base64 data: URIs."""

from __future__ import annotations

import base64
import binascii

from longclip_cli.errors import Reason, RowError, quote
from longclip_cli.rows import EncodedImage

WHITE_SPACE = b" \t\n\v\f\r"
# What stands for characters of base64, and for white space in it, where a URI is percent-encoded.
PERCENT_ENCODED = {"%2B": "+", "%2F": "/", "%3D": "=", "%20": "", "%09": "", "%0A": "", "%0D": ""}


def decode_data_uri(uri: str) -> EncodedImage:
    """Return the file in a URI such as `data:image/png;base64,iVBORw0KGgo=`, named by the URI, cut if it is long.

    The media type may be missing. The base64 may contain white space and lack its padding. Raises `RowError` for
    anything else, and for a URI without content.
    """
    name = quote(uri)
    try:
        header, comma, body = uri.partition(",")
        if not comma:
            raise ValueError("it has no comma")
        check_header(header)
        content = decode_base64(body)
        if not content:
            raise ValueError("it has no content")
    except ValueError as error:
        raise RowError(Reason.DATA_URI, f"{name} ({error})") from None
    return EncodedImage(content, name)


def check_header(header: str) -> None:
    """Raise `ValueError` unless what is before the comma is that of an image in base64."""
    scheme, _, rest = header.lower().partition(":")
    if scheme != "data":
        raise ValueError("it does not start with data:")
    before, semicolon, encoding = rest.rpartition(";")
    if not semicolon or encoding.strip() != "base64":
        raise ValueError("it has no ;base64 before the comma")
    media_type = before.partition(";")[0].strip()
    if media_type and not media_type.startswith("image/"):
        raise ValueError("its media type is not an image's")


def decode_base64(body: str) -> bytes:
    """Return the bytes that base64 stands for. Raises `ValueError` for what is none.

    Each step is one pass over a text that may be large, and makes no object for each of its characters.
    """
    if "%" in body:
        for code, character in PERCENT_ENCODED.items():
            body = body.replace(code, character).replace(code.lower(), character)
    try:
        digits = body.encode("ascii").translate(None, WHITE_SPACE)
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError("its base64 is not valid") from None
