"""Archives that webdataset writes, and what it reads, beside ours."""

import json
import random

import pytest
import webdataset
from helpers import IMAGES, longclip_score, parse_jsonl, tar_of

from longclip_cli.formats.samples import split_name
from longclip_cli.formats.webdataset import WebDataset
from longclip_cli.options import ScoringOptions
from longclip_cli.rows import Mark
from longclip_cli.storage.source import open_input

PNG = (IMAGES / "rgb.png").read_bytes()
JPEG = (IMAGES / "photo.jpg").read_bytes()
FORMAT = WebDataset()


def sample(number):
    return {
        "__key__": f"a/b.c/{number:06d}",
        "jpg": JPEG,
        "txt": f"A cat № {number}",
        "json": {"caption": "A dog", "n": number, "nested": [1.5, None]},
        "cls": number,
        "npy": b"\x93NUMPY",
        "seg.png": PNG,
    }


def ours(path, **options):
    rows = FORMAT.read_rows(open_input(str(path)), ScoringOptions(**options), whole=True)
    return [row for row in rows if row is not Mark.PAUSE]


def theirs(path):
    return list(webdataset.WebDataset(str(path), shardshuffle=False))


@pytest.mark.parametrize("name", ["in.tar", "in.tar.gz"])
def test_both_read_the_same_keys_and_members(tmp_path, name):
    path = tmp_path / name
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(20):
            writer.write(sample(number))
    rows, samples = ours(path, image_key="jpg"), theirs(path)
    assert len(rows) == len(samples) == 20
    for row, read in zip(rows, samples, strict=True):
        fields = FORMAT.fields_of(row)
        assert fields.keys() == read.keys() - {"__local_path__"}
        assert fields["__key__"] == read["__key__"]
        assert fields["__url__"] == read["__url__"]
        assert fields["txt"] == read["txt"].decode()
        assert fields["cls"] == read["cls"].decode()
        assert fields["json"] == json.loads(read["json"])
        assert row.inputs.images[0].content == read["jpg"]
        assert row.inputs.texts == (read["txt"].decode(),)


def test_shards_of_a_shard_writer_are_scored(tmp_path):
    (tmp_path / "in").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "in" / "%05d.tar"), maxcount=5, verbose=0) as writer:
        for number in range(12):
            writer.write({name: value for name, value in sample(number).items() if name != "seg.png"})
    run = longclip_score(tmp_path / "in", "-o", tmp_path / "out", "-m", "demo")
    assert run.returncode == 0, run.stderr
    keys = []
    for path in sorted((tmp_path / "out").glob("*.jsonl")):
        keys += [row["__key__"] for row in parse_jsonl(path.read_bytes()) if row["clip_score"] is not None]
    assert keys == [sample(number)["__key__"] for number in range(12)]


def test_names_are_split_alike():
    """All names made of a few parts have the same key and extension, unless a base name is hidden."""
    rng = random.Random(1)
    parts = ["a", ".", "/", "__", "B", "c.d", "./", "é"]
    for _ in range(20_000):
        name = "".join(rng.choice(parts) for _ in range(rng.randrange(1, 8)))
        if name.rpartition("/")[2].startswith(".") or name.startswith("__"):
            continue
        key, extension = webdataset.tariterators.base_plus_ext(name)
        assert split_name(name) == (None if key is None else (key, extension.lower())), name


def test_both_skip_the_same_members(tmp_path):
    members = {"README": b"x", "__meta__/a.txt": b"x", "__info__": b"x", "0001.txt": b"1", "0002.TXT": b"2"}
    (tmp_path / "in.tar").write_bytes(tar_of(members))
    assert [FORMAT.fields_of(row)["__key__"] for row in ours(tmp_path / "in.tar")] == ["0001", "0002"]
    assert [each["__key__"] for each in theirs(tmp_path / "in.tar")] == ["0001", "0002"]
