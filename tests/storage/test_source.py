"""Files, compressed files and standard input as lines."""

import bz2
import gzip
import lzma
import subprocess
import sys

import pytest
import zstandard
from helpers import longclip_score
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import InputError
from longclip_cli.formats import lines as line_reader
from longclip_cli.formats.lines import Line, read_lines
from longclip_cli.storage.source import open_input

CONTENT = b"".join(b'{"id": %d, "text": "%s"}\n' % (i, b"word " * (i % 50)) for i in range(3000))
COMPRESSORS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


def read(path) -> list[Line]:
    return list(read_lines(open_input(str(path))))


def test_lines_have_numbers_and_offsets_and_blank_ones_are_skipped(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"one\n\n \r\ntwo\r\nthree")
    assert read(tmp_path / "a.jsonl") == [Line(1, b"one\n", 4), Line(4, b"two\r\n", 13), Line(5, b"three", 18)]


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_compressed_file_gives_the_lines_of_its_content(tmp_path, suffix):
    compress = COMPRESSORS[suffix]
    path = tmp_path / f"a.jsonl{suffix}"
    # People join compressed shards with cat.
    path.write_bytes(compress(CONTENT[:1000]) + compress(CONTENT[1000:]))
    lines = read(path)
    assert b"".join(line.content for line in lines) == CONTENT
    assert lines[-1].offset == path.stat().st_size


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_truncated_compressed_file_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(COMPRESSORS[suffix](CONTENT)[:-9])
    with pytest.raises(InputError, match=r"a\.jsonl.*: unreadable after line \d+: "):
        read(path)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_file_that_contradicts_its_suffix_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(CONTENT)
    with pytest.raises(InputError, match="unreadable after line 0"):
        read(path)


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 64))
def test_zstd_frames_can_be_read_in_pieces_of_any_size(tmp_path_factory, contents, size):
    from longclip_cli.storage.zstd import ZstdFile

    path = tmp_path_factory.mktemp("zstd") / "a.zst"
    path.write_bytes(b"".join(map(zstandard.compress, contents)))
    with path.open("rb") as file:
        stream = ZstdFile(file)
        assert b"".join(iter(lambda: stream.read(size), b"")) == b"".join(contents)


def test_without_zstandard_the_error_names_the_extra(tmp_path):
    (tmp_path / "zstandard.py").write_text("raise ImportError('not installed')")
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(CONTENT))
    run = longclip_score(tmp_path / "a.jsonl.zst", environment={"PYTHONPATH": str(tmp_path)})
    assert run.returncode == 1
    assert b"pip install 'longclip-cli[zst]'" in run.stderr


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_compressed_file_without_its_suffix_is_an_error(tmp_path, suffix):
    (tmp_path / "a.jsonl").write_bytes(COMPRESSORS[suffix](CONTENT))
    with pytest.raises(InputError, match=r"a.jsonl: is compressed; pipe it through .*cat"):
        read(tmp_path / "a.jsonl")


def test_an_endless_line_is_an_error_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(line_reader, "MAX_LINE_BYTES", 1000)
    (tmp_path / "a.jsonl").write_bytes(b"short\n" + b"x" * 1001)
    with pytest.raises(InputError, match="line 2 has more than 1000 bytes"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(("name", "reason"), [("missing.jsonl", "No such file"), (".", "Is a directory")])
def test_an_input_that_cannot_be_opened_is_named(tmp_path, name, reason):
    with pytest.raises(InputError, match=f"cannot read .*: {reason}"):
        read(tmp_path / name)


def test_a_pipe_is_live_and_a_file_on_standard_input_is_not(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(CONTENT)
    show = "from longclip_cli.storage.source import open_input; s = open_input('-'); print(s.is_live, s.size)"
    piped = subprocess.run([sys.executable, "-c", show], input=CONTENT, capture_output=True, check=True)
    with (tmp_path / "a.jsonl").open("rb") as file:
        redirected = subprocess.run([sys.executable, "-c", show], stdin=file, capture_output=True, check=True)
    assert piped.stdout == b"True None\n"
    assert redirected.stdout == b"False %d\n" % len(CONTENT)
