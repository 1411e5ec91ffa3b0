"""Help, wrong usage and runs that cannot start."""

import os
import pty
import subprocess

import pytest
from helpers import COMMAND, ENVIRONMENT, ROW, TIMEOUT, jsonl, longclip_score, run_python, shell

from longclip_cli import __version__
from longclip_cli.options import ScoreOptions, ScoringOptions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--precision", "fp64"], "--precision"),
        (["--no-such-option"], "--no-such-option"),
        (["--image-root", "missing-folder"], "missing-folder"),
        (["--output-key", "text"], "would overwrite the field 'text'"),
        (["--text-key", "clip_score_error"], "would overwrite the field 'clip_score_error'"),
        (["-o", "missing/"], "-o missing/ is a folder; give a file for what standard input brings"),
        (["--device", "gpu0", "-m", "missing.pt"], "no such device: gpu0"),
        ([""], "INPUT is empty; is a shell variable unset?"),
        (["--output-key", ""], "--output-key is empty; is a shell variable unset?"),
    ],
)
def test_wrong_usage_is_status_2_and_names_the_mistake(arguments, message, tmp_path):
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


def test_a_run_that_cannot_start_keeps_an_older_partial_file(tmp_path):
    (tmp_path / "out.jsonl.partial").write_text("of an earlier run\n")
    run = longclip_score("-m", "missing.pt", "-o", "out.jsonl", input=jsonl(ROW), cwd=tmp_path)
    assert run.returncode == 1
    assert (tmp_path / "out.jsonl.partial").read_text() == "of an earlier run\n"


def test_appending_to_the_input_is_refused(tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    run = shell(tmp_path, "score in.jsonl >> in.jsonl")
    assert run.returncode == 2
    assert b"standard output is the input itself" in run.stderr
    assert (tmp_path / "in.jsonl").read_text() == jsonl(ROW)


def test_settings_come_from_the_environment(tiny_checkpoint):
    environment = {"LONGCLIP_MODEL": str(tiny_checkpoint), "LONGCLIP_DEVICE": "cpu"}
    assert longclip_score(input=jsonl(ROW), environment=environment).returncode == 0
    assert longclip_score(input=jsonl(ROW), environment=environment | {"LONGCLIP_DEVICE": "gpu0"}).returncode == 2


def test_without_input_on_a_terminal_the_help_is_shown():
    controller, terminal = pty.openpty()
    run = subprocess.run([COMMAND], stdin=terminal, capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT, check=False)
    os.close(controller)
    os.close(terminal)
    assert run.returncode == 2
    assert run.stderr.startswith(b"Usage: longclip-score")
    assert run.stdout == b""


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
    run = run_python(show, "--help")
    assert run.stderr == b"['orjson']\n" or run.stderr == b"[]\n"
    for name in (ScoreOptions.__dataclass_fields__ | ScoringOptions.__dataclass_fields__).keys() - {"scoring"}:
        option = "INPUT" if name == "inputs" else f"--{name.replace('_', '-')}"
        assert option in run.stdout.decode()
