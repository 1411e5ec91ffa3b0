"""WebDataset: rows, fields, errors, hostile archives, and scores of the command."""

import bz2
import gzip
import io
import json
import lzma
import random
from contextlib import suppress

import pyarrow.parquet
import pytest
import zstandard
from helpers import IMAGES, golden_rows, golden_score, longclip_score, parse_jsonl, start_longclip_score, tar_of
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import InputError, RowError
from longclip_cli.formats.webdataset import WebDataset
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark, Row
from longclip_cli.storage.source import Input

PNG = (IMAGES / "tiny.png").read_bytes()
FORMAT = WebDataset()
SAMPLE = {"png": PNG, "txt": b"A cat", "json": b'{"a": 1}'}
UNICODE = st.characters(codec="utf-8")
FLIPS = 60


def rows_of(content, **options):
    source = Input("in.tar", io.BytesIO(), io.BufferedReader(io.BytesIO(content)), len(content), "in.tar", "in.tar")
    rows = FORMAT.read_rows(source, ScoringOptions(**options), whole=True)
    return [row for row in rows if row is not Mark.PAUSE]


def row_of(members, **options) -> Row:
    (row,) = rows_of(tar_of({f"a.{extension}": content for extension, content in members.items()}), **options)
    return row


def archive_of(samples):
    """Return an archive with samples, from a dict of their keys and members by extension."""
    return tar_of([(f"{key}.{name}", content) for key, each in samples.items() for name, content in each.items()])


def line_of(row, result=0.5, output_key="clip_score"):
    return FORMAT.encode_line(row, output_key, result)


def golden_members(extension=None):
    """Yield the members of the golden pairs, their images with the extension of their files or this one."""
    for row in golden_rows("expected.jsonl"):
        key, image = f"{row['id']:05d}", IMAGES / row["image_path"]
        yield f"{key}.{extension or image.suffix[1:]}", image.read_bytes()
        yield f"{key}.txt", row["text"].encode()
        yield f"{key}.json", json.dumps({"caption": [row["text"]], "image": image.name}, indent=1).encode()


def check_golden(rows):
    expected = golden_rows("expected.jsonl")
    assert len(rows) == len(expected) == 73
    for row, original in zip(rows, expected, strict=True):
        score = row["clip_score"][0] if isinstance(row["clip_score"], list) else row["clip_score"]
        assert score == golden_score(original)
        assert row["txt"] == original["text"]


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        (None, ()),
        ("image", ()),
        ("seg.PNG", ("--image-key", "seg.png")),
        ("bin", ("--image-key", "bin", "--text-key", ".json.caption[0]")),
        (None, ("--text-key", ".json.caption")),
        (None, ("--image-key", ".json.image", "--image-root", IMAGES)),
    ],
    ids=["by type", "as .image", "by key", "no known type", "text in JSON", "path in JSON"],
)
def test_golden_pairs_have_golden_scores(checkpoint_safetensors, tmp_path, extension, options):
    (tmp_path / "in.tar").write_bytes(tar_of(golden_members(extension)))
    run = longclip_score(tmp_path / "in.tar", "-m", checkpoint_safetensors, "--device", "cpu", *options)
    assert run.returncode == 0, run.stderr
    check_golden(parse_jsonl(run.stdout))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".tar.gz", gzip.compress),
        (".tgz", gzip.compress),
        (".tar.bz2", bz2.compress),
        (".tar.xz", lzma.compress),
        (".tar.zst", zstandard.compress),
        ("", bytes),
    ],
)
def test_compressed_and_unnamed_archives_are_read(tmp_path, suffix, compress):
    path = tmp_path / f"in{suffix}"
    path.write_bytes(compress(tar_of({"a.png": PNG, "a.txt": b"A cat"})))
    run = longclip_score(path, "-m", "demo", "-o", f"{tmp_path}/out/")
    assert run.returncode == 0, run.stderr
    (row,) = parse_jsonl((tmp_path / "out" / ("in.jsonl" if suffix else "in")).read_bytes())
    assert (row["__key__"], row["__url__"], row["txt"]) == ("a", str(path), "A cat")


