"""Memory that archives take, compared with an ordinary run."""

import os
import tarfile
import threading

import pytest
import zstandard
from helpers import IMAGES, MEBIBYTE, linux_only, parse_jsonl, start_longclip_score

pytestmark = linux_only
PNG = (IMAGES / "tiny.png").read_bytes()
END = bytes(1024)


def member(name, size, kind=tarfile.REGTYPE):
    """Return the header of a member."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def whole(name, content):
    return member(name, len(content)) + content + bytes(-len(content) % 512)


def peak_bytes(*arguments, blocks=()):
    """Return the peak memory of a run in bytes, and its rows; the blocks are its standard input."""
    with start_longclip_score(*arguments) as process:

        def write():
            for block in blocks:
                process.stdin.write(block)
            process.stdin.close()

        rows = []
        reader = threading.Thread(target=lambda: rows.append(process.stdout.read()), daemon=True)
        writer = threading.Thread(target=write, daemon=True)
        reader.start()
        writer.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        writer.join()
        reader.join()
        assert process.returncode in (0, 3), process.stderr.read()
    return 1024 * usage.ru_maxrss, parse_jsonl(rows[0])


@pytest.fixture(scope="module")
def ordinary(tiny_checkpoint):
    samples = [whole(f"{index}.png", PNG) + whole(f"{index}.txt", b"A cat") for index in range(300)]
    arguments = ("--input-format", "webdataset", "-m", tiny_checkpoint)
    return peak_bytes(*arguments, blocks=[*samples, END])[0]


def test_samples_ahead_of_the_model_are_bounded_in_bytes(tiny_checkpoint, ordinary):
    content = b'"%b"' % (b"x" * (2 * MEBIBYTE))

    def blocks():
        for index in range(200):
            yield whole(f"{index}.png", PNG) + whole(f"{index}.txt", b"A cat %d" % index)
            yield whole(f"{index}.json", content) + whole(f"{index}.npy", content)
        yield END

    peak, rows = peak_bytes("--input-format", "webdataset", "-m", tiny_checkpoint, blocks=blocks())
    assert [row["txt"] for row in rows] == [f"A cat {index}" for index in range(200)]
    assert peak < ordinary + 500 * MEBIBYTE


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.json"])
def test_gigabytes_of_a_member_are_skipped(tiny_checkpoint, tmp_path, ordinary, name):
    """A bomb: 64 KB that expand to a member of 2 GiB, between two samples."""
    zeros = zstandard.compress(bytes(64 * MEBIBYTE)) * 32
    head = whole("0.png", PNG) + whole("0.txt", b"A cat") + whole("a.txt", b"A dog")
    tail = whole("z.png", PNG) + whole("z.txt", b"A cat") + END
    compress = zstandard.compress
    (tmp_path / "in.tar.zst").write_bytes(compress(head + member(name, 2 * 2**30)) + zeros + compress(tail))
    peak, rows = peak_bytes(tmp_path / "in.tar.zst", "-m", tiny_checkpoint)
    assert [row["__key__"] for row in rows] == ["0", "a", "z"]
    assert [row["clip_score"] is None for row in rows] == [False, True, False]
    assert peak < ordinary + 200 * MEBIBYTE


def test_a_sample_of_100000_members_is_one_row(tiny_checkpoint, tmp_path, ordinary):
    members = [member(f"a.{index}.npy", 0) for index in range(100_000)]
    content = whole("a.png", PNG) + whole("a.txt", b"A cat") + b"".join(members) + END
    (tmp_path / "in.tar.zst").write_bytes(zstandard.compress(content))
    peak, (row,) = peak_bytes(tmp_path / "in.tar.zst", "-m", tiny_checkpoint)
    assert row["clip_score"] is not None
    assert peak < ordinary + 200 * MEBIBYTE


@pytest.mark.stress
def test_a_million_samples_of_one_member_are_rows(tiny_checkpoint, ordinary):
    def blocks():
        for start in range(0, 1_000_000, 1000):
            yield b"".join(whole(f"{index}.txt", b"A cat") for index in range(start, start + 1000))
        yield END

    options = ("--input-format", "webdataset", "--max-errors", 1_000_000)
    peak, rows = peak_bytes(*options, "-m", tiny_checkpoint, blocks=blocks())
    assert len(rows) == 1_000_000
    assert peak < ordinary + 1000 * MEBIBYTE
