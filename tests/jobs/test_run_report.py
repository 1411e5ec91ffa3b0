"""The report that a run writes when it ends."""

import re

import pytest
from helpers import EXAMPLES, ROW, jsonl, longclip_score

SCENES = EXAMPLES / "scenes.jsonl"
OPTIONS = ("-m", "demo", "--image-root", EXAMPLES)


def test_a_run_writes_its_report(tmp_path):
    run = longclip_score(SCENES, *OPTIONS, "-o", "out.jsonl", "--report", "report.html", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "report.html").read_text()
    assert "30</dd>" in page
    assert "The run has cut 0 texts" in page
    assert re.search(r"longclip-select out.jsonl --min .* -o kept.jsonl", page)


def test_the_report_of_a_folder_has_all_its_outputs(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "in" / name).write_text(SCENES.read_text())
    (tmp_path / "in" / "c.jsonl").write_text("no row\n")
    run = longclip_score("in", *OPTIONS, "-o", "out", "--report", "report.html", cwd=tmp_path)
    assert run.returncode == 1  # an input failed, and the others are reported
    page = (tmp_path / "report.html").read_text()
    assert "60</dd>" in page
    assert "c.jsonl" not in page


def test_a_run_with_nothing_to_do_writes_the_report_again(tmp_path):
    arguments = (SCENES, *OPTIONS, "-o", "out.jsonl", "--report", "report.html")
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 0
    (tmp_path / "report.html").unlink()
    assert longclip_score(*arguments, "--resume", cwd=tmp_path).returncode == 0
    assert "30</dd>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (("--report", "r.html"), 2, "--report needs an output file; give one with -o"),
        (("-o", "out.jsonl", "--report", "in.jsonl"), 2, "--report would overwrite the input in.jsonl"),
        (("-o", "out.jsonl", "--report", "out.jsonl"), 2, "--report would overwrite the output out.jsonl"),
        (("-o", "out.jsonl", "--report", "r", "--summary", "r"), 2, "--report would overwrite the summary"),
        (("-o", "out.jsonl", "--report", "."), 1, "cannot write the report .: it is a folder"),
        (("-o", "out.jsonl", "--report", "none/r.html"), 1, "cannot write the report none/r.html: no such folder"),
    ],
)
def test_a_report_that_cannot_be_written_stops_the_run_at_once(tmp_path, arguments, status, problem):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    run = longclip_score("in.jsonl", "-m", "demo", *arguments, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (status, b"")
    assert f"longclip-score: {problem}".encode() in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert (tmp_path / "in.jsonl").read_text() == jsonl(ROW)