@pytest.mark.parametrize("output", ["-", "out.jsonl"])
def test_an_archive_from_a_pipe_is_read(checkpoint_safetensors, tmp_path, output):
    arguments = ("-m", checkpoint_safetensors, "--device", "cpu", "-o", output)
    run = longclip_score(*arguments, input=tar_of(golden_members()), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    check_golden(parse_jsonl(run.stdout if output == "-" else (tmp_path / output).read_bytes()))


@pytest.mark.parametrize("path", ["in.tar", "-"])
def test_golden_pairs_have_golden_scores_in_parquet(checkpoint_safetensors, tmp_path, path):
    content = tar_of(golden_members())
    (tmp_path / "in.tar").write_bytes(content)
    arguments = (path, "--input-format", "webdataset", "-m", checkpoint_safetensors, "--device", "cpu")
    run = longclip_score(*arguments, "-o", "out.parquet", input=content, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    check_golden(pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist())


def test_a_sample_is_written_when_the_next_one_begins(tiny_checkpoint):
    with start_longclip_score("--input-format", "webdataset", "-m", tiny_checkpoint) as process:
        for key in "abc":
            archive = archive_of({key: SAMPLE})
            process.stdin.write(archive[: archive.index(b"json") // 512 * 512 + 1024])  # without the archive's end
            process.stdin.flush()
            if key > "a":
                assert json.loads(process.stdout.readline())["__key__"] == chr(ord(key) - 1)
        process.stdin.write(bytes(1024))
        process.stdin.close()
        assert json.loads(process.stdout.readline())["__key__"] == "c"


def test_img2dataset_folders_are_scored_to_jsonl(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        (tmp_path / "in" / f"0000{number}.tar").write_bytes(tar_of({"a.png": PNG, "a.txt": b"A cat", "a.json": b"{}"}))
        (tmp_path / "in" / f"0000{number}_stats.json").write_text("{}")
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "-m", "demo")
    run = longclip_score(*arguments)
    assert run.returncode == 2
    assert b"choose one with --input-format" in run.stderr
    assert longclip_score(*arguments, "--input-format", "webdataset").returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [".longclip", "00000.jsonl", "00001.jsonl"]


def test_tar_outputs_are_a_usage_error(tmp_path):
    (tmp_path / "in.tar").write_bytes(tar_of({"a.png": PNG, "a.txt": b"A cat"}))
    run = longclip_score(tmp_path / "in.tar", "-o", tmp_path / "out.tar", "-m", "demo")
    assert run.returncode == 2
    assert b"they can be jsonl or parquet" in run.stderr


def test_a_line_has_text_and_json_members_and_the_score():
    row = row_of({"PNG": PNG, "txt": b"A cat\n", "npy": b"\0", "cls": b"3", "json": b'{\n "n": 1.10,\n "x": NaN\n}\n'})
    assert line_of(row) == (
        b'{"__key__": "a", "__url__": "in.tar", "txt": "A cat\\n", "cls": "3", "json": {"n": 1.10, "x": NaN}, '
        b'"clip_score": 0.5}\n'
    )
    assert row.inputs.images[0].content == PNG
    assert row.inputs.texts == ("A cat\n",)
    assert FORMAT.fields_of(row).keys() == {"__key__", "__url__", "txt", "cls", "json", "png", "npy"}
    assert row.size >= len(PNG)


def test_a_member_with_the_output_key_is_replaced():
    row = row_of({"png": PNG, "txt": b"A cat", "cls": b"3"})
    assert json.loads(line_of(row, output_key="cls"))["cls"] == 0.5


def test_the_text_is_txt_or_else_text():
    assert row_of({"png": PNG, "text": b"A cat"}).inputs.texts == ("A cat",)
    assert row_of({"png": PNG, "text": b"A dog", "txt": b"A cat"}).inputs.texts == ("A cat",)
    assert row_of({"png": PNG, "text": b"A dog", "txt": b"A cat"}, text_key=("cap", "txt")).inputs.missing == "cap"
    assert row_of({"png": PNG, "cap": b"A dog", "txt": b"A cat"}, text_key=("cap", "txt")).inputs.texts == (
        "A dog",
        "A cat",
    )
    assert row_of({"png": PNG, "json": b'["A cat"]'}, text_key=(".json[0]",)).inputs.texts == ("A cat",)
    assert row_of({"png": PNG}, text_key=("__key__",)).inputs.texts == ("a",)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"txt": b"A cat"}, "image: no member is an image"),
        ({"png": PNG}, "text: no field 'txt'"),
        ({"png": PNG, "txt": b" \n"}, "text: blank: 'txt'"),
        ({"png": PNG, "jpg": PNG, "txt": b"A"}, "several members are images: png, jpg; choose one with --image-key"),
        ({"png": PNG, "txt": b"\xff"}, "a member is not UTF-8 text: txt: invalid start byte at byte 0"),
        ({"png": PNG, "txt": b"A", "json": b'{"a": '}, "a member is not JSON: json: "),
        ({"png": PNG, "txt": b"A", "json": b""}, "a member is not JSON: json: "),
        ({"png": PNG, "txt": b"A", "json": b"\xff"}, "a member is not JSON: json: "),
        ({"png": PNG, "txt": b"A", "json": b"[" * 100_000}, "a member is not JSON: json: nested too deeply"),
        ({"png": PNG, "txt": b"A", "TXT": b"A"}, "two members have one name: a.TXT"),
    ],
)
def test_what_is_wrong_with_a_sample_is_its_error_alone(members, message):
    before, row, after = rows_of(archive_of({"0": SAMPLE, "a": members, "z": SAMPLE}))
    assert message in str(row.inputs)
    assert RowError.from_message(str(row.inputs)).reason == row.inputs.reason
    assert before.inputs.texts == after.inputs.texts == ("A cat",)
    assert row.size < 1_000_000
    assert json.loads(line_of(row, row.inputs))["clip_score_error"] == str(row.inputs)


