"""`--resume` on a JSONL input that has grown: old rows are compared and copied, new ones scored."""

import gzip
import json

import pytest
from helpers import MISSING, ROW, jsonl, longclip_score, parse_jsonl


@pytest.fixture
def grow(tiny_checkpoint, tmp_path):
    """Return a function that writes an input, scores it with `--resume`, and returns the summary and the message."""

    def score(content, *options, name="in.jsonl", output="out.jsonl", status=0):
        (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        summary = tmp_path / "summary.json"
        summary.unlink(missing_ok=True)
        out = tmp_path / output
        run = longclip_score(
            tmp_path / name, "-o", out, "-m", tiny_checkpoint, "--resume", "--summary", summary, *options
        )
        assert run.returncode == status, run.stderr
        content = out.read_bytes()
        rows = parse_jsonl(gzip.decompress(content) if output.endswith(".gz") else content)
        return rows, json.loads(summary.read_text()), run.stderr.decode()

    return score


def rows(*ids):
    return jsonl(*[ROW | {"id": i} for i in ids])


@pytest.mark.parametrize(
    ("name", "output"), [("in.jsonl", "out.jsonl"), ("in.jsonl.gz", "out.jsonl"), ("in.jsonl", "out.jsonl.gz")]
)
def test_the_rows_of_a_complete_output_are_kept(grow, name, output):
    grow(rows(0, 1, 2), name=name, output=output)
    scored, summary, messages = grow(rows(0, 1, 2, 3, 4), name=name, output=output)
    assert [row["id"] for row in scored] == [0, 1, 2, 3, 4]
    assert summary["kept"] == 3 and summary["rows"] == 5
    assert "scoring all rows" not in messages


def test_a_grown_input_of_a_folder_is_continued(tiny_checkpoint, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.jsonl").write_text(rows(0, 1))
    command = (folder, "-o", out, "-m", tiny_checkpoint, "--resume")
    longclip_score(*command)
    (folder / "b.jsonl").write_text(rows(0, 1, 2))
    run = longclip_score(*command)
    assert run.returncode == 0
    assert b"5 rows" in run.stderr and b"kept    4 rows of an earlier run" in run.stderr
    assert [row["id"] for row in parse_jsonl((out / "b.jsonl").read_bytes())] == [0, 1, 2]


def test_an_interrupted_run_goes_on_with_the_new_rows(grow, tmp_path, tiny_checkpoint):
    content = rows(*range(60)) + jsonl(*[MISSING] * 60)
    (tmp_path / "in.jsonl").write_text(content)
    run = longclip_score(
        tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-m", tiny_checkpoint, "-b", 1, "--max-errors", 0
    )
    assert run.returncode == 1 and (tmp_path / "out.jsonl.partial").exists()
    scored, summary, _ = grow(content + rows(200), "--max-errors", 1000, status=3)
    assert len(scored) == 121 and scored[-1]["id"] == 200
    assert 60 <= summary["kept"] < 121


def test_an_old_last_line_that_was_cut_is_scored_again(grow):
    whole = rows(0, 1, 2)
    grow(whole[:-20], status=3)
    scored, summary, _ = grow(whole + rows(3))
    assert [row["id"] for row in scored] == [0, 1, 2, 3]
    assert summary["kept"] == 2


def test_an_old_last_line_that_only_lacked_its_end_is_kept(grow):
    grow(rows(0, 1)[:-1])
    scored, summary, _ = grow(rows(0, 1, 2))
    assert [row["id"] for row in scored] == [0, 1, 2]
    assert summary["kept"] == 2


@pytest.mark.parametrize("ids", [(7, 1, 2, 3), (0, 1, 7, 3)])
def test_a_changed_old_row_makes_all_rows_be_scored(grow, ids):
    grow(rows(0, 1, 2) + rows(*range(10, 13)))
    scored, summary, messages = grow(rows(*ids) + rows(*range(10, 20)))
    assert [row["id"] for row in scored] == [*ids, *range(10, 20)]
    assert summary["kept"] == 0 and summary["rows"] == 14
    assert "scoring all rows" in messages and "is not row" in messages


def test_a_grown_array_is_scored_anew(grow):
    grow(json.dumps([ROW]), name="in.json")
    scored, summary, messages = grow(json.dumps([ROW, ROW]), name="in.json")
    assert len(scored) == 2 and summary["kept"] == 0
    assert "scoring all rows" in messages


def test_a_grown_input_with_another_option_is_scored_anew(grow):
    grow(rows(0, 1))
    scored, summary, messages = grow(rows(0, 1, 2), "--precision", "bf16")
    assert len(scored) == 3 and summary["kept"] == 0
    assert "scoring all rows" in messages
