"""Which format an input has, and which one an output gets."""

from __future__ import annotations

from pathlib import Path

from longclip_cli.errors import UsageError
from longclip_cli.formats.format import Format
from longclip_cli.formats.json_array import JsonArray
from longclip_cli.formats.jsonl import UTF8_BOM, Jsonl
from longclip_cli.formats.sniffing import is_tar
from longclip_cli.formats.webdataset import WebDataset
from longclip_cli.options import STANDARD_STREAM, InputFormat
from longclip_cli.storage.compression import without_compression
from longclip_cli.storage.source import Input

FORMATS: dict[InputFormat, Format] = {each.name: each for each in (Jsonl(), JsonArray(), WebDataset())}
BY_SUFFIX = {suffix: each for each in FORMATS.values() for suffix in each.suffixes}


def format_of_name(path: str) -> Format | None:
    """Return the format that a file's name says; `None` if it says none."""
    return BY_SUFFIX.get(Path(without_compression(path)).suffix.lower())


def detect_format(source: Input, wanted: InputFormat | None) -> Format:
    """Return the format of an input: the one that is wanted, else by its name, else by its first bytes.

    What is called JSON, and what has no known name, is an array or JSONL: that may have to wait for the first bytes.
    """
    known = FORMATS[wanted] if wanted else format_of_name(source.name)
    if known and not isinstance(known, JsonArray):
        return known
    if not known and is_tar(source.peek()):
        return FORMATS["webdataset"]
    return FORMATS["json" if begins_array(source) else "jsonl"]


def begins_array(source: Input) -> bool:
    """Return whether the first byte of an input that is not blank opens an array."""
    return source.peek().removeprefix(UTF8_BOM).lstrip().startswith(b"[")


def output_name(name: str) -> str:
    """Return the name that the output of an input gets in a folder, from the input's name less its compression.

    If rows are not written in the format that the name says, it gets the suffix of the one that they are written in.
    """
    named = format_of_name(name)
    if not named or named.name in named.outputs:
        return name
    return str(Path(name).with_suffix(FORMATS[named.outputs[0]].suffixes[0]))


def output_format(path: str, read: Format) -> InputFormat:
    """Return the format in which rows of the format `read` are written to `path`. Raises `UsageError`.

    Standard output takes JSONL. A file is JSONL or has the format of the input, as its name says.
    """
    if path == STANDARD_STREAM:
        return "jsonl"
    named = format_of_name(path)
    if named is None or named.name in read.outputs:
        return named.name if named else read.outputs[0]
    if isinstance(named, JsonArray):  # also a usual name for JSONL
        return "jsonl"
    raise UsageError(
        f"-o {path}: rows of {read.name} are not written as {named.name}; they can be {' or '.join(read.outputs)}"
    )
