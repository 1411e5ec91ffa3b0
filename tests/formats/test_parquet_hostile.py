"""Broken and hostile Parquet files: a clear error, or rows; never the end of the process."""

import io
import random
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ENVIRONMENT, IMAGES, MEBIBYTE, PICTURES, linux_only, longclip_score
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import InputError
from longclip_cli.formats import parquet_file
from longclip_cli.formats.parquet import Parquet
from longclip_cli.formats.parquet_pages import read_pages, read_row_groups
from longclip_cli.formats.thrift import CompactReader, ThriftError
from longclip_cli.options import ScoringOptions
from longclip_cli.storage.source import open_input

OPTIONS = ScoringOptions(image_key="image", image_root=IMAGES)
COUNT = 30
TABLE = pa.table(
    {
        "image": [{"bytes": bytes([i]) * 50, "path": f"{i}.png"} for i in range(COUNT)],
        "text": pa.array([f"text {i % 3}" for i in range(COUNT)]).dictionary_encode(),
        "list": [["a", None, "b"], None, []] * (COUNT // 3),
        "number": list(range(COUNT)),
        "word": ["wörd"] * COUNT,
        "time": pa.array([1] * COUNT, pa.timestamp("us", "UTC")),
    }
)
SETTINGS = [
    {},
    {"data_page_version": "2.0", "compression": "zstd", "write_page_index": True},
    {
        "use_dictionary": False,
        "compression": "gzip",
        "column_encoding": {"word": "DELTA_BYTE_ARRAY", "number": "DELTA_BINARY_PACKED"},
    },
]


def parquet_bytes(table, **settings):
    file = io.BytesIO()
    pq.write_table(table, file, **settings)
    return file.getvalue()


def read(path, *, whole=False):
    """Return the rows of a file, which is written again if they are whole."""
    rows = list(Parquet().read_rows(open_input(str(path)), OPTIONS, whole=whole))
    if whole:
        for row in rows:
            Parquet().encode_line(row, "clip_score", 0.5)
        with Path(f"{path}.out").open("wb") as file:
            Parquet().write_file(file, open_input(str(path)), iter([0.5] * len(rows)), OPTIONS, "parquet")
    return rows


def read_bytes(tmp_path, content, **how):
    (tmp_path / "in.parquet").write_bytes(content)
    return read(tmp_path / "in.parquet", **how)


def flipped(content, seed):
    """Return some bytes with a few bits turned, half of them near the end, where the footer is; or cut."""
    generator, content = random.Random(seed), bytearray(content)
    for _ in range(generator.choice((1, 1, 3))):
        first = generator.choice((0, max(0, len(content) - 1800)))
        content[generator.randrange(first, len(content))] ^= 1 << generator.randrange(8)
    return content[: generator.randrange(len(content))] if generator.random() < 0.1 else content


def read_all_flipped(count, folder):
    """Read `count` files with turned bits, each for Parquet and for JSONL; print the counts of rows and errors."""
    contents = [parquet_bytes(TABLE, row_group_size=8, **settings) for settings in SETTINGS]
    path, whole, failed = f"{folder}/in.parquet", 0, 0
    for seed in range(count):
        Path(path).write_bytes(flipped(contents[seed % len(contents)], seed))
        for is_whole in (False, True):
            try:
                assert len(read(path, whole=is_whole)) == COUNT, seed
                whole += 1
            except InputError as error:
                assert str(error).startswith(f"{path}: "), error
                failed += 1
    print(whole, failed)


def check_flipped(count, folder):
    """Read files with turned bits in a process of their own: pyarrow might end it."""
    command = [sys.executable, __file__, str(count), str(folder)]
    run = subprocess.run(
        command,
        env=ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    whole, failed = map(int, run.stdout.split())
    assert whole + failed == 2 * count
    assert min(whole, failed) > count / 10


def test_60_files_with_turned_bits_give_rows_or_an_error(tmp_path):
    check_flipped(60, tmp_path)


@pytest.mark.stress
def test_500_files_with_turned_bits_give_rows_or_an_error(tmp_path):
    check_flipped(500, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, not a Parquet file"),
        (b"PAR1", "has no Parquet footer, as a file that was cut"),
        (b"PAR1PAR1", "has no Parquet footer"),
        (b'{"a": 1}\n', "not a Parquet file; it looks like JSON"),
        (b"PAR1" + b"\0" * 20 + b"PARE", "is encrypted Parquet; decrypt it first"),
        (b"PARE" + b"\0" * 20 + b"PARE", "is encrypted Parquet; decrypt it first"),
        (b"PAR1" + b"\0" * 20 + struct.pack("<I", 2**32 - 1) + b"PAR1", "it is said to have 4294967295 bytes"),
        (b"PAR1" + b"\x0c" * 40 + struct.pack("<I", 30) + b"PAR1", "its footer cannot be read"),
        (b"\x1f\x8b\x08", "is compressed; decompress it to a file first: zcat"),
    ],
)
def test_what_is_no_parquet_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_bytes(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'in.parquet'}: ")


@given(st.integers(0, 2500))
def test_a_file_that_was_cut_has_no_footer(tmp_path_factory, size):
    content = parquet_bytes(TABLE)
    folder = tmp_path_factory.mktemp("cut")
    with pytest.raises(InputError, match=r"in\.parquet"):
        read_bytes(folder, content[: min(size, len(content) - 1)])


def test_rows_before_a_broken_row_group_are_kept(tmp_path):
    content = bytearray(parquet_bytes(TABLE, row_group_size=10, compression="none", use_dictionary=False))
    begin = content.index(b"text 0", content.index(bytes([10]) * 50)) - 4
    content[begin : begin + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "in.parquet").write_bytes(content)
    rows = Parquet().read_rows(open_input(str(tmp_path / "in.parquet")), OPTIONS, whole=False)
    assert [next(rows).number for _ in range(10)] == list(range(1, 11))
    with pytest.raises(
        InputError, match=r"in.parquet: row group 2 of 3 cannot be read: .*; get or write the file again"
    ):
        next(rows)


def varint(value):
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def nested_schema(depth):
    """Return a Parquet file whose only column is nested this deeply, as no writer would make it."""
    group, leaf = b"\x35\x02\x18\x01a\x15\x02\0", b"\x15\x02\x25\x02\x18\x01x\0"
    elements = b"\x48\x01r\x15\x02\0" + group * depth + leaf
    footer = b"\x15\x02\x19\xfc" + varint(depth + 2) + elements + b"\x16\0\x19\x0c\0"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


@pytest.mark.parametrize("depth", [1000, 500_000])
def test_a_schema_that_is_nested_too_deeply_is_an_error(tmp_path, depth):
    assert read_bytes(tmp_path, nested_schema(3)) == []
    with pytest.raises(InputError, match="too deeply nested"):
        read_bytes(tmp_path, nested_schema(depth))


def test_rows_of_any_depth_that_pyarrow_reads_become_json(tmp_path):
    value, kind = "leaf", pa.string()
    for _ in range(60):
        value, kind = {"a": value}, pa.struct([("a", kind)])
    assert len(read_bytes(tmp_path, parquet_bytes(pa.table({"x": pa.array([value], kind)})), whole=True)) == 1


def test_fewer_rows_than_the_footer_says_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_file, "read_row_groups", lambda *_: [grown(group) for group in read_row_groups(*_)])
    with pytest.raises(InputError, match="row group 1 of 1 has 30 rows, not 31 as its footer says"):
        read_bytes(tmp_path, parquet_bytes(TABLE))


