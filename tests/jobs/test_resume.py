"""Runs that are resumed: what is kept, compared, refused and scored again."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from helpers import (
    IMAGES,
    MISSING,
    TIMEOUT,
    jsonl,
    longclip_score,
    parse_jsonl,
    rows_of,
    size_of,
    start_longclip_score,
    wait_until,
)


def stop_midway(arguments, out, rows=40, content=None, **options):
    """Start a run on a pipe, write some rows to it and interrupt it once they are scored."""
    content = content or jsonl(*rows_of(rows))
    with start_longclip_score(*arguments, "-o", out, **options) as process:
        process.stdin.write(content.encode())
        process.stdin.flush()
        wait_until(lambda: Path(f"{out}.partial").exists() and Path(f"{out}.partial").read_bytes().count(b"\n") == rows)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130


@pytest.fixture(scope="module")
def stopped_folder(tiny_checkpoint, tmp_path_factory):
    """Return a folder with the partial output of a run on a pipe, interrupted after forty rows."""
    folder = tmp_path_factory.mktemp("stopped")
    stop_midway(["-m", tiny_checkpoint], folder / "out.jsonl")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--text-key", "caption"], "its text key was text, not caption"),
        (["--output-key", "fit"], "its output key was clip_score, not fit"),
        (["--image-root", "/"], "its image root was "),
        (["--precision", "bf16"], "its precision was float32, not bfloat16"),
        (["--max-pixels", 1000], "its max pixels was 100000000, not 1000"),
        (["--fast-decode"], "its fast decode was off, not on"),
        (["--fast-resize"], "its fast resize was off, not on"),
        (["-m", "demo"], "its model was "),
    ],
)
def test_a_changed_command_is_not_resumed_and_the_change_is_named(
    stopped_folder, tiny_checkpoint, tmp_path, change, message
):
    out = shutil.copytree(stopped_folder, tmp_path / "copy") / "out.jsonl"
    left = Path(f"{out}.partial").read_bytes()
    run = longclip_score("-m", tiny_checkpoint, *change, "-o", out, "--resume", input=jsonl(*rows_of(50)))
    assert run.returncode == 1
    assert message in run.stderr.decode()
    assert Path(f"{out}.partial").read_bytes() == left


def test_a_changed_input_is_not_resumed_and_the_change_is_named(stopped_folder, tiny_checkpoint, tmp_path):
    out = shutil.copytree(stopped_folder, tmp_path / "copy") / "out.jsonl"
    left = Path(f"{out}.partial").read_bytes()
    rows = rows_of(50)
    rows[7]["id"] = "another"
    for content, message in (
        (jsonl(*rows), "row 8 of the partial output is not row 8 of the input"),
        (jsonl(*rows_of(39)), "row 40 of the partial output is after the end of the input"),
    ):
        run = longclip_score("-m", tiny_checkpoint, "-o", out, "--resume", input=content)
        assert run.returncode == 1
        assert message in run.stderr.decode()
        assert Path(f"{out}.partial").read_bytes() == left
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(50)))
    run = longclip_score(tmp_path / "in.jsonl", "-m", tiny_checkpoint, "-o", out, "--resume")
    assert run.returncode == 1
    assert "its input was standard input, a pipe, not " in run.stderr.decode()


def test_a_changed_input_file_is_not_resumed(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(400)))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-b", 1, "-o", "out.jsonl")
    stopped = longclip_score(*arguments, "--max-errors", 0, cwd=tmp_path)
    assert stopped.returncode == 1
    left = (tmp_path / "out.jsonl.partial").read_bytes()
    assert left
    another = {"image_path": "rgb.png", "text": "A dog"}
    for rows in ([another, *rows_of(400)[1:]], rows_of(399)):
        (tmp_path / "in.jsonl").write_text(jsonl(*rows))
        run = longclip_score(*arguments, "--resume", cwd=tmp_path)
        assert run.returncode == 1
        message = run.stderr.decode()
        assert "it is from a different run: its input was " in message
        assert message.count("\n") == 1
        assert (tmp_path / "out.jsonl.partial").read_bytes() == left


def test_a_new_stream_is_scored_although_the_output_is_complete(tiny_checkpoint, tmp_path):
    arguments = ("-m", tiny_checkpoint, "-o", tmp_path / "out.jsonl", "--resume")
    for first in (0, 10):
        rows = rows_of(20)[first : first + 5]
        assert longclip_score(*arguments, input=jsonl(*rows)).returncode == 0
        assert [row["id"] for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())] == [row["id"] for row in rows]


def test_failed_rows_of_an_early_stop_are_not_kept(tiny_checkpoint, tmp_path):
    row = {"image_path": "late.png", "text": "a picture that comes late"}
    (tmp_path / "in.jsonl").write_text(jsonl(*[row] * 150))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-o", "out.jsonl", "--resume")
    run = longclip_score(*arguments, cwd=tmp_path)
    assert run.returncode == 1
    assert b"rows failed for the same reason" in run.stderr
    (tmp_path / "late.png").write_bytes((IMAGES / "rgb.png").read_bytes())
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 0
    assert len(parse_jsonl((tmp_path / "out.jsonl").read_bytes())) == 150


def test_a_byte_order_mark_and_zeroed_blocks_allow_resuming(tiny_checkpoint, tmp_path):
    content = b"\xef\xbb\xbf" + jsonl(*rows_of(5)).encode()
    out, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    with start_longclip_score("-m", tiny_checkpoint, "-o", out) as process:
        process.stdin.write(content)
        process.stdin.flush()
        wait_until(lambda: size_of(partial) and partial.read_bytes().count(b"\n") == 5, process)
        process.kill()
    partial.write_bytes(partial.read_bytes() + bytes(4096) + b"\n")
    assert longclip_score("-m", tiny_checkpoint, "-o", out, "--resume", input=content).returncode == 0
    whole = longclip_score("-m", tiny_checkpoint, input=content).stdout
    assert [row["id"] for row in parse_jsonl(out.read_bytes().removeprefix(b"\xef\xbb\xbf"))] == list(range(5))
    assert out.read_bytes()[:200] == whole[:200]


def test_only_resume_leaves_a_complete_output_as_it_is(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(5)))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-o", "out.jsonl")
    assert longclip_score(*arguments, "--resume", cwd=tmp_path).returncode == 0  # nothing to resume: it starts
    before = (tmp_path / "out.jsonl").stat()
    again = longclip_score(*arguments, "--resume", cwd=tmp_path)
    assert again.returncode == 0
    assert b"nothing to do: out.jsonl is complete (5 rows, 0 of them failed)" in again.stderr
    assert (tmp_path / "out.jsonl").stat().st_ino == before.st_ino
    repeated = longclip_score(*arguments, cwd=tmp_path)
    assert b"5 rows in" in repeated.stderr
    assert (tmp_path / "out.jsonl").stat().st_ino != before.st_ino
    # A new input with the old name, as cron produces, starts a new run.
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(5)[1:]))
    new = longclip_score(*arguments, "--resume", cwd=tmp_path)
    assert b"4 rows in" in new.stderr
    assert b"out.jsonl was scored from " in new.stderr
    assert b"; scoring all rows" in new.stderr


def test_kept_failed_rows_count_in_status_and_summary(tiny_checkpoint, tmp_path):
    out = tmp_path / "out.jsonl"
    stop_midway(["-m", tiny_checkpoint], out, rows=80)
    run = longclip_score(
        "-m", tiny_checkpoint, "-o", out, "--resume", "--summary", tmp_path / "s.json", input=jsonl(*rows_of(82))
    )
    assert run.returncode == 3
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["rows"], summary["kept"], summary["failed"]) == (82, 80, 1)
    assert summary["failed_by_reason"] == {"image: no such file": 1}


def test_kept_failed_rows_do_not_count_for_max_errors(tiny_checkpoint, tmp_path):
    rows = rows_of(40)
    rows[3]["image_path"] = "missing.png"
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-b", 1, "-o", "out.jsonl", "--resume", "--max-errors", 0)
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 1
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 3
    assert len(parse_jsonl((tmp_path / "out.jsonl").read_bytes())) == 40


def test_without_resume_partial_rows_are_dropped_with_a_message(stopped_folder, tiny_checkpoint, tmp_path):
    out = shutil.copytree(stopped_folder, tmp_path / "copy") / "out.jsonl"
    run = longclip_score("-q", "-m", tiny_checkpoint, "-o", out, input=jsonl(*rows_of(3)))
    assert run.returncode == 0
    assert b"the rows of an interrupted run in" in run.stderr
    assert len(parse_jsonl(out.read_bytes())) == 3


def test_resume_without_an_output_file_is_wrong_usage():
    run = longclip_score("--resume", input=jsonl(*rows_of(1)))
    assert run.returncode == 2
    assert b"--resume needs an output file" in run.stderr


def test_a_second_run_on_one_output_ends_and_the_first_goes_on(tiny_checkpoint, tmp_path):
    out = tmp_path / "out.jsonl"
    with start_longclip_score("-m", tiny_checkpoint, "-o", out) as first:
        first.stdin.write(jsonl(*rows_of(3)).encode())
        first.stdin.flush()
        wait_until(lambda: size_of(Path(f"{out}.partial")), first)
        second = longclip_score("-m", tiny_checkpoint, "-o", out, input=jsonl(*rows_of(5)))
        assert second.returncode == 1
        assert f"another run is writing {out}" in second.stderr.decode()
        first.stdin.close()
        assert first.wait(TIMEOUT) == 0
    assert [row["id"] for row in parse_jsonl(out.read_bytes())] == [0, 1, 2]


def test_a_resumed_run_does_not_stop_as_all_rows_fail(tiny_checkpoint, tmp_path):
    """The kept rows have failed like all others: the run goes on, since it was accepted when it began."""
    failing = [MISSING | {"id": number} for number in range(150)]
    stop_midway(["-m", tiny_checkpoint], tmp_path / "out.jsonl", rows=5, content=jsonl(*failing[:5]))
    run = longclip_score("-m", tiny_checkpoint, "-o", tmp_path / "out.jsonl", "--resume", input=jsonl(*failing))
    assert run.returncode == 3
    assert [row["id"] for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())] == list(range(150))
