"""Runs that are killed, interrupted, starved and confused, and that lose no row."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import (
    ENVIRONMENT,
    GOLDEN,
    SECONDS,
    golden_rows,
    jsonl,
    longclip_score,
    parse_jsonl,
    start_longclip_score,
    wait_until,
)
from PIL import Image

IMAGES = GOLDEN / "images"
MISSING = {"image_path": "missing.png", "text": "a row that fails"}


def rows_of(count):
    rows = [row | {"image_path": str(IMAGES / row["image_path"])} for row in golden_rows("pairs.jsonl")] + [MISSING]
    return [rows[i % len(rows)] | {"id": i} for i in range(count)]


def size_of(path):
    return path.stat().st_size if path.exists() else 0


@pytest.fixture(scope="module", params=[400, pytest.param(2000, marks=pytest.mark.stress)])
def long_input(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("long") / "in.jsonl"
    path.write_text(jsonl(*rows_of(request.param)))
    return path


@pytest.fixture(scope="module")
def uninterrupted(long_input, tiny_checkpoint):
    run = longclip_score(long_input, "-m", tiny_checkpoint, "-b", 1)
    assert run.returncode == 3
    return run.stdout


def assert_same_rows(output, uninterrupted):
    rows, expected = parse_jsonl(output), parse_jsonl(uninterrupted)
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        if other["clip_score"] is not None:
            other = other | {"clip_score": pytest.approx(other["clip_score"], abs=1.001e-6)}  # both are rounded
        assert row == other


@pytest.mark.parametrize(
    ("number", "source"),
    [(signal.SIGKILL, "file"), (signal.SIGKILL, "stdin"), (signal.SIGTERM, "file"), (signal.SIGINT, "file")],
)
def test_a_run_stopped_at_random_moments_and_resumed_has_every_row_once(
    number, source, long_input, uninterrupted, tiny_checkpoint, tmp_path
):
    stops = 50 if uninterrupted.count(b"\n") == 2000 else 2
    rng = random.Random(f"{number} {source} {stops}")
    out, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    arguments = ["-m", tiny_checkpoint, "-b", 1, "-o", out, "--resume", *([long_input] if source == "file" else [])]
    stopped = 0
    for _ in range(stops):
        with long_input.open("rb") as stdin:
            process = start_longclip_score(*arguments, stdin=stdin if source == "file" else subprocess.PIPE)
            if source == "stdin":
                feeder = subprocess.Popen(["cat", long_input], stdout=process.stdin)
                process.stdin.close()
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, 1.2))  # also while it starts
        else:
            enough = size_of(partial) + rng.uniform(0, 1) * len(uninterrupted) / stops
            wait_until(lambda enough=enough: size_of(partial) >= enough, process)
        process.send_signal(number)
        process.stderr.read()
        status = process.wait(SECONDS)
        stopped += status != 3
        assert status in {signal.SIGKILL: (-9, 3), signal.SIGTERM: (143, -15, 3), signal.SIGINT: (130, -2, 3)}[number]
        if source == "stdin":
            feeder.wait(SECONDS)
        process.stdout.close()
        process.stderr.close()
    assert stopped >= stops // 2, "too few runs were stopped before their end"
    is_complete = out.exists()
    # `input` makes a pipe, as the runs before had it where the source is one.
    final = longclip_score(*arguments, "--summary", tmp_path / "s.json", input=long_input.read_bytes())
    assert final.returncode == 3, final.stderr
    assert is_complete or json.loads((tmp_path / "s.json").read_text())["kept"] > 0
    assert_same_rows(out.read_bytes(), uninterrupted)
    assert not partial.exists()
    assert not Path(f"{partial}.lock").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_run_finishes_the_rows_in_hand_and_says_how_to_go_on(tiny_checkpoint, tmp_path, number, status):
    row = rows_of(1)[0]
    with start_longclip_score("-m", tiny_checkpoint, "-o", tmp_path / "out.jsonl") as process:
        process.stdin.write(jsonl(row).encode())
        process.stdin.flush()
        wait_until(lambda: size_of(tmp_path / "out.jsonl.partial"), process)
        process.send_signal(number)
        assert process.wait(SECONDS) == status
        assert b"run the same command with --resume to go on" in process.stderr.read()
    assert len(parse_jsonl((tmp_path / "out.jsonl.partial").read_bytes())) == 1


def test_a_second_interrupt_stops_at_once_even_within_a_batch(base_checkpoint, tmp_path):
    for number in range(200):  # no two alike, or they would be scored in no time
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    arguments = ("-m", base_checkpoint, "-b", 64, "-o", tmp_path / "out.jsonl", "--image-root", tmp_path)
    rows = [{"image_path": f"{number}.png", "text": "A red square."} for number in range(200)]
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    with start_longclip_score(tmp_path / "in.jsonl", *arguments) as process:
        wait_until((tmp_path / "out.jsonl.partial").exists, process)
        time.sleep(4)  # it takes many times as long over its first rows
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(2) == 130
        assert b"stopped at once" in process.stderr.read()


def test_a_run_whose_interrupts_are_ignored_goes_on(tiny_checkpoint):
    line = "trap '' HUP; exec \"$@\""
    command = [
        "bash",
        "-c",
        line,
        "-",
        str(Path(sys.executable).with_name("longclip-score")),
        "-m",
        str(tiny_checkpoint),
    ]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as process:
        for _ in range(2):
            process.stdin.write(jsonl(rows_of(1)[0]).encode())
            process.stdin.flush()
            assert process.stdout.readline()
            process.send_signal(signal.SIGHUP)
        process.stdin.close()
        assert process.wait(SECONDS) == 0


def stop_midway(arguments, out, rows=40, **options):
    """Starts a run on a pipe, gives it some rows and interrupts it once they are written."""
    with start_longclip_score(*arguments, "-o", out, **options) as process:
        process.stdin.write(jsonl(*rows_of(rows)).encode())
        process.stdin.flush()
        wait_until(lambda: Path(f"{out}.partial").exists() and Path(f"{out}.partial").read_bytes().count(b"\n") == rows)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130


@pytest.fixture(scope="module")
def stopped_folder(tiny_checkpoint, tmp_path_factory):
    """A folder with what a run on a pipe, interrupted after forty rows, has left."""
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
        (jsonl(*rows), "holds a row 8 which is not line 8 of the input"),
        (jsonl(*rows_of(39)), "holds a row 40 where the input ends"),
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
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write(jsonl(*rows_of(1)))
    run = longclip_score(*arguments, "--resume", cwd=tmp_path)
    assert run.returncode == 1
    message = run.stderr.decode()
    assert "which another run has left: its input was " in message
    assert message.count("\n") == 1
    assert (tmp_path / "out.jsonl.partial").read_bytes() == left


def test_another_stream_through_the_same_pipe_is_not_taken_for_the_one_that_is_complete(tiny_checkpoint, tmp_path):
    arguments = ("-m", tiny_checkpoint, "-o", tmp_path / "out.jsonl", "--resume")
    for first in (0, 10):
        rows = rows_of(20)[first : first + 5]
        assert longclip_score(*arguments, input=jsonl(*rows)).returncode == 0
        assert [row["id"] for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())] == [row["id"] for row in rows]


def test_a_run_that_stopped_as_all_rows_failed_leaves_no_failed_rows_to_keep(tiny_checkpoint, tmp_path):
    row = {"image_path": "late.png", "text": "a picture that comes late"}
    (tmp_path / "in.jsonl").write_text(jsonl(*[row] * 150))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-o", "out.jsonl", "--resume")
    run = longclip_score(*arguments, cwd=tmp_path)
    assert run.returncode == 1
    assert b"rows all failed alike" in run.stderr
    (tmp_path / "late.png").write_bytes((IMAGES / "rgb.png").read_bytes())
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 0
    assert len(parse_jsonl((tmp_path / "out.jsonl").read_bytes())) == 150


def test_a_byte_order_mark_and_blocks_lost_with_the_power_do_not_hinder_resuming(tiny_checkpoint, tmp_path):
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


def test_a_signal_before_rows_flow_ends_the_run_where_it_waits(tiny_checkpoint):
    with start_longclip_score("-m", tiny_checkpoint) as process:
        process.stdin.write(b'{"half a line')
        process.stdin.flush()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143
        assert process.stderr.read() == b"longclip-score: interrupted\n"


def test_a_signal_when_nobody_reads_standard_error_is_as_good_as_any(tiny_checkpoint, tmp_path):
    reading, writing = os.pipe()
    with start_longclip_score("-m", tiny_checkpoint, "-o", tmp_path / "out.jsonl", stderr=writing) as process:
        os.close(writing)
        process.stdin.write(jsonl(*rows_of(3)).encode())
        process.stdin.flush()
        wait_until(lambda: size_of(tmp_path / "out.jsonl.partial"), process)
        os.close(reading)
        process.send_signal(signal.SIGHUP)
        assert process.wait(SECONDS) == 129


def test_resuming_a_complete_output_does_nothing_and_without_resume_it_is_made_afresh(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(5)))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-o", "out.jsonl")
    assert longclip_score(*arguments, "--resume", cwd=tmp_path).returncode == 0  # nothing to resume: it starts
    before = (tmp_path / "out.jsonl").stat()
    again = longclip_score(*arguments, "--resume", cwd=tmp_path)
    assert again.returncode == 0
    assert b"nothing to do: out.jsonl is complete (5 rows, 0 of them failed)" in again.stderr
    assert (tmp_path / "out.jsonl").stat().st_ino == before.st_ino
    afresh = longclip_score(*arguments, cwd=tmp_path)
    assert b"5 rows in" in afresh.stderr
    assert (tmp_path / "out.jsonl").stat().st_ino != before.st_ino
    # A new input under the old name, as from cron, is no interrupted run but a new one.
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(7)))
    assert b"7 rows in" in longclip_score(*arguments, "--resume", cwd=tmp_path).stderr


def test_rows_that_had_failed_before_the_interruption_count_in_status_and_summary(tiny_checkpoint, tmp_path):
    out = tmp_path / "out.jsonl"
    stop_midway(["-m", tiny_checkpoint], out, rows=80)
    run = longclip_score(
        "-m", tiny_checkpoint, "-o", out, "--resume", "--summary", tmp_path / "s.json", input=jsonl(*rows_of(82))
    )
    assert run.returncode == 3
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["rows"], summary["kept"], summary["failed"]) == (82, 80, 1)
    assert summary["failed_by_reason"] == {"image: no such file": 1}


def test_errors_are_limited_anew_in_a_resumed_run(tiny_checkpoint, tmp_path):
    rows = rows_of(40)
    rows[3]["image_path"] = "missing.png"
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-b", 1, "-o", "out.jsonl", "--resume", "--max-errors", 0)
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 1
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 3
    assert len(parse_jsonl((tmp_path / "out.jsonl").read_bytes())) == 40


def test_without_resume_the_rows_of_an_interrupted_run_are_dropped_and_that_is_said(
    stopped_folder, tiny_checkpoint, tmp_path
):
    out = shutil.copytree(stopped_folder, tmp_path / "copy") / "out.jsonl"
    run = longclip_score("-q", "-m", tiny_checkpoint, "-o", out, input=jsonl(*rows_of(3)))
    assert run.returncode == 0
    assert b"the rows of an interrupted run in" in run.stderr
    assert len(parse_jsonl(out.read_bytes())) == 3


def test_resume_without_an_output_file_is_wrong_usage():
    run = longclip_score("--resume", input=jsonl(*rows_of(1)))
    assert run.returncode == 2
    assert b"--resume needs an output file" in run.stderr


def test_a_second_run_on_one_output_ends_at_once_and_the_first_is_unharmed(tiny_checkpoint, tmp_path):
    out = tmp_path / "out.jsonl"
    with start_longclip_score("-m", tiny_checkpoint, "-o", out) as first:
        first.stdin.write(jsonl(*rows_of(3)).encode())
        first.stdin.flush()
        wait_until(lambda: size_of(Path(f"{out}.partial")), first)
        second = longclip_score("-m", tiny_checkpoint, "-o", out, input=jsonl(*rows_of(5)))
        assert second.returncode == 1
        assert f"another run is writing {out}" in second.stderr.decode()
        first.stdin.close()
        assert first.wait(SECONDS) == 0
    assert [row["id"] for row in parse_jsonl(out.read_bytes())] == [0, 1, 2]


def test_an_output_that_can_grow_no_more_is_one_clear_line_and_resumable(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(300)))
    arguments = (tmp_path / "in.jsonl", "-q", "-m", tiny_checkpoint, "-b", 1, "-o", tmp_path / "out.jsonl")
    limit = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    with start_longclip_score(*arguments, **limit) as process:
        message = process.communicate(timeout=SECONDS)[1].decode()
    assert process.returncode == 1
    assert message.splitlines()[0].endswith("out.jsonl.partial: File too large")
    assert "--resume" in message
    assert longclip_score(*arguments, "--resume").returncode == 3
    assert [row["id"] for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())] == list(range(300))


def test_a_full_disk_is_one_clear_line_and_resumable(tiny_checkpoint, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (disk / "ballast").write_bytes(bytes(900 * 1024))
        (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(700)))
        arguments = (tmp_path / "in.jsonl", "-q", "-m", tiny_checkpoint, "-b", 1, "-o", disk / "out.jsonl")
        run = longclip_score(*arguments)
        assert run.returncode == 1
        assert run.stderr.decode().splitlines()[0].endswith("out.jsonl.partial: No space left on device")
        (disk / "ballast").unlink()
        assert longclip_score(*arguments, "--resume").returncode == 3
        assert [row["id"] for row in parse_jsonl((disk / "out.jsonl").read_bytes())] == list(range(700))
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("longclip_cli.scorer.LongCLIPScorer", "submit"),
        ("longclip_cli.storage.target.Output", "write"),
        ("longclip_cli.jobs.score_file", "encode_record"),
    ],
    ids=["forward pass", "writing", "encoding"],
)
def test_an_unforeseen_fault_ends_the_run_with_a_resumable_partial_file(tiny_checkpoint, tmp_path, place, name):
    module, _, owner = place.partition(".Long") if ".Long" in place else place.partition(".Output")
    target = f"module.{'Long' + owner if '.Long' in place else 'Output'}" if owner or ".Output" in place else "module"
    program = f"""