def grown(group):
    return type(group)(group.rows + 1, group.columns)


def test_a_page_that_would_expand_beyond_the_bound_is_an_error(tmp_path, monkeypatch):
    content = parquet_bytes(pa.table({"image": ["a.png"], "text": ["x" * 5000]}), use_dictionary=False)
    assert len(read_bytes(tmp_path, content)) == 1
    monkeypatch.setattr(parquet_file, "MOST_PAGE_BYTES", 4000)
    with pytest.raises(InputError, match=r"row group 1 of 1 cannot be read: a page of column 'text' has 50\d\d bytes"):
        read_bytes(tmp_path, content)


def test_a_list_of_a_billion_values_in_a_few_bytes_is_an_error(tmp_path, monkeypatch):
    content = parquet_bytes(pa.table({"image": ["a.png"], "text": [["same"] * 5000]}))
    assert len(content) < 5000
    assert len(read_bytes(tmp_path, content)) == 1
    monkeypatch.setattr(parquet_file, "MOST_PAGE_VALUES", 4000)
    with pytest.raises(InputError, match=r"a page of column 'text.list.element' has 5000 values"):
        read_bytes(tmp_path, content)


@pytest.mark.parametrize("encoding", [{}, {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}])
@linux_only
def test_a_value_that_all_rows_share_is_not_expanded(tmp_path, encoding):
    """100 rows of one value of 4 MB are 400 MB; the file has 4 MB. They are read a few at a time."""
    value = (PICTURES / "rocket.jpg").read_bytes().ljust(4 * MEBIBYTE, b"\0")
    table = pa.table({"image": pa.array([value]).take(pa.array([0] * 100)), "text": ["a"] * 100})
    content = parquet_bytes(table, dictionary_pagesize_limit=2**30, **encoding)
    del table
    assert len(content) < 10 * MEBIBYTE
    (tmp_path / "in.parquet").write_bytes(content)
    batches = parquet_file.ParquetFile(open_input(str(tmp_path / "in.parquet"))).batches(
        0, ["image"], 16 * MEBIBYTE, 1000
    )
    assert max(batch.nbytes for batch in batches) < 32 * MEBIBYTE


def test_the_command_names_the_broken_file(tmp_path):
    (tmp_path / "in.parquet").write_bytes(parquet_bytes(TABLE)[:-300])
    run = longclip_score("in.parquet", "-o", "out.parquet", "-m", "demo", cwd=tmp_path)
    assert run.returncode == 1
    assert b"in.parquet: has no Parquet footer, as a file that was cut; get or write the file again" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


@given(st.binary(max_size=300))
def test_any_bytes_are_thrift_or_an_error(content):
    with suppress(IndexError, ThriftError):
        CompactReader(content).struct()


def test_row_groups_and_pages_are_those_that_pyarrow_reads(tmp_path):
    path = tmp_path / "in.parquet"
    for settings in SETTINGS:
        pq.write_table(TABLE, path, row_group_size=8, **settings)
        expected = pq.read_metadata(path)
        with path.open("rb") as file:
            groups = read_row_groups(file.fileno(), path.stat().st_size)
            assert [group.rows for group in groups] == [8, 8, 8, 6]
            for index, group in enumerate(groups):
                for place, column in enumerate(group.columns):
                    other = expected.row_group(index).column(place)
                    assert (column.path, column.compressed) == (other.path_in_schema, other.total_compressed_size)
                    assert column.uncompressed == other.total_uncompressed_size
                    assert column.codec == other.compression
                    assert column.has_dictionary == other.has_dictionary_page
                    assert column.has_statistics == other.is_stats_set
                    pages = list(read_pages(file.fileno(), column))
                    assert sum(page.values for page in pages[column.has_dictionary :]) == other.num_values
                    assert 0 < sum(page.uncompressed for page in pages) <= column.uncompressed


if __name__ == "__main__":
    read_all_flipped(int(sys.argv[1]), sys.argv[2])
