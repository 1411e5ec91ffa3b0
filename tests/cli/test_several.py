"""Rows with several texts or images: what the command writes and how it ends."""

import json
import time

import pytest
from helpers import IMAGES, ROW, jsonl, longclip_score, parse_jsonl, run_python, start_longclip_score

PATHS = [str(IMAGES / name) for name in ("rgb.png", "photo.jpg")]


def score(tiny_checkpoint, *rows, options=(), status=0):
    run = longclip_score("-m", tiny_checkpoint, "-q", *options, input=jsonl(*rows))
    assert run.returncode == status, run.stderr
    return parse_jsonl(run.stdout)


def test_lists_of_texts_or_images_give_lists_of_scores(tiny_checkpoint):
    path, other = PATHS
    singles = [{"image_path": image, "text": text} for image in PATHS for text in ("A cat", "A dog")]
    a, b, c, _ = (row["clip_score"] for row in score(tiny_checkpoint, *singles))
    rows = score(
        tiny_checkpoint,
        {"image_path": path, "text": ["A cat", "A dog"]},
        {"image_path": PATHS, "text": "A cat"},
        {"image_path": [other], "text": ["A cat"]},
        {"image_path": [other], "text": "A cat"},
    )
    assert [row["clip_score"] for row in rows] == [[a, b], [a, c], [c], c]


def test_an_element_that_fails_is_null_and_the_row_has_failed(tiny_checkpoint, tmp_path):
    rows = [ROW | {"text": ["A cat", " ", "A dog"]}, ROW | {"image_path": [PATHS[0], "missing.png"]}]
    summary = tmp_path / "summary.json"
    texts, images = score(tiny_checkpoint, *rows, options=("--summary", summary), status=3)
    assert [score is None for score in texts["clip_score"]] == [False, True, False]
    assert texts["clip_score_error"] == "[1] text: blank: 'text[1]'"
    assert [score is None for score in images["clip_score"]] == [False, True]
    assert images["clip_score_error"] == "[1] image: no such file: missing.png"
    counts = json.loads(summary.read_text())
    assert (counts["rows"], counts["failed"], counts["scores"]) == (2, 2, 3)
    assert counts["failed_by_reason"] == {"text: blank": 1, "image: no such file": 1}


def test_an_image_that_is_missing_costs_only_its_own_score(tiny_checkpoint):
    """Also if no other row needs the model."""
    (row,) = score(tiny_checkpoint, ROW | {"image_path": [PATHS[0], "missing.png"]}, status=3)
    assert [score is None for score in row["clip_score"]] == [False, True]


def test_a_row_whose_only_image_fails_has_one_error(tiny_checkpoint):
    (row,) = score(tiny_checkpoint, {"image_path": "missing.png", "text": ["A cat", "A dog"]}, status=3)
    assert row["clip_score"] is None and row["clip_score_error"] == "image: no such file: missing.png"


def test_a_list_of_one_text_that_fails_is_a_list_of_null(tiny_checkpoint):
    (row,) = score(tiny_checkpoint, ROW | {"text": [" "]}, status=3)
    assert row["clip_score"] == [None] and row["clip_score_error"] == "[0] text: blank: 'text[0]'"


def test_failed_elements_count_for_max_errors(tiny_checkpoint):
    rows = [ROW | {"text": ["A cat", " "]}] * 3
    run = longclip_score("-m", tiny_checkpoint, "-q", "--max-errors", 2, input=jsonl(*rows))
    assert run.returncode == 1 and b"3 rows have failed" in run.stderr


@pytest.mark.parametrize("options", [(), ("--reduce", "max")])
def test_a_run_with_lists_resumes(tiny_checkpoint, tmp_path, options):
    rows = [ROW | {"text": ["A cat", f"{i}"] + [" "] * (i % 3 == 0)} for i in range(40)]
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    command = (tmp_path / "in.jsonl", "-m", tiny_checkpoint, "-q", *options, "--summary", tmp_path / "summary.json")
    assert longclip_score(*command, "-o", tmp_path / "whole.jsonl").returncode == 3
    whole = json.loads((tmp_path / "summary.json").read_text())
    run = longclip_score(*command, "-o", tmp_path / "out.jsonl", "-b", 1, "--max-errors", 5)
    assert run.returncode == 1
    assert longclip_score(*command, "-o", tmp_path / "out.jsonl", "--resume").returncode == 3
    assert parse_jsonl((tmp_path / "out.jsonl").read_bytes()) == parse_jsonl((tmp_path / "whole.jsonl").read_bytes())
    resumed = json.loads((tmp_path / "summary.json").read_text())
    assert resumed["kept"] > 0
    for name in ("rows", "failed", "scores", "failed_by_reason"):
        assert resumed[name] == whole[name]


