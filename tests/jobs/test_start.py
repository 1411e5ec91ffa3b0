"""Errors that the first rows show before the model is loaded."""

import gzip
import json

import pytest
from helpers import ROW, jsonl, longclip_score, parquet, parse_jsonl

NOT_ROWS = {
    "UTF-16 text": jsonl(ROW).encode("utf-16"),
    "a Parquet file": parquet([ROW]),
    "CSV": b"image_path,text\na.png,A cat\n",
    "JSON over several lines": json.dumps(ROW, indent=1).encode(),
    "a JSON array": json.dumps([ROW], indent=1).encode(),
    "plain text": b"A cat\n" * 3,
}


@pytest.mark.parametrize("to", ["file", "stdout"])
@pytest.mark.parametrize("kind", NOT_ROWS)
def test_an_input_without_a_row_fails_and_is_named(kind, to, tmp_path):
    """The model does not exist, so a run that looked for it would fail differently."""
    (tmp_path / "in.jsonl").write_bytes(NOT_ROWS[kind])
    output = ("-o", "out.jsonl") if to == "file" else ()
    run = longclip_score("in.jsonl", *output, "-m", "missing.pt", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stdout == b""
    assert run.stderr.decode().startswith(f"longclip-score: in.jsonl: no line is a JSON object; it looks like {kind}; ")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_many_lines_without_a_row_leave_no_output(tiny_checkpoint, tmp_path):
    """More lines than are checked before the model is loaded, of two kinds, so that they fail differently."""
    (tmp_path / "in.jsonl").write_bytes(b"A cat\n[]\n" * 100)
    run = longclip_score("in.jsonl", "-o", "out.jsonl", "-m", tiny_checkpoint, cwd=tmp_path)
    assert run.returncode == 1
    assert b"no line is a JSON object; it looks like plain text" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_mistyped_key_is_detected_before_loading_the_model(tmp_path):
    rows = jsonl(*[{"img": "rgb.png", "text": "A cat"}] * 200)
    (tmp_path / "in.jsonl").write_text(rows)
    for run in (
        longclip_score("in.jsonl", "-m", "missing.pt", cwd=tmp_path),
        longclip_score("in.jsonl", "-m", "missing.pt", "-o", "o.jsonl", "--resume", cwd=tmp_path),
        longclip_score("-m", "missing.pt", input=rows),
    ):
        assert run.returncode == 1
        assert run.stdout == b""
        message = run.stderr.decode()
        assert "the first 100 rows failed for the same reason: image: no field 'image_path'" in message
        assert "fields in the row: img, text" in message


def test_rows_that_all_fail_need_no_model(tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl({"img": "a"}, ROW | {"text": " "}, ROW | {"image_path": "b"}) + "bad\n")
    run = longclip_score("in.jsonl", "-m", "missing.pt", cwd=tmp_path)
    assert run.returncode == 3
    errors = [row["clip_score_error"].split(":")[0] for row in parse_jsonl(run.stdout)]
    assert errors == ["image", "text", "image", "line 4"]


def test_lines_that_are_not_json_are_not_blamed_on_keys(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, input=b"{'image_path': 'a.png'}\n" * 200)
    assert run.returncode == 1
    message = run.stderr.decode()
    assert "standard input looks like JSON with errors; give JSONL" in message
    assert "--image-key" not in message


def test_a_resumed_run_does_not_stop_if_all_new_rows_fail(tiny_checkpoint, tmp_path):
    """If rows were kept, the command cannot be wrong."""
    good = jsonl(*[ROW | {"id": i} for i in range(3)])
    bad = jsonl(*[{"img": "rgb.png"}] * 150)
    (tmp_path / "in.jsonl").write_text(bad + good)
    arguments = ("-m", tiny_checkpoint, "-b", 1, "-o", "out.jsonl", "in.jsonl")
    (tmp_path / "in.jsonl").write_text(good + bad)
    assert longclip_score(*arguments, "--max-errors", 0, cwd=tmp_path).returncode == 1
    kept = parse_jsonl((tmp_path / "out.jsonl.partial").read_bytes())
    assert len(kept) < 153
    run = longclip_score(*arguments, "--resume", cwd=tmp_path)
    assert run.returncode == 3
    assert len(parse_jsonl((tmp_path / "out.jsonl").read_bytes())) == 153


def test_an_input_unreadable_from_its_first_line_needs_no_model(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(gzip.compress(jsonl(ROW).encode()))
    run = longclip_score("in.jsonl", "-m", "missing.pt", cwd=tmp_path)
    assert run.returncode == 1
    assert b"in.jsonl: is compressed; pipe it through zcat" in run.stderr
