"""The command as people use it."""

import fcntl
import gzip
import json
import os
import pty
import random
import struct
import subprocess
import sys
import termios

import pytest
from helpers import (
    COMMAND,
    ENVIRONMENT,
    GOLDEN,
    LOSSY,
    PICTURES,
    golden_rows,
    jsonl,
    longclip_score,
    parse_jsonl,
    start_longclip_score,
    wait_until,
)

from longclip_cli import __version__
from longclip_cli.options import ScoreOptions, ScoringOptions

IMAGES = GOLDEN / "images"
ROW = {"image_path": str(IMAGES / "rgb.png"), "text": "A cat"}
MISSING = {"image_path": "missing.png", "text": "A cat"}


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
        error = 1e-4 if row["image_path"] in LOSSY else 2e-6
        assert row["clip_score"] == pytest.approx(reference["clip_score"], abs=error)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_safetensors"])
def test_all_golden_pairs_score_as_the_original_scored_them(name, request, tmp_path):
    model = request.getfixturevalue(name)
    out = tmp_path / "out.jsonl"
    run = longclip_score(GOLDEN / "pairs.jsonl", "-o", out, "-m", model, "--image-root", IMAGES, "--device", "cpu")
    assert run.returncode == 0
    rows, expected = parse_jsonl(out.read_bytes()), golden_rows("expected.jsonl")
    assert len(rows) == len(expected) == 73
    for row, original in zip(rows, expected, strict=True):
        error = 1e-4 if row["image_path"] in LOSSY else 2e-6
        assert row == original | {"clip_score": pytest.approx(original["clip_score"], abs=error)}


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
    line = f"cat in.jsonl | {COMMAND} -m {base_checkpoint} -b 1 | head -2; echo ${{PIPESTATUS[1]}}"
    run = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, check=True)
    first, second, status = run.stdout.splitlines()
    assert [json.loads(line)["text"] for line in (first, second)] == [row["text"] for row in photo_rows[:2]]
    assert status == b"141"
    assert run.stderr == b""


def test_the_model_is_loaded_while_the_first_line_is_waited_for(tmp_path):
    with start_longclip_score("-m", tmp_path / "missing.pt") as process:
        # No line is ever written, and yet the run finds out that there is no such model.
        assert process.wait(60) == 1
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
        assert process.wait(60) == 3


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--precision", "fp64"], "--precision"),
        (["--no-such-option"], "--no-such-option"),
        (["--image-root", "missing-folder"], "missing-folder"),
        (["--output-key", "text"], "would overwrite the field 'text'"),
        (["--text-key", "clip_score_error"], "would overwrite the field 'clip_score_error'"),
        (["-o", "out.jsonl.gz"], "pipe it to a compressor"),
        (["--device", "gpu0", "-m", "missing.pt"], "no such device: gpu0"),
        ([""], "INPUT is empty; is a shell variable unset?"),
        (["--output-key", ""], "--output-key is empty; is a shell variable unset?"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what(arguments, message, tmp_path):
    run = longclip_score(*arguments, input=jsonl(ROW), cwd=tmp_path)
    assert run.returncode == 2
    assert message in run.stderr.decode()
    assert run.stdout == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jsonl"], "cannot read missing.jsonl: No such file or directory"),
        (["-m", "missing.pt"], "no such checkpoint: missing.pt"),
        (["-o", "missing/out.jsonl"], "cannot write missing/out.jsonl: no such folder"),
        (["-o", "missing/"], "cannot write missing/: it is a folder"),
        (["--summary", "missing/s.json"], "cannot write missing/s.json: no such folder"),
        (["--device", "cuda:99"], "99"),
    ],
)
def test_a_run_that_cannot_start_is_status_1_and_one_line(arguments, message, tmp_path):
    run = longclip_score(*arguments, input=jsonl(ROW), cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.decode().startswith("longclip-score: ")
    assert message in run.stderr.decode()
    assert run.stderr.count(b"\n") == 1
    assert run.stdout == b""


def test_the_output_may_not_be_the_input(tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    run = longclip_score("in.jsonl", "-o", "in.jsonl", cwd=tmp_path)
    assert run.returncode == 2
    assert b"is the input itself" in run.stderr
    assert (tmp_path / "in.jsonl").read_text() == jsonl(ROW)


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
    assert f"what is done is in {tmp_path}/o.jsonl.partial; run the same command with --resume" in run.stderr.decode()


def test_as_many_failed_rows_as_allowed_do_not_stop_the_run(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, "--max-errors", 2, input=jsonl(MISSING, ROW, MISSING))
    assert run.returncode == 3


def test_a_run_whose_first_hundred_rows_fail_alike_stops_and_shows_the_fields(tiny_checkpoint):
    rows = [{"id": i, "img": "rgb.png", "caption": "A cat"} for i in range(100_000)]
    run = longclip_score("-m", tiny_checkpoint, input=jsonl(*rows))
    assert run.returncode == 1
    assert run.stdout.count(b"\n") < len(rows)
    message = run.stderr.decode()
    assert "rows all failed alike, image: no field 'image_path'" in message
    assert "id, img, caption" in message


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (jsonl(MISSING), "; see --image-key, --text-key and --image-root"),
        (jsonl(ROW | {"text": " "}), ""),
    ],
)
def test_where_no_row_was_scored_the_cause_is_looked_for_where_it_is(tiny_checkpoint, rows, advice):
    run = longclip_score("-m", tiny_checkpoint, "-q", input=rows)
    assert run.returncode == 3
    assert run.stderr.decode() == f"longclip-score: not one row was scored{advice}\n"


