"""Runs that stop because of failed rows, and messages about failed rows."""

import pytest
from helpers import MISSING, ROW, jsonl, longclip_score, parse_jsonl


def test_too_many_failed_rows_stop_the_run(tiny_checkpoint, tmp_path):
    rows = [ROW, *[MISSING] * 3] * 500
    run = longclip_score(
        "-m", tiny_checkpoint, "-b", 1, "--max-errors", 10, "-o", "o.jsonl", input=jsonl(*rows), cwd=tmp_path
    )
    assert run.returncode == 1
    assert b"rows have failed (--max-errors 10)" in run.stderr
    assert not (tmp_path / "o.jsonl").exists()
    written = parse_jsonl((tmp_path / "o.jsonl.partial").read_bytes())
    assert 14 <= len(written) < len(rows)
    assert [row["image_path"] for row in written] == [row["image_path"] for row in rows[: len(written)]]
    assert f"partial output is in {tmp_path}/o.jsonl.partial; add --resume to continue\n" in run.stderr.decode()


def test_as_many_failed_rows_as_allowed_do_not_stop_the_run(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, "--max-errors", 2, input=jsonl(MISSING, ROW, MISSING))
    assert run.returncode == 3


def test_a_hundred_rows_that_fail_alike_stop_the_run(tiny_checkpoint):
    rows = [{"id": i, "img": "rgb.png", "caption": "A cat"} for i in range(100_000)]
    run = longclip_score("-m", tiny_checkpoint, input=jsonl(*rows))
    assert run.returncode == 1
    assert run.stdout.count(b"\n") < len(rows)
    message = run.stderr.decode()
    assert "rows failed for the same reason: image: no field 'image_path'" in message
    assert "id, img, caption" in message


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (jsonl(MISSING), "; see --image-key, --text-key and --image-root"),
        (jsonl(ROW | {"text": " "}), ""),
    ],
)
def test_a_run_without_scores_names_the_options_that_may_help(tiny_checkpoint, rows, advice):
    run = longclip_score("-m", tiny_checkpoint, "-q", input=rows)
    assert run.returncode == 3
    assert run.stderr.decode() == f"longclip-score: no row was scored{advice}\n"


def test_the_early_stop_shows_the_fields_of_a_failed_row(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, "-b", 64, input=jsonl(*[{"img": "a"}] * 150, *[ROW] * 10))
    assert "same reason: image: no field 'image_path'; fields in the row: img (" in run.stderr.decode()


def test_a_hundred_failed_rows_of_two_kinds_do_not_stop_the_run(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, input=jsonl(*[MISSING] * 99, {}, *[MISSING] * 99))
    assert run.returncode == 3
    assert run.stdout.count(b"\n") == 199
