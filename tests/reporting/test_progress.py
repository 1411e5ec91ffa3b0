"""Progress and summary: what a run shows while it runs and at its end."""

import json
import os
import re
import sys

import pytest
from helpers import ROW, TIME, jsonl, jsonl_row, longclip_score, run_python, shell

from longclip_cli import __version__
from longclip_cli.errors import Reason, RowError
from longclip_cli.reporting import progress
from longclip_cli.reporting.progress import Progress
from longclip_cli.reporting.summary import Summary
from longclip_cli.rows import ScoredRow


def add(summary, count, result=0.5, content=b"{}\n"):
    summary.add(ScoredRow(jsonl_row(content), result) for _ in range(count))


def add_kept(summary, count, result=0.5, offset=0):
    for _ in range(count):
        summary.add_kept(jsonl_row(offset=offset), result)


@pytest.fixture
def clock(monkeypatch):
    """Return the clock of the progress: a list of one number, which the test sets."""
    seconds = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_log_gets_a_time_stamped_line_a_minute(clock, capsys):
    shown, summary = Progress(), Summary()
    shown.start(size=1000)
    for _ in range(300):
        clock[0] += 1
        add(summary, 2)
        shown.update(summary, 2 * (summary.rows // 2))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    for minute, line in enumerate(lines, 1):
        counts = f"{120 * minute} rows, 2.0 rows/s, 0 errors, {12 * minute} % of the input"
        assert re.fullmatch(f"longclip-score: {TIME} {re.escape(counts)}", line)


def test_the_rate_counts_the_rows_of_this_run_only(clock, capsys):
    shown, summary = Progress(), Summary()
    add_kept(summary, 1000)
    shown.start(size=None, kept=summary.kept_offset)
    clock[0] += 60
    add(summary, 30)
    shown.update(summary, 0)
    assert " 1,030 rows, 0.5 rows/s, 0 errors" in capsys.readouterr().err


def test_the_bar_of_a_resumed_run_starts_at_the_kept_rows(monkeypatch):
    """The time left then follows from the rate of this run."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown, summary = Progress(), Summary()
    add_kept(summary, 10, offset=520)
    shown.start(size=1000, kept=summary.kept_offset)
    bar = shown._bar
    assert (bar.initial, bar.n) == (520, 520)
    add(summary, 1)
    shown.update(summary, 640)
    assert bar.n == 640
    shown.close()


def test_the_command_starts_the_bar_at_the_kept_rows(tiny_checkpoint, tmp_path):
    program = """
from longclip_cli.reporting import progress
from longclip_cli.cli.score import main
start = progress.Progress.start
def show(self, size, kept=0):
    print(f"kept {kept} of {size}")
    start(self, size, kept)
progress.Progress.start = show
main()
"""
    rows = [{"image_path": "missing.png", "text": "A cat"}, *[ROW | {"id": i} for i in range(9)]]
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-b", 1, "-o", "o.jsonl", "--summary", "s.json")
    stopped = longclip_score(*arguments, "--max-errors", 0, "--prefetch", 1, cwd=tmp_path)
    assert stopped.returncode == 1
    assert b"rows/s" not in stopped.stderr
    assert json.loads((tmp_path / "s.json").read_text())["rows_per_second"] is None
    run = run_python(program, *arguments, "--resume", cwd=tmp_path)
    assert run.returncode == 3
    assert run.stdout.decode() == f"kept {len(jsonl(rows[0]))} of {len(jsonl(*rows))}\n"


def test_a_run_that_scored_no_row_has_no_rate():
    """Failed rows take no time, so a rate that counts them means nothing."""
    summary = Summary()
    summary.stopwatch.seconds["images"] = 0.01
    add_kept(summary, 5)
    add(summary, 100, RowError(Reason.NO_SUCH_FILE))
    assert summary.as_dict()["rows_per_second"] is None
    assert "rows/s" not in str(summary)
    add(summary, 100)
    assert summary.as_dict()["rows_per_second"] == 20_000
    assert "(20,000.0 rows/s with the model loaded)" in str(summary)


def test_the_summary_names_model_device_version_and_times(tiny_checkpoint, tmp_path):
    run = longclip_score(
        "-m", tiny_checkpoint, "--device", "cpu", "--summary", "s.json", input=jsonl(ROW), cwd=tmp_path
    )
    values = json.loads((tmp_path / "s.json").read_text())
    named = [values[name] for name in ("model", "model_file", "device", "precision", "version")]
    assert named == [str(tiny_checkpoint), str(tiny_checkpoint), "cpu", "float32", __version__]
    for name in ("start", "end"):
        assert re.fullmatch(TIME, values[name])
    shown = run.stderr.decode()
    assert f"  model   {tiny_checkpoint} ({tiny_checkpoint}) on cpu, float32\n" in shown
    assert re.search(f"  run     {TIME} to {TIME}, version {re.escape(__version__)}\n", shown)


def test_the_summary_of_a_failed_start_names_its_model(tmp_path):
    longclip_score("-m", "missing.pt", "--summary", "s.json", input=jsonl(ROW), cwd=tmp_path)
    values = json.loads((tmp_path / "s.json").read_text())
    assert (values["model"], values["device"], values["complete"]) == ("missing.pt", None, False)


def test_messages_are_time_stamped_in_a_log_file_only(tmp_path):
    for line, pattern in {
        "2>> log": f"longclip-score: {TIME} cannot read",
        "2>&1 | cat > log": "longclip-score: cannot",
    }.items():
        shell(tmp_path, f"score missing.jsonl {line}")
        assert re.match(pattern, (tmp_path / "log").read_text())
        (tmp_path / "log").unlink()


@pytest.mark.parametrize("key", ["größe", b"gr\xf6sse".decode("utf-8", "surrogateescape")])
def test_a_summary_is_utf_8_in_any_locale(tiny_checkpoint, tmp_path, key):
    """Also if a name on the command line is not UTF-8."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = longclip_score(
        "-m", tiny_checkpoint, "--text-key", key, "--summary", "s.json", "-o", "o.jsonl",
        input=jsonl(ROW), environment=locale, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 3
    (reason,) = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["failed_by_reason"]
    assert reason.startswith("text: no field 'gr")


@pytest.mark.parametrize(
    ("end", "is_unterminated", "is_noted"),
    [
        ("", False, False),
        (json.dumps(ROW), True, False),
        (json.dumps(ROW)[:-5], True, True),
        ("no JSON\n", False, False),
    ],
)
def test_a_last_line_without_a_line_end_is_noted(tiny_checkpoint, tmp_path, end, is_unterminated, is_noted):
    run = longclip_score("-m", tiny_checkpoint, "--summary", "s.json", input=jsonl(ROW) + end, cwd=tmp_path)
    assert json.loads((tmp_path / "s.json").read_text())["last_line_unterminated"] is is_unterminated
    assert (b"the last line has no line end and is no row" in run.stderr) is is_noted


def test_a_kept_last_line_without_a_line_end_is_noted():
    summary = Summary()
    summary.add_kept(jsonl_row(b"{}"), 0.5)
    assert summary.last_line_unterminated


def test_a_summary_replaces_a_file_and_is_written_into_a_pipe(tmp_path):
    summary = Summary()
    (tmp_path / "target.json").write_text("old\n")
    (tmp_path / "link.json").symlink_to("target.json")
    inode = (tmp_path / "target.json").stat().st_ino
    summary.write(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "target.json").read_text())["rows"] == 0
    assert (tmp_path / "target.json").stat().st_ino != inode
    reading, writing = os.pipe()
    summary.write(tmp_path / f"/dev/fd/{writing}")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert json.load(pipe)["complete"] is False


def test_a_summary_goes_to_an_open_descriptor(tmp_path):
    (tmp_path / "in.jsonl").touch()
    run = shell(
        tmp_path,
        "score in.jsonl -q -o o.jsonl --summary /dev/stderr && score in.jsonl -q -o o.jsonl --summary /dev/stdout",
    )
    assert json.loads(run.stderr)["complete"] is True
    assert json.loads(run.stdout)["complete"] is True


@pytest.mark.parametrize(
    ("when", "status"),
    [
        (
            "class Late:\n    def __del__(self, kill=kill): kill()\nlate = Late()",
            0,
        ),  # after Python has removed its own handlers
        ("import atexit\natexit.register(kill)", 0),
        ("cli.complain = lambda text: kill()", 0),
        ("write = Summary.write\nSummary.write = lambda *values, **named: (write(*values, **named), kill())", 0),
    ],
    ids=["while modules go", "at exit", "before the summary", "after the last row"],
)
def test_a_signal_after_the_last_row_changes_no_status(tiny_checkpoint, tmp_path, when, status):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    kill = f"""
import os, signal
from longclip_cli.cli import score as cli
from longclip_cli.reporting.summary import Summary
def kill(kill=os.kill, pid=os.getpid()): kill(pid, {15})
"""
    command = (f"{kill}{when}\ncli.main()", "in.jsonl", "-m", tiny_checkpoint, "-o", "o.jsonl")
    for arguments in (["--summary", "s.json"], ["--resume"]):  # the second finds nothing to do
        run = run_python(*command, *arguments, cwd=tmp_path)
        assert run.returncode == status, run.stderr
        assert (tmp_path / "o.jsonl").read_bytes().count(b"\n") == 1
