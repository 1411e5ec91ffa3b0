"""Runs that end with a full disk or an unexpected error."""

import resource
import subprocess

import pytest
from helpers import TIMEOUT, jsonl, longclip_score, parse_jsonl, rows_of, run_python, start_longclip_score


def test_an_output_at_its_size_limit_is_one_line_and_resumable(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(300)))
    arguments = (tmp_path / "in.jsonl", "-q", "-m", tiny_checkpoint, "-b", 1, "-o", tmp_path / "out.jsonl")
    limit = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    with start_longclip_score(*arguments, **limit) as process:
        message = process.communicate(timeout=TIMEOUT)[1].decode()
    assert process.returncode == 1
    assert message.splitlines()[0].endswith("out.jsonl.partial: File too large")
    assert "--resume" in message
    assert longclip_score(*arguments, "--resume").returncode == 3
    assert [row["id"] for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())] == list(range(300))


def test_a_full_disk_is_one_line_and_resumable(tiny_checkpoint, tmp_path):
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
    ("module", "name"),
    [
        ("longclip_cli.pipeline.encode", "Encoder.submit"),
        ("longclip_cli.storage.target", "Output.write"),
        ("longclip_cli.formats.jsonl", "Jsonl.encode_line"),
    ],
    ids=["forward pass", "writing", "encoding"],
)
def test_an_unexpected_error_leaves_a_resumable_partial_file(tiny_checkpoint, tmp_path, module, name):
    program = f"""
import {module} as module
from longclip_cli.cli.score import main
original, calls = module.{name}, []
def faulty(*arguments, **options):
    calls.append(1)
    if len(calls) > 3:
        raise ZeroDivisionError("injected")
    return original(*arguments, **options)
module.{name} = faulty
main()
"""
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_of(60)))
    arguments = [tmp_path / "in.jsonl", "-m", tiny_checkpoint, "-b", 1, "-j", 1, "-o", tmp_path / "out.jsonl"]
    run = run_python(program, *arguments)
    assert run.returncode == 1
    assert b"ZeroDivisionError('injected')" in run.stderr
    assert b"--resume" in run.stderr
    assert (tmp_path / "out.jsonl.partial").exists()
    assert longclip_score(*arguments, "--resume").returncode == 0
    assert [row["id"] for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())] == list(range(60))