import importlib
module = importlib.import_module({module!r})
original, calls = {target}.{name}, []
def faulty(*arguments, **options):
    calls.append(1)
    if len(calls) > 3:
        raise ZeroDivisionError("injected")
    return original(*arguments, **options)
{target}.{name} = faulty
from PIL import Image

from longclip_cli.cli.score import main
main()
"""
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(60)))
    arguments = [tmp_path / "in.jsonl", "-m", tiny_checkpoint, "-b", 1, "-j", 1, "-o", tmp_path / "out.jsonl"]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=SECONDS, check=False)
    assert run.returncode == 1
    assert b"ZeroDivisionError('injected')" in run.stderr
    assert b"--resume" in run.stderr
    assert (tmp_path / "out.jsonl.partial").exists()
    assert longclip_score(*arguments, "--resume").returncode == 0
    assert [row["id"] for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())] == list(range(60))


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.stress)])
def test_fuzzed_lines_give_one_output_line_each(tiny_checkpoint, count):
    rng = random.Random(count)
    lines = [json.dumps(row).encode() for row in rows_of(74)]
    for i in range(count):
        line = bytearray(lines[i % 74])
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(line))
            line[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        lines.append(bytes(line))
    content = b"\n".join(lines)
    run = longclip_score("-q", "-m", tiny_checkpoint, input=content)
    assert run.returncode == 3
    assert run.stderr == b""
    outputs = run.stdout.split(b"\n")
    assert outputs.pop() == b""
    assert len(outputs) == sum(1 for line in content.split(b"\n") if line.strip())
    for output in outputs:
        row = json.loads(output)
        assert (row["clip_score"] is None) == ("clip_score_error" in row)
