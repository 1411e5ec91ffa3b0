"""The first record of comma- or tab-separated text, which names the columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from longclip_cli.errors import InputError, Reason, RowError, cut
from longclip_cli.formats.dialects import UTF8_BOM, Dialect, split_end
from longclip_cli.formats.lines import MOST_SNIFFED
from longclip_cli.formats.records import TextRecord
from longclip_cli.formats.selectors import parse_selector
from longclip_cli.formats.sniffing import looks_like, seems_to_be
from longclip_cli.options import ScoringOptions, error_key
from longclip_cli.storage.source import Input

MAX_HEADER_BYTES = 2**20  # a name takes ten times its bytes or more
SEPARATORS = {
    "\t": "use --input-format tsv",
    ",": "use --input-format csv",
    ";": "convert it, for example with pandas.read_csv(FILE, sep=';')",
    "|": "convert it, for example with pandas.read_csv(FILE, sep='|')",
}
CR_BEFORE_QUOTE = re.compile(rb'[^"\r]*+\r')
CONVERT_TO_UTF8 = "convert it to UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8"


@dataclass(frozen=True)
class Header:
    """The columns of an input.

    `fields` are the names as read, `end` is the line end, `start` a byte order mark or nothing. `read` says which
    columns hold what is scored. `kept` are the columns that are written: all but those that the result replaces.
    """

    start: bytes
    fields: tuple[bytes, ...]
    end: bytes
    names: tuple[str, ...]
    read: dict[str, int]
    kept: tuple[int, ...]
    output_key: str


def read_header(source: Input, record: TextRecord | None, dialect: Dialect, options: ScoringOptions) -> Header:
    """Return the columns that the first record of an input names.

    Raise `InputError` if it names none, or if a key of the options names two of them.
    """
    if record is None:
        raise InputError(f"{source.name}: empty; its first line should name the columns")
    if CR_BEFORE_QUOTE.match(split_end(record.content)[0]):
        raise InputError(f"{source.name}: its lines end with CR only; convert them with tr '\\r' '\\n'")
    if len(record.content) > MAX_HEADER_BYTES:
        raise InputError(
            f"{source.name}: line {record.number}, which should name the columns, has more than {MAX_HEADER_BYTES} "
            "bytes; is it a header, and does it close its quotation marks?"
        )
    body, end = split_end(record.content)
    start = UTF8_BOM if body.startswith(UTF8_BOM) else b""
    body = body.removeprefix(UTF8_BOM)
    check_header(source, record, body, dialect)
    fields = tuple(dialect.split(body, len(body) + 1))
    names = tuple(dialect.unquote(field).decode() for field in fields)
    replaced = (options.output_key, error_key(options.output_key))
    kept = tuple(index for index, name in enumerate(names) if name not in replaced)
    return Header(start, fields, end, names, columns_read(source, names, options), kept, options.output_key)


def check_header(source: Input, record: TextRecord, body: bytes, dialect: Dialect) -> None:
    """Raise `InputError` if a header is no text, or its quotes are broken."""
    if error := text_error(body, record.number, dialect):
        kind = looks_like(record.content[:MOST_SNIFFED])
        advice = (
            CONVERT_TO_UTF8
            if kind in ("CSV", "TSV", "plain text")
            else f"the file {seems_to_be(record.content[:MOST_SNIFFED])}"
        )
        raise InputError(f"{source.name}: {error}; {advice}")


def text_error(body: bytes, number: int, dialect: Dialect) -> RowError | None:
    """Return why a record is no text whose fields are certain; `None` if it is."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        where = f"byte 0x{body[error.start]:02x} at position {error.start + 1}"
        return RowError.of_line(Reason.NOT_UTF8, number, where)
    if b"\0" in body:
        return RowError.of_line(Reason.NUL_BYTE, number, f"at position {body.index(0) + 1}")
    if not dialect.is_well_formed(body):
        return RowError.of_line(Reason.AFTER_QUOTE, number, 'is one missing, or not doubled ("")?')
    return None


def columns_read(source: Input, names: tuple[str, ...], options: ScoringOptions) -> dict[str, int]:
    """Return which columns hold what is scored, by name. A name that is missing is each row's error.

    Raise `InputError` for a name that two columns have, or if the input seems to have another separator.
    """
    wanted = [parse_selector(key).name for key in (options.image_key, *options.text_key)]
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(
                f"{source.name}: {names.count(name)} columns have the name '{cut(name)}', which is to be read; "
                "rename them, or choose different columns with --image-key and --text-key"
            )
    found = {name: names.index(name) for name in wanted if name in names}
    if len(names) == 1 and not found and (separator := next((each for each in SEPARATORS if each in names[0]), None)):
        raise InputError(
            f"{source.name}: has only one column, '{cut(names[0])}'; its fields seem to be separated by "
            f"{'tabs' if separator == chr(9) else separator}: {SEPARATORS[separator]}"
        )
    return found
