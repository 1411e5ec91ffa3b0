"""Scores of the command, compared with the original's."""

import base64
import json
import random

import pytest
from helpers import GOLDEN, IMAGES, golden_rows, golden_score, jsonl, longclip_score, parse_jsonl


@pytest.mark.parametrize(
    "options",
    [(), ("-b", 1, "-j", 1), ("-b", 7, "-j", 5, "--prefetch", 3), ("-b", 64, "-j", 2, "--prefetch", 1000)],
    ids=lambda options: " ".join(map(str, options)) or "defaults",
)
def test_batches_workers_chunks_and_row_order_change_no_score(checkpoint, options):
    expected = golden_rows("expected.jsonl") * 3
    random.Random(len(options)).shuffle(expected)
    lines = jsonl(*({"image_path": row["image_path"], "text": row["text"]} for row in expected))
    run = longclip_score("-m", checkpoint, "--image-root", IMAGES, "--device", "cpu", *options, input=lines)
    assert run.returncode == 0
    for row, reference in zip(parse_jsonl(run.stdout), expected, strict=True):
        assert row["clip_score"] == golden_score(reference)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_safetensors"])
def test_all_golden_pairs_score_as_the_original_scored_them(name, request, tmp_path):
    model = request.getfixturevalue(name)
    out = tmp_path / "out.jsonl"
    run = longclip_score(GOLDEN / "pairs.jsonl", "-o", out, "-m", model, "--image-root", IMAGES, "--device", "cpu")
    assert run.returncode == 0
    rows, expected = parse_jsonl(out.read_bytes()), golden_rows("expected.jsonl")
    assert len(rows) == len(expected) == 73
    for row, original in zip(rows, expected, strict=True):
        assert row == original | {"clip_score": golden_score(original)}


def as_jsonl(rows):
    return jsonl(*rows)


def as_array(rows):
    return json.dumps(rows, indent=1)


def with_data_uris(row):
    content = base64.b64encode((IMAGES / row["image_path"]).read_bytes()).decode()
    return row | {"image_path": f"data:image/{row['image_path'].partition('.')[2]};base64,{content}"}


def nested(row):
    return {"meta": {"files": [{"path": row["image_path"]}]}, "a.b": {"turns": [{}, {"value": row["text"]}]}}


NESTED = ("--image-key", ".meta.files[0].path", "--text-key", '."a.b".turns[1].value')


@pytest.mark.parametrize("write", [as_jsonl, as_array])
@pytest.mark.parametrize(
    ("change", "options"), [(dict, ()), (with_data_uris, ()), (nested, NESTED)], ids=["paths", "data URIs", "nested"]
)
def test_golden_pairs_score_alike_however_they_are_given(checkpoint, tmp_path, write, change, options):
    (tmp_path / "in.json").write_text(write([change(row) for row in golden_rows("pairs.jsonl")]))
    out = tmp_path / "out.json"
    arguments = ("-m", checkpoint, "--image-root", IMAGES, "--device", "cpu", *options)
    run = longclip_score(tmp_path / "in.json", "-o", out, *arguments)
    assert run.returncode == 0
    content = out.read_bytes()
    rows = parse_jsonl(content) if write is as_jsonl else json.loads(content)
    for row, original in zip(rows, golden_rows("expected.jsonl"), strict=True):
        assert row["clip_score"] == golden_score(original)


def test_captions_of_an_image_score_as_pairs_do(checkpoint, tmp_path):
    expected = golden_rows("expected.jsonl")
    captions = {}
    for row in expected:
        captions.setdefault(row["image_path"], []).append(row)
    rows = [{"image_path": path, "text": [row["text"] for row in rows]} for path, rows in captions.items()]
    run = longclip_score("-m", checkpoint, "--image-root", IMAGES, "--device", "cpu", input=jsonl(*rows))
    assert run.returncode == 0
    for row, originals in zip(parse_jsonl(run.stdout), captions.values(), strict=True):
        assert row["clip_score"] == [golden_score(original) for original in originals]


def test_the_number_of_workers_changes_no_byte(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*golden_rows("pairs.jsonl")))
    arguments = (tmp_path / "in.jsonl", "-m", tiny_checkpoint, "--image-root", IMAGES)
    one, many = (longclip_score(*arguments, "-j", workers).stdout for workers in (1, 8))
    assert one == many
    assert one.count(b"\n") == 73
