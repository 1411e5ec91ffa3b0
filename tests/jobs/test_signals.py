"""Runs that are killed or interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import (
    ENVIRONMENT,
    TIMEOUT,
    jsonl,
    longclip_score,
    parse_jsonl,
    rows_of,
    size_of,
    start_longclip_score,
    wait_until,
)
from PIL import Image


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
def test_a_run_stopped_at_random_and_resumed_has_each_row_once(
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
        status = process.wait(TIMEOUT)
        stopped += status != 3
        assert status in {signal.SIGKILL: (-9, 3), signal.SIGTERM: (143, -15, 3), signal.SIGINT: (130, -2, 3)}[number]
        if source == "stdin":
            feeder.wait(TIMEOUT)
        process.stdout.close()
        process.stderr.close()
    assert stopped >= stops // 2, "too few runs were stopped before their end"
    is_complete = out.exists()
    # `input` is a pipe, as in the runs before if the source is a pipe.
    final = longclip_score(*arguments, "--summary", tmp_path / "s.json", input=long_input.read_bytes())
    assert final.returncode == 3, final.stderr
    assert is_complete or json.loads((tmp_path / "s.json").read_text())["kept"] > 0
    assert_same_rows(out.read_bytes(), uninterrupted)
    assert not partial.exists()
    assert not Path(f"{partial}.lock").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_run_keeps_its_rows_and_names_resume(tiny_checkpoint, tmp_path, number, status):
    row = rows_of(1)[0]
    with start_longclip_score("-m", tiny_checkpoint, "-o", tmp_path / "out.jsonl") as process:
        process.stdin.write(jsonl(row).encode())
        process.stdin.flush()
        wait_until(lambda: size_of(tmp_path / "out.jsonl.partial"), process)
        process.send_signal(number)
        assert process.wait(TIMEOUT) == status
        assert b"; add --resume to continue" in process.stderr.read()
    assert len(parse_jsonl((tmp_path / "out.jsonl.partial").read_bytes())) == 1


def test_a_second_interrupt_stops_within_a_batch(base_checkpoint, tmp_path):
    for number in range(200):  # unique images: the cache would make others too fast
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    arguments = ("-m", base_checkpoint, "-b", 64, "-o", tmp_path / "out.jsonl", "--image-root", tmp_path)
    rows = [{"image_path": f"{number}.png", "text": "A red square."} for number in range(200)]
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    with start_longclip_score(tmp_path / "in.jsonl", *arguments) as process:
        wait_until((tmp_path / "out.jsonl.partial").exists, process)
        time.sleep(4)  # the first rows take much longer
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(2) == 130
        assert b"stopped at once" in process.stderr.read()


def test_a_signal_that_the_parent_ignores_stays_ignored(tiny_checkpoint):
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
        assert process.wait(TIMEOUT) == 0


def test_a_signal_before_the_first_row_ends_the_run(tiny_checkpoint):
    with start_longclip_score("-m", tiny_checkpoint) as process:
        process.stdin.write(b'{"half a line')
        process.stdin.flush()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 143
        assert process.stderr.read() == b"longclip-score: interrupted\n"


def test_a_signal_works_when_nobody_reads_standard_error(tiny_checkpoint, tmp_path):
    reading, writing = os.pipe()
    with start_longclip_score("-m", tiny_checkpoint, "-o", tmp_path / "out.jsonl", stderr=writing) as process:
        os.close(writing)
        process.stdin.write(jsonl(*rows_of(3)).encode())
        process.stdin.flush()
        wait_until(lambda: size_of(tmp_path / "out.jsonl.partial"), process)
        os.close(reading)
        process.send_signal(signal.SIGHUP)
        assert process.wait(TIMEOUT) == 129
