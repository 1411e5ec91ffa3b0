"""The Parquet file that a scored input becomes: its columns and row groups as they were, and the results."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, BinaryIO, TypeAlias

from longclip_cli.errors import InputError, cut
from longclip_cli.formats.parquet_file import ParquetFile, import_parquet
from longclip_cli.formats.parquet_metadata import with_columns
from longclip_cli.formats.results import SCORE_DECIMALS
from longclip_cli.options import error_key
from longclip_cli.rows import Result, Score, error_of

ROW_GROUP_BYTES = 512 * 2**20  # decompressed; as much as rows may hold while they are scored
BATCH_BYTES = 64 * 2**20
MOST_BATCH_ROWS = 2**16
PAGE_BYTES = 2**20
MOST_PAGE_ROWS = 1024  # before the writer looks at a page's size
ARROW_KEY = b"ARROW:schema"  # which the writer makes itself

log = logging.getLogger(__name__)
Part: TypeAlias = tuple[list[Any], list[Result]]  # record batches and the results of their rows


def write_scored(
    file: BinaryIO, read: ParquetFile, results: Iterator[Result], output_key: str, *, is_list: bool
) -> None:
    """Write the rows of a file with their results, as many as there are results.

    One row group at a time is held in memory. Raises `InputError` and `OSError`.
    """
    names = (output_key, error_key(output_key))
    kept = [index for index, name in enumerate(read.names) if name not in names]
    with read.errors("its schema"):
        schema = scored_schema(read, kept, names, is_list=is_list)
        score, error = names
        settings = writer_settings(read, [score, f"{score}.list.element", error])
    with open_writer(file, read.name, schema, settings) as writer:
        for batches, part in scored_parts(read, results, kept):
            write_group(writer, batches, part, is_list=is_list)
            batches.clear()  # or the next row group would be read while this one is still held


@contextmanager
def open_writer(file: BinaryIO, name: str, schema: Any, settings: dict[str, Any]) -> Iterator[Any]:
    """Yield a writer of row groups; the file is complete at the end of the `with` block."""
    with writing_errors(name):
        writer = import_parquet().ParquetWriter(file, schema, **settings)
        try:
            yield writer
        except BaseException:
            with suppress(Exception):  # or it would be closed later, when nobody expects an error
                writer.close()
            raise
        writer.close()


def write_group(writer: Any, batches: list[Any], results: list[Result], *, is_list: bool) -> None:
    """Write a row group: the columns of its record batches, and the results."""
    import pyarrow

    scores, errors = result_arrays(results, is_list=is_list)
    schema = pyarrow.schema(list(writer.schema)[:-2])
    columns = pyarrow.Table.from_batches(batches, schema).columns
    table = pyarrow.Table.from_arrays([*columns, scores, errors], schema=writer.schema)
    writer.write_table(table, row_group_size=max(1, len(table)))


@contextmanager
def writing_errors(name: str) -> Iterator[None]:
    """Turn what pyarrow cannot write, though it could read it, into an `InputError`. Errors of the disk are kept."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, MemoryError) as error:
        reason = cut(str(error).partition("\n")[0])
        raise InputError(f"{name}: pyarrow cannot write it again: {reason}; use -o FILE.jsonl") from error


def scored_parts(read: ParquetFile, results: Iterator[Result], kept: list[int]) -> Iterator[Part]:
    """Yield what becomes a row group: one of the input, or a part of a large one, with the columns that are kept."""
    is_split = False
    for group in range(len(read.row_groups)):
        batches: list[Any] = []
        found: list[Result] = []
        size = 0
        for batch in read.batches(group, None, BATCH_BYTES, MOST_BATCH_ROWS):
            if size and size + batch.nbytes > ROW_GROUP_BYTES:
                if not is_split:
                    log.warning("%s: row groups of more than %d MiB are split", read.name, ROW_GROUP_BYTES // 2**20)
                is_split = True
                yield batches, found
                batches, found, size = [], [], 0
            scored = list(islice(results, len(batch)))
            if scored:
                batches.append(batch.select(kept).slice(0, len(scored)))
                found += scored
                size += batch.nbytes
            if len(scored) < len(batch):
                if found:
                    yield batches, found
                return
        yield batches, found


def scored_schema(read: ParquetFile, kept: list[int], names: tuple[str, str], *, is_list: bool) -> Any:
    """Return the schema of the output: the columns that are kept, the results, and the metadata of both."""
    import pyarrow

    metadata = {key: value for key, value in read.metadata.items() if key != ARROW_KEY}
    fields = [read.schema.field(index) for index in kept]
    fields += [pyarrow.field(names[0], score_type(is_list=is_list)), pyarrow.field(names[1], pyarrow.string())]
    return pyarrow.schema(fields, metadata=with_columns(metadata, names, is_list=is_list) or None)


def writer_settings(read: ParquetFile, added: list[str]) -> dict[str, Any]:
    """Return how the output is written: as the first row group of the input, as far as its metadata says.

    `added` are the paths of columns that the input does not have.
    """
    settings: dict[str, Any] = {
        "store_schema": ARROW_KEY in read.metadata,
        "use_compliant_nested_type": False,  # which keeps the names of elements; others would be renamed
        "use_deprecated_int96_timestamps": "INT96" in read.physical_types,
    }
    if not read.row_groups:
        return settings
    first = read.row_groups[0]
    codecs = [column.codec for column in first.columns]
    codec = next((codec for codec in reversed(codecs) if codec != "NONE"), "NONE")
    with_dictionary = [path for path, column in zip(read.paths, first.columns, strict=True) if column.has_dictionary]
    with_statistics = [path for path, column in zip(read.paths, first.columns, strict=True) if column.has_statistics]
    return settings | {
        "compression": dict(zip(read.paths, codecs, strict=True)) | dict.fromkeys(added, codec),
        "use_dictionary": with_dictionary or False,
        "write_statistics": [*with_statistics, *added],
        "write_page_index": any(column.has_index for column in first.columns),
        "write_batch_size": max(1, min(MOST_PAGE_ROWS, PAGE_BYTES // max(1, first.row_bytes))),
    }


def score_type(*, is_list: bool) -> Any:
    """Return the type of the column of scores."""
    import pyarrow

    return pyarrow.list_(pyarrow.field("element", pyarrow.float64())) if is_list else pyarrow.float64()


def result_arrays(results: list[Result], *, is_list: bool) -> tuple[Any, Any]:
    """Return results as two columns: scores, and why a row has none."""
    import pyarrow

    scores = [score_cell(result, is_list=is_list) for result in results]
    errors = [None if error is None else plain(str(error)) for error in map(error_of, results)]
    return pyarrow.array(scores, score_type(is_list=is_list)), pyarrow.array(errors, pyarrow.string())


def score_cell(result: Result, *, is_list: bool) -> float | list[float | None] | None:
    """Return a result as its column holds it. A row that failed as a whole has null, also where others have lists."""
    if isinstance(result, tuple):
        cells = [number(score) for score in result]
        return cells if is_list else None
    cell = number(result)
    return [cell] if is_list and cell is not None else cell


def number(score: Score) -> float | None:
    """Return a score, rounded as in all formats; `None` if it failed."""
    return round(score, SCORE_DECIMALS) if isinstance(score, float) else None


def plain(text: str) -> str:
    """Return a text that UTF-8 can hold: lone surrogates become `\\udc00`."""
    return text.encode("utf-8", "backslashreplace").decode()
