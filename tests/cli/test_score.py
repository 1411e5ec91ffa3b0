"""The command as people use it."""

import fcntl
import gzip
import json
import os
import pty
import struct
import termios

import pytest
from helpers import (
    MISSING,
    PICTURES,
    ROW,
    TIMEOUT,
    jsonl,
    longclip_score,
    parse_jsonl,
    shell,
    start_longclip_score,
    wait_until,
)


@pytest.fixture(scope="module")
def photo_rows():
    names = {"astronaut.png": "an astronaut", "chelsea.png": "a cat", "coffee.png": "a cup", "rocket.jpg": "a rocket"}
    return [{"image_path": str(PICTURES / name), "text": f"A photo of {text}."} for name, text in names.items()]


def test_photos_go_through_a_network_of_real_size(photo_rows, base_checkpoint):
    run = longclip_score("-m", base_checkpoint, input=jsonl(*photo_rows))
    scores = [row["clip_score"] for row in parse_jsonl(run.stdout)]
    assert run.returncode == 0
    assert len(set(scores)) == len(photo_rows)
    assert all(0 < score < 1 for score in scores)


def test_a_pipeline_that_takes_only_the_head_ends_silently(photo_rows, base_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*photo_rows * 8))
    run = shell(tmp_path, f"cat in.jsonl | score -m {base_checkpoint} -b 1 | head -2; echo ${{PIPESTATUS[1]}}")
    first, second, status = run.stdout.splitlines()
    assert [json.loads(line)["text"] for line in (first, second)] == [row["text"] for row in photo_rows[:2]]
    assert status == b"141"
    assert run.stderr == b""


def test_the_model_is_loaded_while_the_first_line_is_waited_for(tmp_path):
    with start_longclip_score("-m", tmp_path / "missing.pt") as process:
        # No line is ever written, and yet the run finds out that there is no such model.
        assert process.wait(TIMEOUT) == 1
        assert b"no such checkpoint" in process.stderr.read()


def test_a_slow_producer_sees_each_score_before_it_writes_the_next_line(checkpoint):
    rows = [ROW | {"id": i} for i in range(3)] + [MISSING, ROW]
    with start_longclip_score("-m", checkpoint) as process:
        for row in rows:
            process.stdin.write(jsonl(row).encode())
            process.stdin.flush()
            # Blocks for ever, and the test fails, if the row waits for another.
            assert json.loads(process.stdout.readline())["image_path"] == row["image_path"]
        process.stdin.close()
        assert process.wait(TIMEOUT) == 3


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (jsonl(ROW), 0),
        (jsonl(ROW, MISSING), 3),
        ("", 0),
        ("\n\n", 0),
    ],
)
def test_the_exit_status_says_whether_all_rows_were_scored(checkpoint, content, status):
    run = longclip_score("-m", checkpoint, input=content)
    assert run.returncode == status
    assert len(run.stdout.splitlines()) == len(content.split()) // len(jsonl(ROW).split())


def test_an_empty_input_needs_no_model_and_gives_an_empty_output(tmp_path):
    (tmp_path / "in.jsonl").touch()
    run = longclip_score(tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-m", "missing.pt")
    assert run.returncode == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_an_output_may_be_a_pipe_by_name(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, "-o", "/dev/stdout", input=jsonl(ROW))
    assert run.returncode == 0
    assert len(parse_jsonl(run.stdout)) == 1


@pytest.mark.parametrize("closed", ["<&-", "2>&-"])
def test_a_closed_standard_stream_is_no_reason_to_break(tiny_checkpoint, tmp_path, closed):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    run = shell(tmp_path, f"score in.jsonl -m {tiny_checkpoint} -o out.jsonl {closed}")
    assert run.returncode == 0
    assert len(parse_jsonl((tmp_path / "out.jsonl").read_bytes())) == 1


def test_a_pipe_that_does_not_block_is_read_to_its_end(tiny_checkpoint):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with start_longclip_score("-q", "-m", tiny_checkpoint, stdin=reading) as process:
        # Its two users share what a pipe is set to; a run that takes "nothing yet" for the end ends here.
        wait_until(lambda: os.get_blocking(reading), process)
        os.write(writing, jsonl(ROW).encode())
        os.close(writing)
        assert len(parse_jsonl(process.stdout.read())) == 1
        assert process.wait(TIMEOUT) == 0
    os.close(reading)


def test_a_broken_input_gives_the_rows_before_it_and_names_the_line(tiny_checkpoint, tmp_path):
    whole = jsonl(*[ROW] * 40).encode()
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(whole + os.urandom(100_000).hex().encode())[:60_000])
    run = longclip_score("in.jsonl.gz", "-m", tiny_checkpoint, "-b", 1, cwd=tmp_path)
    assert run.returncode == 1
    assert "in.jsonl.gz: unreadable after line 40" in run.stderr.decode()
    assert len(parse_jsonl(run.stdout)) == 40


def test_the_summary_is_on_standard_error_and_in_a_file(tiny_checkpoint, tmp_path):
    long = ROW | {"text": "word " * 300}
    run = longclip_score("-m", tiny_checkpoint, "--summary", "s.json", input=jsonl(ROW, MISSING, long), cwd=tmp_path)
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["complete"] is True
    assert (summary["rows"], summary["scored"], summary["failed"], summary["texts_cut"]) == (3, 2, 1, 1)
    assert summary["failed_by_reason"] == {"image: no such file": 1}
    assert {"loading the model", "images", "model", "writing"} <= set(summary["seconds"])
    shown = run.stderr.decode()
    for part in (
        "3 rows in",
        "2 scored, 1 failed",
        "1 image: no such file",
        "1 texts at the context length",
        "mean 0.",
        "p50 0.",
        "model",
    ):
        assert part in shown


def test_quiet_says_nothing_but_errors(tiny_checkpoint):
    assert longclip_score("-q", "-m", tiny_checkpoint, input=jsonl(ROW, MISSING)).stderr == b""
    assert longclip_score("-q", "-m", "missing.pt", input=jsonl(ROW)).stderr.count(b"\n") == 1


def test_a_terminal_sees_a_progress_bar_and_a_pipe_does_not(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW, MISSING))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with start_longclip_score(tmp_path / "in.jsonl", "-m", tiny_checkpoint, stderr=terminal) as process:
        output = process.stdout.read()
        process.wait(TIMEOUT)
    os.close(terminal)
    shown = os.read(controller, 100_000).decode()
    os.close(controller)
    assert "100%" in shown
    assert "2 rows, " in shown
    assert "1 errors" in shown
    assert output.count(b"\n") == 2
    assert b"100%" not in longclip_score(tmp_path / "in.jsonl", "-m", tiny_checkpoint).stderr
