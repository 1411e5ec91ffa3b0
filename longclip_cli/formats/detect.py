"""Which format an input has, and which one an output gets."""

from __future__ import annotations

from pathlib import Path

from longclip_cli.errors import UsageError
from longclip_cli.formats.csv_text import Csv, Tsv
from longclip_cli.formats.format import Format
from longclip_cli.formats.json_array import JsonArray
from longclip_cli.formats.jsonl import UTF8_BOM, Jsonl
from longclip_cli.formats.parquet import Parquet
from longclip_cli.formats.parquet_file import MAGIC
from longclip_cli.formats.sniffing import is_tar
from longclip_cli.formats.webdataset import WebDataset
from longclip_cli.options import STANDARD_STREAM, InputFormat
from longclip_cli.storage.compression import compression_of, without_compression
from longclip_cli.storage.source import Input

ALL = (Jsonl(), JsonArray(), Csv(), Tsv(), Parquet(), WebDataset())
FORMATS: dict[InputFormat, Format] = {each.name: each for each in ALL}
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
        return known.for_input()
    if not known and source.peek().startswith(MAGIC):
        return FORMATS["parquet"]
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


def output_format(path: str, read: Format, *, is_stream: bool) -> InputFormat:
    """Return the format in which rows of the format `read` are written to `path`. Raises `UsageError`.

    A file is JSONL or has the format of the input, as its name says. A stream, which cannot be assembled at the end,
    takes only formats that are written row by row.
    """
    possible = [name for name in read.outputs if FORMATS[name].streams or not is_stream]
    named = None if path == STANDARD_STREAM else format_of_name(path)
    if named and named.seeks and (suffix := compression_of(path)):
        raise UsageError(f"-o {path}: {named.name} is not compressed as a whole; remove {suffix} from the name")
    if named is None or named.name in possible:
        return named.name if named else possible[0]
    if isinstance(named, JsonArray):  # also a usual name for JSONL
        return "jsonl"
    raise UsageError(
        f"-o {path}: rows of {read.name} are not written as {named.name}; they can be {' or '.join(possible)}"
    )