def test_rotations_are_counted_and_can_be_applied(checkpoint, tmp_path):
    row = {"image_path": str(IMAGES / "exif_rotated.jpg"), "text": ["A cat", "A dog"]}
    (tmp_path / "in.jsonl").write_text(jsonl(row, row))
    command = (tmp_path / "in.jsonl", "-m", checkpoint, "--summary", tmp_path / "summary.json")
    run = longclip_score(*command)
    assert b"2 images not turned as their EXIF says (see --exif-orientation)" in run.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["rotations_not_applied"] == 2
    turned = longclip_score(*command, "--exif-orientation")
    assert json.loads((tmp_path / "summary.json").read_text())["rotations_not_applied"] == 0
    assert parse_jsonl(turned.stdout) != parse_jsonl(run.stdout)


@pytest.mark.parametrize("name", ["out.jsonl.gz", "out.jsonl.zst", "out.jsonl.bz2", "out.jsonl.xz"])
def test_a_compressed_output_holds_the_same_rows(tiny_checkpoint, tmp_path, name):
    (tmp_path / "in.jsonl").write_text(jsonl(*[ROW | {"id": i} for i in range(30)]))
    arguments = ("-m", tiny_checkpoint, "-q")
    plain = longclip_score(tmp_path / "in.jsonl", *arguments).stdout
    assert longclip_score(tmp_path / "in.jsonl", "-o", tmp_path / name, *arguments).returncode == 0
    again = longclip_score(tmp_path / name, *arguments)
    assert again.stdout == plain, "it can be read, and scored again"
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", name, f"{name}.run.json"}
    run = longclip_score(tmp_path / "in.jsonl", "-o", tmp_path / name, *arguments[:2], "--resume")
    assert b"nothing to do" in run.stderr


def test_an_array_from_a_pipe_becomes_an_array_again(tiny_checkpoint, tmp_path):
    out = tmp_path / "out.json"
    array = json.dumps([ROW, ROW | {"id": 1}], indent=1)
    assert longclip_score("-o", out, "-q", "-m", tiny_checkpoint, input=array).returncode == 0
    assert [row["image_path"] for row in json.loads(out.read_text())] == [ROW["image_path"]] * 2
    assert longclip_score("-o", out, "-q", "-m", tiny_checkpoint, input=jsonl(ROW)).returncode == 0
    assert len(parse_jsonl(out.read_bytes())) == 1


def test_blanks_before_an_array_in_a_pipe_are_skipped(tiny_checkpoint, tmp_path):
    with start_longclip_score("-q", "-m", tiny_checkpoint) as process:
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(0.3)
        output, _ = process.communicate(json.dumps([ROW], indent=1).encode())
    assert process.returncode == 0 and len(parse_jsonl(output)) == 1


def test_an_array_to_an_open_descriptor_is_written_row_by_row(tiny_checkpoint, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps([ROW, ROW | {"id": 1}], indent=1))
    run = longclip_score(tmp_path / "in.json", "-o", "/dev/stdout", "-q", "-m", tiny_checkpoint)
    assert run.returncode == 0
    assert [row["image_path"] for row in parse_jsonl(run.stdout)] == [ROW["image_path"]] * 2


def test_an_input_that_changes_while_it_is_scored_gives_no_output(tiny_checkpoint, tmp_path):
    """The scores of an array are added to it at the end; they must not go into a different array."""
    source, out = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text(json.dumps([ROW] * 3))
    changing = f"sleep 0 && echo '[{json.dumps(ROW)}]' > {source}"
    code = (
        "import os, subprocess, sys\n"
        "from longclip_cli.jobs import part\n"
        "complete = part.OpenPart.complete\n"
        "def change(self):\n"
        f"    subprocess.run({changing!r}, shell=True, check=True)\n"
        "    complete(self)\n"
        "part.OpenPart.complete = change\n"
        "from longclip_cli.cli.score import main\n"
        f"sys.argv = ['longclip-score', {str(source)!r}, '-o', {str(out)!r}, '-m', {str(tiny_checkpoint)!r}]\n"
        "main()\n"
    )
    run = run_python(code)
    assert run.returncode == 1
    assert b"in.json: changed while it was scored" in run.stderr
    assert not out.exists() and (tmp_path / "out.json.partial").exists()
