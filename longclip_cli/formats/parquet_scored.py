"""Parquet files that have been scored: the results of their rows, and some of their rows as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, BinaryIO

from longclip_cli.formats.parquet_file import ParquetFile
from longclip_cli.formats.parquet_output import (
    ARROW_KEY,
    BATCH_BYTES,
    MOST_BATCH_ROWS,
    ROW_GROUP_BYTES,
    open_writer,
    writer_settings,
)
from longclip_cli.formats.parquet_rows import Origin, RowReader
from longclip_cli.formats.results import result_of
from longclip_cli.options import ScoringOptions, error_key
from longclip_cli.rows import Result, Row


def read_results(file: ParquetFile, options: ScoringOptions) -> Iterator[tuple[Row, Result | None]]:
    """Yield the rows of a scored file with their results. Raises `InputError`."""
    key = options.output_key
    reader = RowReader(file, options, whole=False, also=(key, error_key(key)))
    for row, values in reader.rows_and_values():
        result = result_of(values, key)
        if result is None and key in values:
            origin: Origin = row.origin
            row = replace(row, origin=Origin(origin.members, {**origin.fields, key: values[key]}))
        yield row, result


def write_chosen(file: BinaryIO, read: ParquetFile, chosen: Iterator[bool]) -> None:
    """Write the chosen rows with all columns, types and metadata. A row group of which none is chosen is left out.

    One row group at a time is held in memory. Raises `InputError` and `OSError`.
    """
    import pyarrow

    with read.errors("its schema"):
        metadata = {key: value for key, value in read.metadata.items() if key != ARROW_KEY}
        schema = read.schema.with_metadata(metadata or None)
        settings = writer_settings(read, added=[])
    with open_writer(file, read.name, schema, settings) as writer:
        for batches in chosen_parts(read, chosen):
            table = pyarrow.Table.from_batches(batches, schema)
            batches.clear()  # or the next row group would be read while this one is still held
            writer.write_table(table, row_group_size=len(table))
            del table


def chosen_parts(read: ParquetFile, chosen: Iterator[bool]) -> Iterator[list[Any]]:
    """Yield the chosen rows of each row group as record batches; those of a large one in parts."""
    for group in range(len(read.row_groups)):
        batches: list[Any] = []
        size = 0
        for batch in read.batches(group, None, BATCH_BYTES, MOST_BATCH_ROWS):
            places = [place for place, is_chosen in enumerate(islice(chosen, len(batch))) if is_chosen]
            added = batch.nbytes * len(places) // len(batch)
            if batches and size + added > ROW_GROUP_BYTES:
                yield batches
                batches, size = [], 0
            if places:
                batches.append(rows_at(batch, places))
                size += added
        if batches:
            yield batches


def rows_at(batch: Any, places: list[int]) -> Any:
    """Return these rows of a record batch."""
    import pyarrow

    try:
        return batch.take(pyarrow.array(places))
    except pyarrow.ArrowNotImplementedError:  # as of strings that are views, which polars writes
        return pyarrow.concat_batches([batch.slice(place, 1) for place in places])