def test_content_of_failed_samples_is_kept():
    row = row_of({"png": PNG, "txt": b"caf\xe9", "json": b'{"a": \xff'})
    assert json.loads(line_of(row, row.inputs)) | {"clip_score_error": ""} == {
        "__key__": "a",
        "__url__": "in.tar",
        "txt": "caf\\xe9",
        "json": '{"a": \\xff',
        "clip_score": None,
        "clip_score_error": "",
    }


def test_names_are_only_labels(tmp_path):
    """Names that lead elsewhere neither write nor read anything, and the rows are scored."""
    names = ["/etc/passwd", "../../up", "~/home", "a\\b", "con", "\u202egnp", "x" * 3000]
    members = {f"{name}.{kind}": value for name in names for kind, value in (("png", PNG), ("txt", b"A cat"))}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "in.tar").write_bytes(tar_of(members))
    run = longclip_score("in.tar", "-m", "demo", "-o", "out.jsonl", cwd=tmp_path / "in")
    assert run.returncode == 0, run.stderr
    assert [row["__key__"] for row in parse_jsonl((tmp_path / "in" / "out.jsonl").read_bytes())] == names
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "in.tar", "out.jsonl", "out.jsonl.run.json"]


def test_an_archive_in_an_archive_is_not_opened():
    inner = tar_of({"x.png": PNG, "x.txt": b"A cat"})
    (row,) = rows_of(tar_of({"a.tar": inner, "a.png": PNG, "a.txt": b"A dog"}))
    assert row.inputs.texts == ("A dog",)


@given(
    st.lists(
        st.tuples(
            st.text(UNICODE, min_size=1).filter(lambda key: not set(key) & set("./\0") and not key.startswith("__")),
            st.text(UNICODE),
            st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists),
        ),
        unique_by=lambda sample: sample[0],
    )
)
def test_every_sample_is_one_row_with_its_values(samples):
    members = {
        key: {"png": PNG, "txt": text.encode(), "json": json.dumps(value).encode()} for key, text, value in samples
    }
    rows = rows_of(archive_of(members))
    assert [row.number for row in rows] == list(range(1, len(samples) + 1))
    for row, (_, text, value) in zip(rows, samples, strict=True):
        line = line_of(row)
        assert line.count(b"\n") == 1
        fields = json.loads(line)
        assert (fields["txt"], fields["json"]) == (text, value)
        if text.strip():
            assert row.inputs.texts == (text,)


def check_damaged(content, position, whole):
    """Check that damage at a position only changes rows that are there, and ends with an `InputError` at worst."""
    source = Input("in.tar", io.BytesIO(), io.BufferedReader(io.BytesIO(content)), len(content), "in.tar", "in.tar")
    lines = []
    with suppress(InputError):
        for row in FORMAT.read_rows(source, ScoringOptions(), whole=True):
            if row is not Mark.PAUSE:
                result = row.inputs if isinstance(row.inputs, RowError) else 0.5
                lines.append(line_of(row, result))
                assert json.loads(lines[-1])["__url__"] == "in.tar"
    untouched = [line for line, end in whole if end <= position]
    assert lines[: len(untouched)] == untouched


def flipped(content, rng):
    """Return a copy in which one byte differs, and where that is."""
    position = rng.randrange(len(content))
    copy = bytearray(content)
    copy[position] ^= rng.randrange(1, 256)
    return bytes(copy), position


def check_flips(count):
    rng = random.Random(14)
    keys = [f"{index:03d}" for index in range(8)]
    content = archive_of(dict.fromkeys(keys, SAMPLE))
    # A sample is whole once the header after it is read.
    ends = [content.index(f"{key}.json".encode()) + 1024 + 512 for key in keys]
    whole = [(line_of(row), end) for row, end in zip(rows_of(content), ends, strict=True)]
    for _ in range(count):
        check_damaged(*flipped(content, rng), whole)


def test_one_wrong_byte_loses_no_row_before_it():
    check_flips(FLIPS)


@pytest.mark.stress
def test_500_wrong_bytes_lose_no_row_before_them():
    check_flips(500)


def test_damaged_archives_in_a_folder_never_stop_the_run(tmp_path):
    rng = random.Random(15)
    content = archive_of(dict.fromkeys("0123", SAMPLE))
    (tmp_path / "in").mkdir()
    for number in range(FLIPS):
        (tmp_path / "in" / f"{number:02d}.tar").write_bytes(flipped(content, rng)[0])
    (tmp_path / "in" / "99.tar").write_bytes(content)
    run = longclip_score(tmp_path / "in", "-o", tmp_path / "out", "-m", "demo")
    assert run.returncode in (0, 1, 3)
    assert b"unexpected" not in run.stderr
    assert b"Traceback" not in run.stderr
    assert len(parse_jsonl((tmp_path / "out" / "99.jsonl").read_bytes())) == 4


def test_rows_before_a_cut_are_written():
    content = archive_of(dict.fromkeys("0123", SAMPLE))
    run = longclip_score("--input-format", "webdataset", "-m", "demo", input=content[: len(content) // 2])
    assert run.returncode == 1
    count = len(parse_jsonl(run.stdout))
    assert 0 < count < 4
    assert f"unreadable after sample {count}: ".encode() in run.stderr
