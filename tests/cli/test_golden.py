"""Scores of the command, compared with the original's."""

import random

import pytest
from helpers import GOLDEN, IMAGES, golden_rows, golden_score, jsonl, longclip_score, parse_jsonl


@pytest.mark.parametrize(
    "options",
    [(), ("-b", 1, "-j", 1), ("-b", 7, "-j", 5, "--prefetch", 3), ("-b", 64, "-j", 2, "--prefetch", 1000)],
    ids=lambda options: " ".join(map(str, options)) or "defaults",
)
def test_no_batch_worker_or_chunk_and_no_order_or_repetition_of_rows_changes_a_score(checkpoint, options):
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


def test_the_same_file_gives_the_same_bytes_whatever_the_threads(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*golden_rows("pairs.jsonl")))
    arguments = (tmp_path / "in.jsonl", "-m", tiny_checkpoint, "--image-root", IMAGES)
    one, many = (longclip_score(*arguments, "-j", workers).stdout for workers in (1, 8))
    assert one == many
    assert one.count(b"\n") == 73
