"""CSV that is damaged, or made to take memory."""

import json
import random
import tracemalloc

import pytest
from csv_files import HEAD, KEY, OPTIONS, input_of, read, through_jsonl
from helpers import MEBIBYTE

from longclip_cli.errors import LongCLIPError, RowError
from longclip_cli.formats.csv_text import Csv
from longclip_cli.rows import Mark
from longclip_cli.storage.source import open_input


def test_memory_for_many_records_is_bounded(tmp_path):
    path = tmp_path / "in.csv"
    record = b'a,"' + b"x" * 2**20 + b'\n"\n'
    with path.open("wb") as file:
        file.writelines([HEAD, *[record] * 60])
    tracemalloc.start()
    with (tmp_path / "out.csv").open("wb") as file:
        Csv().write_file(file, open_input(str(path)), iter([0.5] * 60), OPTIONS, "csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * MEBIBYTE
    assert (tmp_path / "out.csv").stat().st_size == path.stat().st_size + 60 * 5 + 28


@pytest.mark.parametrize(
    "content",
    [
        HEAD + b'a,"' + b'""' * 2**22 + b'"\n',
        HEAD + b"," * 2**23 + b"\n",
        HEAD + b'"",' * 2**21 + b"\n",
        HEAD + b'a,"' + b"\n" * 2**16 + b'"\n',
    ],
    ids=["quotes", "commas", "quoted fields", "lines"],
)
def test_a_hostile_record_needs_little_memory(content):
    source = input_of(content)
    tracemalloc.start()
    (row,) = (row for row in Csv().read_rows(source, OPTIONS, whole=True) if row is not Mark.PAUSE)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.1 * row.size + MEBIBYTE
    assert peak < 10 * len(content) + MEBIBYTE


def flipped(content: bytes, seed: int) -> bytes:
    """Return the content with one to three bytes changed, or cut."""
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(changed))] = chance.choice([chance.randrange(256), *b'",\n\r\0'])
    return bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.1 else changed)


def check_flips(seeds: range) -> None:
    """Each record is a row, or the input an error, and no byte of a record is lost."""
    lines = [f'"{i}",pictures/{i}.png,"A ""cat"",\nno {i}","{{""a"": [1]}}"' for i in range(20)]
    content = "\r\n".join(["id,image_path,text,meta", *lines, ""]).encode()
    for seed in seeds:
        changed = flipped(content, seed)
        try:
            text, rows = read(changed)
        except LongCLIPError as error:
            assert str(error).startswith("in.csv: ")
            continue
        rest = changed[changed.index(b"\n") + 1 :]
        for row in rows:
            blank, _, rest = rest.partition(text.content_of(row))
            assert not blank.strip()
        assert not rest.strip()
        for row in rows:
            result = row.inputs if isinstance(row.inputs, RowError) else 0.5
            output = text.encode_row(row, KEY, result)
            if not isinstance(row.inputs, RowError):
                body = row.origin.rstrip(b"\r\n")
                assert output == body + b",0.5," + row.origin[len(body) :]
            fields = json.loads(text.encode_line(row, KEY, result), object_pairs_hook=list)
            assert [value for name, value in fields if name == KEY] == [None if result is row.inputs else 0.5]
        through_jsonl(changed, *[0.5] * len(rows))


def test_changed_bytes_give_errors_and_lose_nothing():
    check_flips(range(60))


@pytest.mark.stress
def test_changed_bytes_give_errors_and_lose_nothing_500_times():
    check_flips(range(500))
