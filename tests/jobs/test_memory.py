"""Memory that hostile rows take, compared with an ordinary run."""

import gzip
import json
import os
import threading

import pytest
import zstandard
from helpers import MEBIBYTE, ROW, jsonl, linux_only, parse_jsonl, resident_bytes, start_longclip_score

pytestmark = linux_only


def peak_bytes(checkpoint, lines, tmp_path, *arguments):
    """Return the peak memory of a run over these lines, in bytes, and its rows."""
    out = tmp_path / "out.jsonl"
    with start_longclip_score("-m", checkpoint, "-o", out, *arguments) as process:

        def write():
            for line in lines:
                process.stdin.write(line)
            process.stdin.close()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        writer.join()
        assert process.returncode == 0, process.stderr.read()
    return 1024 * usage.ru_maxrss, out.read_bytes()


@pytest.fixture(scope="module")
def ordinary(tiny_checkpoint, tmp_path_factory):
    lines = [jsonl(ROW).encode()] * 300
    return peak_bytes(tiny_checkpoint, lines, tmp_path_factory.mktemp("ordinary"))[0]


@pytest.mark.parametrize("text", ["1" * 30_000_000, "é à " * 7_500_000], ids=["digits", "accents"])
def test_a_text_of_30_mb_needs_little_memory(tiny_checkpoint, tmp_path, ordinary, text):
    line = json.dumps(ROW | {"text": text}, ensure_ascii=False).encode() + b"\n"
    peak, output = peak_bytes(tiny_checkpoint, [line], tmp_path)
    assert peak < ordinary + 600 * MEBIBYTE
    assert 0 < json.loads(output)["clip_score"] < 1


def test_rows_ahead_of_the_model_are_bounded_in_bytes(tiny_checkpoint, tmp_path, ordinary):
    line = json.dumps(ROW | {"unused": "x" * (2 * MEBIBYTE)}).encode() + b"\n"
    peak, output = peak_bytes(tiny_checkpoint, [line] * 400, tmp_path)
    assert peak < ordinary + 500 * MEBIBYTE
    assert output.count(b"\n") == 400


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_blank_lines_hold_back_no_row_and_no_memory(tiny_checkpoint, tmp_path, suffix, compress):
    """The row is written while a few kilobytes are still expanding to billions of blank lines."""
    blank = compress(b"\n" * (8 * MEBIBYTE)) * 200
    (tmp_path / f"in.jsonl.{suffix}").write_bytes(compress(jsonl(ROW).encode()) + blank)
    with start_longclip_score(tmp_path / f"in.jsonl.{suffix}", "-m", tiny_checkpoint) as process:
        line = process.stdout.readline()
        assert process.poll() is None
        resident = resident_bytes(process.pid)
        process.kill()
    assert 0 < parse_jsonl(line)[0]["clip_score"] < 1
    assert resident < 800 * MEBIBYTE


@pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.stress)])
def test_an_array_of_any_length_needs_the_same_memory(tiny_checkpoint, tmp_path, rows):
    """The array is read and, at the end, written with its scores; each element has a kilobyte that is not read."""
    peaks = []
    for count in (1000, rows):
        source, out = tmp_path / f"{count}.json", tmp_path / f"out-{count}.json"
        element = json.dumps(ROW | {"unused": "x" * 1000}, indent=2)
        with source.open("w") as file:
            file.write("[")
            for i in range(count):
                file.write("," * (i > 0) + element)
            file.write("]")
        with start_longclip_score(source, "-o", out, "-q", "-m", tiny_checkpoint) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(1024 * usage.ru_maxrss)
        with out.open() as lines:
            assert sum('"clip_score": 0.' in line for line in lines) == count
    print(f"{peaks[0] / MEBIBYTE:.0f} MiB for a thousand rows, {peaks[1] / MEBIBYTE:.0f} MiB for {rows:,}")
    assert peaks[1] < peaks[0] + 150 * MEBIBYTE
