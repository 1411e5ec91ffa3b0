"""The command `longclip-report`."""

import subprocess

import pytest
from helpers import COMMAND, ENVIRONMENT, ROW, jsonl

REPORT = COMMAND.with_name("longclip-report")


def longclip_report(*arguments, cwd, input=""):
    return subprocess.run(
        [REPORT, *map(str, arguments)],
        cwd=cwd,
        input=input,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_page_is_written_and_named(tmp_path):
    (tmp_path / "scored.jsonl").write_text(jsonl(ROW | {"clip_score": 0.5}))
    run = longclip_report("scored.jsonl", "-o", "report.html", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, "")
    assert run.stderr.startswith("longclip-report: wrote report.html (0.")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_standard_input_and_output_are_used(tmp_path):
    run = longclip_report("-", "-o", "-", cwd=tmp_path, input=jsonl(ROW | {"clip_score": 0.5}))
    assert run.returncode == 0
    assert run.stdout.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (("missing.jsonl", "-o", "report.html"), 1, "cannot read missing.jsonl: No such file or directory"),
        (("in.jsonl", "-o", "in.jsonl"), 2, "-o in.jsonl: the page is HTML; give a name that ends in .html"),
        (("in.jsonl", "-o", "report.html"), 1, "in.jsonl: no row holds a result in the field 'clip_score'"),
        (("in.jsonl", "-o", "report.html", "--image-key", ""), 2, "--image-key is empty"),
    ],
)
def test_errors_are_one_line_and_a_status(tmp_path, arguments, status, problem):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    run = longclip_report(*arguments, cwd=tmp_path)
    assert run.returncode == status
    assert run.stderr.startswith(f"longclip-report: {problem}")
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_no_output_is_wrong_usage(tmp_path):
    assert longclip_report("in.jsonl", cwd=tmp_path).returncode == 2


def test_help_imports_nothing_heavy(tmp_path):
    code = "import sys; from longclip_cli.cli import report; print(sorted({'torch', 'jinja2'} & set(sys.modules)))"
    run = subprocess.run([REPORT.with_name("python"), "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