def test_the_early_stop_shows_a_row_that_failed_though_later_ones_did_not(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, "-b", 64, input=jsonl(*[{"img": "a"}] * 150, *[ROW] * 10))
    assert "alike, image: no field 'image_path'; the fields of such a row are: img (" in run.stderr.decode()


def test_a_run_that_cannot_start_leaves_an_older_partial_file_as_it_is(tmp_path):
    (tmp_path / "out.jsonl.partial").write_text("of an earlier run\n")
    run = longclip_score("-m", "missing.pt", "-o", "out.jsonl", input=jsonl(ROW), cwd=tmp_path)
    assert run.returncode == 1
    assert (tmp_path / "out.jsonl.partial").read_text() == "of an earlier run\n"


def test_an_output_may_be_a_pipe_by_name(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, "-o", "/dev/stdout", input=jsonl(ROW))
    assert run.returncode == 0
    assert len(parse_jsonl(run.stdout)) == 1


def test_appending_to_the_input_is_refused(tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    run = subprocess.run(
        ["bash", "-c", f"{COMMAND} in.jsonl >> in.jsonl"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert run.returncode == 2
    assert b"standard output is the input itself" in run.stderr
    assert (tmp_path / "in.jsonl").read_text() == jsonl(ROW)


@pytest.mark.parametrize("closed", ["<&-", "2>&-"])
def test_a_closed_standard_stream_is_no_reason_to_break(tiny_checkpoint, tmp_path, closed):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    line = f"{COMMAND} in.jsonl -m {tiny_checkpoint} -o out.jsonl {closed}"
    run = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, check=False)
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
        assert process.wait(60) == 0
    os.close(reading)


def test_a_hundred_failed_rows_of_two_kinds_do_not_stop_the_run(tiny_checkpoint):
    run = longclip_score("-m", tiny_checkpoint, input=jsonl(*[MISSING] * 99, {}, *[MISSING] * 99))
    assert run.returncode == 3
    assert run.stdout.count(b"\n") == 199


def test_a_broken_input_gives_the_rows_before_it_and_names_the_line(tiny_checkpoint, tmp_path):
    whole = jsonl(*[ROW] * 40).encode()
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(whole + os.urandom(100_000).hex().encode())[:60_000])
    run = longclip_score("in.jsonl.gz", "-m", tiny_checkpoint, "-b", 1, cwd=tmp_path)
    assert run.returncode == 1
    assert "in.jsonl.gz: unreadable after line 40" in run.stderr.decode()
    assert len(parse_jsonl(run.stdout)) == 40


def test_settings_come_from_the_environment(tiny_checkpoint):
    environment = {"LONGCLIP_MODEL": str(tiny_checkpoint), "LONGCLIP_DEVICE": "cpu"}
    assert longclip_score(input=jsonl(ROW), environment=environment).returncode == 0
    assert longclip_score(input=jsonl(ROW), environment=environment | {"LONGCLIP_DEVICE": "gpu0"}).returncode == 2


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


def test_the_same_file_gives_the_same_bytes_whatever_the_threads(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*golden_rows("pairs.jsonl")))
    arguments = (tmp_path / "in.jsonl", "-m", tiny_checkpoint, "--image-root", IMAGES)
    one, many = (longclip_score(*arguments, "-j", workers).stdout for workers in (1, 8))
    assert one == many
    assert one.count(b"\n") == 73


def test_without_input_on_a_terminal_the_help_is_shown():
    controller, terminal = pty.openpty()
    run = subprocess.run([COMMAND], stdin=terminal, capture_output=True, env=ENVIRONMENT, timeout=60, check=False)
    os.close(controller)
    os.close(terminal)
    assert run.returncode == 2
    assert run.stderr.startswith(b"Usage: longclip-score")
    assert run.stdout == b""


def test_a_terminal_sees_a_progress_bar_and_a_pipe_does_not(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW, MISSING))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with start_longclip_score(tmp_path / "in.jsonl", "-m", tiny_checkpoint, stderr=terminal) as process:
        output = process.stdout.read()
        process.wait(60)
    os.close(terminal)
    shown = os.read(controller, 100_000).decode()
    os.close(controller)
    assert "100%" in shown
    assert "2 rows, " in shown
    assert "1 errors" in shown
    assert output.count(b"\n") == 2
    assert b"100%" not in longclip_score(tmp_path / "in.jsonl", "-m", tiny_checkpoint).stderr


def test_the_version_is_the_package_s():
    assert longclip_score("--version").stdout.decode() == f"longclip-score {__version__}\n"


def test_the_help_is_light_and_names_every_option():
    heavy = "torch", "PIL", "tokenizers", "huggingface_hub", "orjson", "tqdm", "ftfy", "rich", "numpy"
    show = f"""
import sys
from longclip_cli.cli.score import main
try:
    main()
except SystemExit:
    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", show, "--help"], capture_output=True, check=True)
    assert run.stderr == b"['orjson']\n" or run.stderr == b"[]\n"
    for name in (ScoreOptions.__dataclass_fields__ | ScoringOptions.__dataclass_fields__).keys() - {"scoring"}:
        option = name.upper() if name == "input" else f"--{name.replace('_', '-')}"
        assert option in run.stdout.decode()


def test_importing_the_package_imports_nothing_heavy():
    show = "import sys, longclip_cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", show], capture_output=True, check=True).stdout == b"False\n"
