"""CSV and TSV in memory, read and written, for the tests of these formats."""

from __future__ import annotations

import io

from longclip_cli.formats.csv_text import Csv, SeparatedText
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark, Row
from longclip_cli.storage.source import Input

KEY = "clip_score"
OPTIONS = ScoringOptions()
HEAD = b"image_path,text\n"
BOM = b"\xef\xbb\xbf"


def input_of(content: bytes) -> Input:
    file = io.BytesIO(content)
    return Input("in.csv", file, file, len(content), "in.csv")


def read(
    content: bytes, options: ScoringOptions = OPTIONS, kind: type[SeparatedText] = Csv
) -> tuple[SeparatedText, list[Row]]:
    """Return the format that has read the content, and the rows."""
    text = kind()
    rows = [row for row in text.read_rows(input_of(content), options, whole=True) if row is not Mark.PAUSE]
    return text, rows


def scored(content: bytes, *scores, options: ScoringOptions = OPTIONS, kind: type[SeparatedText] = Csv) -> bytes:
    """Return the finished file, which is the same whether it is streamed or assembled at the end."""
    text, rows = read(content, options, kind)
    results = [*scores, *[0.5] * (len(rows) - len(scores))]
    streamed = [text.encode_row(row, options.output_key, result) for row, result in zip(rows, results, strict=True)]
    file = io.BytesIO()
    kind().write_file(file, input_of(content), iter(results), options, kind.name)
    assert file.getvalue() == b"".join([text.stream_start(), *streamed])
    return file.getvalue()


def through_jsonl(content: bytes, *scores, options: ScoringOptions = OPTIONS, kind: type[SeparatedText] = Csv) -> bytes:
    """Return the finished file of an input that cannot be read again."""
    text, rows = read(content, options, kind)
    file = io.BytesIO()
    lines = [text.encode_line(row, options.output_key, score) for row, score in zip(rows, scores, strict=True)]
    text.write_lines(file, iter(lines))
    return file.getvalue()
