"""Mismatched pairs of runs: what the command says of them, over many inputs and after kills."""

import json
import random
import sys

import pytest
from helpers import EXAMPLES, jsonl, longclip_score, parse_jsonl, start_longclip_score, wait_until

from longclip_cli import LongCLIPScorer


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Return a folder with a thousand drawn scenes and their rows, and the rows."""
    sys.path.insert(0, str(EXAMPLES / "demo_model"))
    try:
        from scenes import caption, draw, long_wording, random_scene
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("scenes")
    rng = random.Random(7)
    rows = []
    for i in range(1000):
        scene = random_scene(rng)
        draw(rng, scene, 64).save(folder / f"{i}.png")
        rows.append({"image_path": str(folder / f"{i}.png"), "text": caption(scene, long_wording(rng, scene))})
    return folder, rows


def summary_of(folder, *arguments, status=0):
    run = longclip_score(*arguments, "-m", "demo", "--summary", folder / "summary.json")
    assert run.returncode == status, run.stderr
    return json.loads((folder / "summary.json").read_text()), run.stderr.decode()


def counted(histogram):
    return {histogram["first"] + i: count for i, count in enumerate(histogram["counts"]) if count}


def test_the_threshold_of_1_percent_passes_as_many_fresh_pairs(scenes):
    folder, rows = scenes
    (folder / "in.jsonl").write_text(jsonl(*rows))
    summary, messages = summary_of(folder, folder / "in.jsonl", "-o", folder / "out.jsonl")
    found = summary["mismatched"]["thresholds"]["1%"]
    assert summary["mismatched"]["scores"] == 2000
    scorer = LongCLIPScorer.from_pretrained("demo", "cpu")
    images = scorer.encode_images([row["image_path"] for row in rows])
    texts = scorer.encode_texts([row["text"] for row in rows])
    fresh = [(images * texts.roll(shift, 0)).sum(-1) for shift in range(300, 320)]
    passing = sum(int(((cosines + 1) / 2 >= found["threshold"]).sum()) for cosines in fresh) / 20_000
    print(f"{100 * passing:.2f} % of fresh mismatched pairs pass {found}")
    assert 0.005 <= passing <= 0.02
    kept = sum(row["clip_score"] >= found["threshold"] for row in parse_jsonl((folder / "out.jsonl").read_bytes()))
    assert kept / 1000 == pytest.approx(found["pairs_kept"], abs=0.002)
    assert f"a threshold of {found['threshold']:.4f} keeps" in messages


def test_histograms_of_parts_add_up_to_those_of_the_whole(scenes, tmp_path):
    _, rows = scenes
    (tmp_path / "parts").mkdir()
    for i in range(4):
        (tmp_path / "parts" / f"{i}.jsonl").write_text(jsonl(*rows[250 * i : 250 * (i + 1)]))
    (tmp_path / "whole.jsonl").write_text(jsonl(*rows))
    whole, _ = summary_of(tmp_path, tmp_path / "whole.jsonl", "-o", tmp_path / "out.jsonl")
    parts, _ = summary_of(tmp_path, tmp_path / "parts", "-o", tmp_path / "out")
    written = [row for i in range(4) for row in parse_jsonl((tmp_path / "out" / f"{i}.jsonl").read_bytes())]
    exact = {}
    for row in written:
        exact[round(row["clip_score"] * 10_000)] = exact.get(round(row["clip_score"] * 10_000), 0) + 1
    assert counted(parts["histogram"]) == exact
    assert parts["mismatched"]["scores"] == whole["mismatched"]["scores"] == 2000
    thresholds = [each["mismatched"]["thresholds"]["5%"]["threshold"] for each in (whole, parts)]
    assert thresholds[0] == pytest.approx(thresholds[1], abs=0.02)


def test_no_mismatched_pair_is_counted_twice_after_kills(scenes, tmp_path):
    _, rows = scenes
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    out = tmp_path / "out.jsonl"
    command = (tmp_path / "in.jsonl", "-o", out, "-m", "demo", "--resume", "-q", "-b", 8)
    partial = tmp_path / "out.jsonl.partial"
    for size in (50_000, 200_000):
        with start_longclip_score(*command) as process:
            wait_until(lambda size=size: out.exists() or (partial.exists() and partial.stat().st_size > size), process)
            process.kill()
    summary, _ = summary_of(tmp_path, *command)
    assert summary["rows"] == 1000
    assert 0 < summary["mismatched"]["scores"] <= 2000
    assert sum(counted(summary["histogram"]).values()) == 1000


def test_an_interrupted_run_keeps_its_mismatched_pairs(scenes, tmp_path):
    _, rows = scenes
    (tmp_path / "in.jsonl").write_text(jsonl(*rows[:500], {"image_path": "missing.png", "text": "A"}, *rows[500:]))
    out = tmp_path / "out.jsonl"
    command = (tmp_path / "in.jsonl", "-o", out, "-b", 8)
    first, _ = summary_of(tmp_path, *command, "--max-errors", 0, status=1)
    assert 900 < first["mismatched"]["scores"] < 1900
    resumed, _ = summary_of(tmp_path, *command, "--resume", status=3)
    assert resumed["kept"] > 0
    assert resumed["mismatched"]["scores"] == 2000
