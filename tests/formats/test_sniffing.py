"""Inputs that are not JSONL, recognised by their first bytes."""

import io
import json
import tarfile
import zipfile

import pytest
from helpers import parquet

from longclip_cli.formats.sniffing import looks_like, seems_to_be

ROWS = [{"image_path": "a.png", "text": "A cat"}] * 3


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "A cat")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (parquet(ROWS), "a Parquet file"),
        (tar(), "a tar file"),
        (zipped(), "a zip file"),
        (json.dumps(ROWS).encode(), "a JSON array"),
        (json.dumps(ROWS, indent=1).encode(), "a JSON array"),
        (json.dumps(ROWS[0], indent=1).encode(), "JSON over several lines"),
        (b"{'image_path': 'a.png', 'text': 'A cat'}\n", "JSON with errors"),
        (json.dumps(ROWS[0]).encode("utf-16"), "UTF-16 text"),
        (json.dumps(ROWS[0]).encode("utf-16-le"), "UTF-16 text"),
        (json.dumps(ROWS[0]).encode("utf-16-be"), "UTF-16 text"),
        (b"\0\1\2\3", "a binary file"),
        (b"image_path,text\na.png,A cat\n", "CSV"),
        (b"\xef\xbb\xbfimage_path\ttext, too\n", "TSV"),
        (b"<!doctype html>", "HTML or XML"),
        (b"A cat sat on a mat.\n", "plain text"),
    ],
)
def test_formats_are_known_by_their_first_bytes(content, kind):
    assert looks_like(content) == kind


def test_the_error_says_how_to_convert_it():
    assert seems_to_be(b'[{"a": 1}]') == "looks like a JSON array; add --input-format json"
    assert seems_to_be(b"a,b\n") == "looks like CSV; give JSONL, one JSON object a line"
