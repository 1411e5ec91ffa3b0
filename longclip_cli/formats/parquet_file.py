"""Parquet files as record batches of bounded size; all that is broken in one is an `InputError`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from longclip_cli.errors import InputError, LongCLIPError, cut
from longclip_cli.formats.arrow_values import children, is_all_binary, is_binary
from longclip_cli.formats.parquet_pages import Column, read_pages, read_row_groups
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.formats.thrift import ThriftError
from longclip_cli.storage.compression import compressor
from longclip_cli.storage.source import Input

MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"
SMALLEST = 12  # bytes of a file: the magic number twice, and the length of the footer
MOST_SNIFFED = 4096
READ_BYTES = 2**20  # a column is read in parts of so many bytes, not whole
MOST_PAGE_BYTES = 2**30  # decompressed; writers aim at 1 MiB, but some put a row group into one page
MOST_PAGE_VALUES = 2**24  # of a column of lists: all of them could be one row's
MOST_BATCH_ROWS = 1024


class ParquetFile:
    """An opened Parquet file. Raises `InputError`, which names the file and the row group, for all that is broken."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self.name = source.name
        self.size = source.size or 0
        reject_unreadable(source)
        parquet = import_parquet()
        import pyarrow

        with self.errors("its footer"):
            descriptor = source.file.fileno()
            self.row_groups = read_row_groups(descriptor, self.size)
            path = f"/dev/fd/{descriptor}"  # which reads into pyarrow's own memory, unlike a Python file
            file = pyarrow.OSFile(path) if os.path.exists(path) else source.file  # noqa: PTH110
            self._file = parquet.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
            self.metadata: dict[bytes, bytes] = self._file.metadata.metadata or {}
            self.schema = self._file.schema_arrow
            self.names: list[str] = self.schema.names
            columns = [self._file.schema.column(index) for index in range(self._file.metadata.num_columns)]
            self.paths: list[str] = [column.path for column in columns]
            self.physical_types: list[str] = [column.physical_type for column in columns]
            self._are_repeated = [column.max_repetition_level > 0 for column in columns]
            if any(len(group.columns) != len(columns) for group in self.row_groups):
                raise ThriftError("a row group has not as many columns as the schema")

    def leaves(self, *, with_binary: Sequence[str]) -> list[str]:
        """Return the paths of the values that a row of JSON holds, and those of the columns `with_binary`, in order."""
        with self.errors("its schema"):
            wanted = [
                is_wanted or field.name in with_binary
                for field in self.schema
                for is_wanted in wanted_leaves(field.type)
            ]
        if len(wanted) != len(self.paths):  # Parquet has other columns than the types say
            return self.paths
        return [path for path, is_wanted in zip(self.paths, wanted, strict=True) if is_wanted]

    def binary_leaves(self) -> list[str]:
        """Return the paths of the values that JSON leaves out."""
        kept = set(self.leaves(with_binary=()))
        return [path for path in self.paths if path not in kept]

    def batches(self, group: int, columns: Sequence[str] | None, batch_bytes: int, most_rows: int) -> Iterator[Any]:
        """Yield the rows of a row group as record batches of at most `most_rows` rows and about `batch_bytes`.

        Only these columns, or leaves of them, are read; all for `None`. A batch has at least one row.
        """
        name = f"row group {group + 1} of {len(self.row_groups)}"
        expected = self.row_groups[group].rows
        if not expected:  # it has no pages
            return
        with self.errors(name):
            rows = self._rows_of_batch(group, columns, batch_bytes, most_rows)
            batches = self._file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
        count = 0
        while True:
            with self.errors(name):
                batch = next(batches, None)
                if batch is None:
                    break
            count += len(batch)
            yield batch
            del batch
        del batches  # which holds its last pages
        release_unused()
        if count != expected:
            raise InputError(f"{self.name}: {name} has {count} rows, not {expected} as its footer says")

    def _rows_of_batch(self, group: int, columns: Sequence[str] | None, batch_bytes: int, most_rows: int) -> int:
        """Return how many rows a batch has. Raise `ThriftError` for pages that would take too much memory.

        A value of a dictionary can be repeated in each row, so a row is taken to be as large as a dictionary, except
        in columns that stay dictionaries.
        """
        rows = max(1, self.row_groups[group].rows)
        size = 0
        for index, column in enumerate(self.row_groups[group].columns):
            path = self.paths[index]
            if columns is None or any(path == name or path.startswith(f"{name}.") for name in columns):
                size += column.uncompressed // rows + self._largest_expanding(index, column)
        return max(1, min(most_rows, batch_bytes // max(1, size)))

    def _largest_expanding(self, index: int, column: Column) -> int:
        """Return how many bytes one value of a column may have if many could share them. Raise `ThriftError`."""
        path, largest = self.paths[index], 0
        is_counted = self.physical_types[index] == "BYTE_ARRAY" and not self._stays_dictionary(path)
        for page in read_pages(self._source.file.fileno(), column):
            if page.uncompressed > MOST_PAGE_BYTES:
                raise ThriftError(f"a page of column '{cut(path)}' has {page.uncompressed} bytes")
            if self._are_repeated[index] and page.values > MOST_PAGE_VALUES:
                raise ThriftError(f"a page of column '{cut(path)}' has {page.values} values")
            if page.expands and is_counted:
                largest = max(largest, page.uncompressed)
        return largest

    def _stays_dictionary(self, path: str) -> bool:
        from pyarrow import types

        return any(field.name == path and types.is_dictionary(field.type) for field in self.schema)

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn all that pyarrow raises into an `InputError` that names the file and what of it cannot be read."""
        try:
            yield
        except LongCLIPError:
            raise
        except Exception as error:  # pyarrow has many kinds, among them OSError, ValueError and MemoryError
            reason = cut(str(error).partition("\n")[0]) or type(error).__name__
            raise InputError(f"{self.name}: {what} cannot be read: {reason}; get or write the file again") from error


def release_unused() -> None:
    """Give memory that pyarrow holds for its next use back, which may be as much as a row group."""
    import pyarrow

    pyarrow.default_memory_pool().release_unused()


def import_parquet() -> Any:
    """Return pyarrow's module for Parquet. Raise `InputError` if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("Parquet needs the pyarrow package: pip install 'longclip-cli[parquet]'") from error
    return pyarrow.parquet


def reject_unreadable(source: Input) -> None:
    """Raise `InputError` for a pipe, and for a file whose first or last bytes show that it is not Parquet."""
    if source.is_live:
        raise InputError(
            f"{source.name}: Parquet cannot be read from a pipe; give its file as INPUT, or redirect it with < FILE"
        )
    try:
        size = source.size or 0
        head, tail = (os.pread(source.file.fileno(), MOST_SNIFFED, begin) for begin in (0, max(0, size - len(MAGIC))))
    except OSError as error:
        raise InputError(f"cannot read {source.name}: {error.strerror}") from error
    if tool := compressor(head):
        raise InputError(f"{source.name}: is compressed; decompress it to a file first: {tool} FILE > FILE.parquet")
    if ENCRYPTED_MAGIC in (head[:4], tail[:4]):
        raise InputError(f"{source.name}: is encrypted Parquet; decrypt it first")
    if not head:
        raise InputError(f"{source.name}: empty, not a Parquet file")
    if not head.startswith(MAGIC):
        raise InputError(f"{source.name}: not a Parquet file; it {seems_to_be(head)}")
    if tail[:4] != MAGIC or size < SMALLEST:
        raise InputError(f"{source.name}: has no Parquet footer, as a file that was cut; get or write the file again")


def wanted_leaves(kind: Any) -> list[bool]:
    """Return for each column that Parquet makes of a type whether a row of JSON holds its values."""
    from pyarrow import types

    inside = children(kind)
    if not inside:
        return [not is_binary(kind)]
    if types.is_map(kind) and is_all_binary(kind):
        return [False for child in inside for _ in wanted_leaves(child)]
    return [is_wanted for child in inside for is_wanted in wanted_leaves(child)]
