"""Formats of inputs and outputs, from names and first bytes."""

import gzip

import pytest

from longclip_cli.errors import InputError
from longclip_cli.formats.detect import FORMATS, detect_format, output_format
from longclip_cli.storage.source import open_input


@pytest.mark.parametrize(
    ("name", "content", "wanted", "expected"),
    [
        ("a.jsonl", b"[1]\n", None, "jsonl"),
        ("a.NDJSON", b"", None, "jsonl"),
        ("a.json", b'{"a": 1}\n', None, "jsonl"),
        ("a.json", b" \n [", None, "json"),
        ("a.json", b"\xef\xbb\xbf[", None, "json"),
        ("a.json", b"", None, "jsonl"),
        ("a.json", b'{"a": 1}\n', "json", "jsonl"),
        ("a.txt", b"[", None, "json"),
        ("a", b"{}", None, "jsonl"),
        ("a.jsonl", b"[", "json", "json"),
        ("a.json", b"[", "jsonl", "jsonl"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_name_decides_then_the_first_byte(tmp_path, name, content, wanted, expected, suffix):
    path = tmp_path / (name + suffix)
    path.write_bytes(gzip.compress(content) if suffix else content)
    source = open_input(str(path))
    assert detect_format(source, wanted).name == expected
    assert source.stream.read() == content, "nothing is taken from the input"


def test_what_cannot_be_decompressed_is_an_error(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"a.json.gz: unreadable from the start"):
        detect_format(open_input(str(path)), None)


@pytest.mark.parametrize(
    ("path", "read", "expected"),
    [
        ("-", "json", "jsonl"),
        ("x.jsonl", "json", "jsonl"),
        ("x.json", "json", "json"),
        ("x.json", "jsonl", "jsonl"),
        ("x.json.gz", "json", "json"),
        ("x.ndjson.zst", "json", "jsonl"),
        ("x", "json", "json"),
        ("x.scored", "jsonl", "jsonl"),
    ],
)
def test_an_output_is_jsonl_or_has_the_format_of_its_input(path, read, expected):
    assert output_format(path, FORMATS[read]) == expected
