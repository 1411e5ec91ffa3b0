"""What an input that is no JSONL looks like, from its first bytes."""

from __future__ import annotations

MAGIC_NUMBERS = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF file",
    b"SQLite format 3\0": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"<": "HTML or XML",
    b"[": "a JSON array",
}
TAR_MAGIC_OFFSET = 257
CONVERSIONS = {
    "UTF-16 text": "convert it with iconv -f UTF-16 -t UTF-8",
    "a JSON array": "add --input-format json",
    "CSV": "add --input-format csv",
    "TSV": "add --input-format tsv",
    "a Parquet file": "add --input-format parquet",
    "a tar file": "add --input-format webdataset",
    "JSON over several lines": "convert it with jq -c .",
}


def looks_like(content: bytes) -> str:
    """Return what a file that begins with `content` seems to be, such as "a Parquet file" or "CSV"."""
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in MAGIC_NUMBERS.items():
        if content.startswith(magic) or start.startswith(magic):
            return name
    if is_tar(content):
        return "a tar file"
    first_line = start.partition(b"\n")[0]
    if b"\0" in first_line:
        # Every second byte of ASCII text in UTF-16 is NUL.
        halves = first_line[::2].strip(b"\0"), first_line[1::2].strip(b"\0")
        return "UTF-16 text" if b"" in halves else "a binary file"
    if first_line.startswith(b"{"):
        return "JSON with errors" if first_line.rstrip().endswith(b"}") else "JSON over several lines"
    for separator, name in ((b"\t", "TSV"), (b",", "CSV")):
        if separator in first_line:
            return name
    return "plain text"


def is_tar(content: bytes) -> bool:
    """Return whether a file that begins with `content` is a tar archive. Those of before 1988 are not recognised."""
    return content[TAR_MAGIC_OFFSET:].startswith(b"ustar")


def seems_to_be(content: bytes) -> str:
    """Return, for an error message, what an input seems to be and how to make JSONL of it."""
    kind = looks_like(content)
    return f"looks like {kind}; {CONVERSIONS.get(kind, 'give JSONL, one JSON object a line')}"
