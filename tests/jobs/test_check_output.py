"""Files of a run that would overwrite each other, or that cannot be written."""

import os
from pathlib import Path

import pytest
from helpers import MISSING, SIDE_FILES, jsonl, longclip_score, shell

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.jobs.check_output import check_output
from longclip_cli.jobs.plan import Part
from longclip_cli.options import ScoreOptions
from longclip_cli.storage.source import open_input


def check(output, input, summary=None, *, resume=False):
    options = ScoreOptions(output=str(output), summary=summary and Path(summary), resume=resume)
    check_output(options, Part(str(input), options.output), open_input(str(input)))


def test_an_output_that_is_the_input_is_refused_by_any_name(tmp_path):
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "soft.jsonl").symlink_to("in.jsonl")
    os.link(tmp_path / "in.jsonl", tmp_path / "hard.jsonl")
    for name in ("in.jsonl", "soft.jsonl", "hard.jsonl"):
        with pytest.raises(UsageError, match=rf"{name}, which is the input itself"):
            check(tmp_path / name, tmp_path / "in.jsonl")
    with pytest.raises(UsageError, match=r"--summary would overwrite .*in.jsonl, which is the input itself"):
        check(tmp_path / "out.jsonl", tmp_path / "in.jsonl", tmp_path / "in.jsonl")


def test_an_input_that_is_the_partial_file_is_refused_and_stays(tmp_path):
    (tmp_path / "out.jsonl.partial").write_text("{}\n")
    with pytest.raises(UsageError, match=r"out.jsonl.partial, which is the input itself"):
        check(tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial")
    assert (tmp_path / "out.jsonl.partial").read_text() == "{}\n"


def test_what_cannot_be_written_is_refused_before_the_run(tmp_path):
    (tmp_path / "in.jsonl").touch()
    for output, message in {tmp_path: "is a folder", tmp_path / "missing" / "o": "no such folder"}.items():
        with pytest.raises(OutputError, match=message):
            check(output, tmp_path / "in.jsonl")
    with pytest.raises(UsageError, match="--summary would overwrite the output"):
        check(tmp_path / "o", tmp_path / "in.jsonl", tmp_path / "o")


@pytest.mark.parametrize("suffix", ["", *SIDE_FILES])
@pytest.mark.parametrize("spelling", ["{}", "sub/../{}", "link/{}", "./{}"])
def test_a_summary_that_is_a_file_of_the_output_is_refused(folder, spelling, suffix):
    (folder / "link").symlink_to(".")
    for is_there in (False, True):
        with pytest.raises(UsageError, match="--summary would overwrite the output"):
            check("o.jsonl", "in.jsonl", spelling.format(f"o.jsonl{suffix}"))
        assert (folder / f"o.jsonl{suffix}").exists() == is_there
        (folder / f"o.jsonl{suffix}").touch()


def test_the_command_refuses_such_a_summary(folder):
    """The second is the file behind standard output."""
    for line in ("-o o.jsonl --summary sub/../o.jsonl", "--summary all.txt > all.txt"):
        run = shell(folder, f"score in.jsonl -m missing.pt {line}")
        assert run.returncode == 2
        assert b"--summary would overwrite the output" in run.stderr


def test_a_refused_summary_is_not_written_over_the_input(folder):
    before = (folder / "in.jsonl").read_bytes()
    run = longclip_score("in.jsonl", "-m", "missing.pt", "-o", "o.jsonl", "--summary", "in.jsonl")
    assert run.returncode == 2
    assert (folder / "in.jsonl").read_bytes() == before


@pytest.mark.parametrize("suffix", SIDE_FILES)
def test_an_input_with_a_side_file_s_name_is_refused_and_stays(folder, suffix):
    (folder / f"d.jsonl{suffix}").write_text(jsonl(MISSING))
    os.link(folder / f"d.jsonl{suffix}", folder / "hard link.jsonl")
    for name in (f"d.jsonl{suffix}", "hard link.jsonl"):
        run = longclip_score(name, "-m", "none.pt", "-o", "d.jsonl")
        assert run.returncode == 2
        assert f"d.jsonl{suffix}, which is the input itself" in run.stderr.decode()
    assert (folder / f"d.jsonl{suffix}").read_text() == jsonl(MISSING)


def test_a_summary_may_be_a_device_or_a_fifo(folder):
    os.mkfifo("fifo")
    for summary in ("/dev/null", "/dev/stderr", "fifo"):
        check("o.jsonl", "in.jsonl", summary)
    check("/dev/null", "in.jsonl", "/dev/null")
    with pytest.raises(UsageError, match="--summary would overwrite the output fifo"):
        check("fifo", "in.jsonl", "fifo")


def test_resume_is_refused_for_an_output_that_is_not_a_file(folder):
    os.mkfifo("fifo")
    for output in ("/dev/null", "fifo"):
        with pytest.raises(UsageError, match=f"--resume needs an output file, not {output}"):
            check(output, "in.jsonl", resume=True)
    check("new.jsonl", "in.jsonl", resume=True)
