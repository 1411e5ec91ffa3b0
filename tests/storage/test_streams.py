"""Closed standard streams, and outputs that are open descriptors."""

import os
import sys
from pathlib import Path

import pytest
from helpers import ROW, jsonl, parse_jsonl, shell
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.storage.streams import descriptor_of, is_inherited


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(ROW, ROW))
    (tmp_path / "all.txt").write_text("an earlier line\n")
    return tmp_path


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("output", ["", "-o /dev/stdout", "-o /dev/fd/1"])
def test_rows_for_a_closed_standard_output_are_an_error(folder, output, closed):
    run = shell(folder, f"score -m missing.pt in.jsonl {output} {closed}")
    assert run.returncode == 1
    if "2>&-" not in closed:
        name = output.removeprefix("-o ") or "standard output"
        assert run.stderr.decode() == f"longclip-score: cannot write {name}: it is closed; give a file with -o\n"


@pytest.mark.parametrize("input", ["", "-", "/dev/stdin"])
def test_a_closed_standard_input_is_an_error_where_it_is_read(folder, input):
    run = shell(folder, f"score -m missing.pt -o out.jsonl {input} <&-")
    assert run.returncode == 1
    name = "/dev/stdin" if input == "/dev/stdin" else "standard input"
    assert run.stderr.decode() == f"longclip-score: cannot read {name}: it is closed; give a file as INPUT\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_that_are_not_needed_change_nothing(folder, tiny_checkpoint, closed):
    run = shell(folder, f"score in.jsonl -m {tiny_checkpoint} -o out.jsonl {closed}")
    assert run.returncode == 0
    assert len(parse_jsonl((folder / "out.jsonl").read_bytes())) == 2
    assert run.stdout == b""


@pytest.mark.parametrize("command", ["score", "convert"])
def test_no_file_gets_the_number_of_a_closed_stream(folder, command):
    """The exit status is the number of the first file that the command would open."""
    program = f"import os, longclip_cli.cli.{command} as c; c.app = lambda: os._exit(os.open('.', 0)); c.main()"
    assert shell(folder, f'score -c "{program}" <&- >&- 2>&-', sys.executable).returncode > 2


@pytest.mark.parametrize(
    ("output", "redirection"),
    [("-o /dev/stdout", ">>"), ("-o /dev/stdout", ">"), ("-o link", ">>"), ("-o /dev/fd/7", ">"), ("", ">>")],
)
def test_an_open_descriptor_is_written_to_where_it_stands(folder, tiny_checkpoint, output, redirection):
    (folder / "link").symlink_to("/dev/stdout")
    line = f"{{ echo first; score in.jsonl -m {tiny_checkpoint} -q {output} 7>&1; echo last; }} {redirection} all.txt"
    assert shell(folder, line).returncode == 0
    *earlier, first, row, another, last = (folder / "all.txt").read_bytes().splitlines()
    assert earlier == ([b"an earlier line"] if redirection == ">>" else [])
    rows = [row, another]
    assert (first, len(rows), last) == (b"first", 2, b"last")
    assert len(parse_jsonl(b"\n".join(rows))) == 2
    assert {path.name for path in folder.iterdir()} == {"in.jsonl", "all.txt", "link"}


def test_the_descriptor_of_another_process_is_appended_to(folder, tiny_checkpoint):
    run = shell(folder, f"exec >> all.txt; score in.jsonl -m {tiny_checkpoint} -q -o /proc/$$/fd/1")
    assert run.returncode == 0
    assert (folder / "all.txt").read_bytes().count(b"\n") == 3


def test_rows_go_through_process_substitutions(folder, tiny_checkpoint):
    run = shell(folder, f"score <(cat in.jsonl) -m {tiny_checkpoint} -q -o >(cat > out.jsonl); wait $!")
    assert run.returncode == 0
    assert len(parse_jsonl((folder / "out.jsonl").read_bytes())) == 2


def test_rows_are_not_appended_to_their_input_by_any_name(folder):
    before = (folder / "in.jsonl").read_bytes()
    for output in ("/dev/stdout", "/dev/fd/3", "-"):
        run = shell(folder, f"score -m missing.pt in.jsonl -o {output} >> in.jsonl 3>> in.jsonl")
        assert run.returncode == 2, output
        assert b"the input itself" in run.stderr
    assert (folder / "in.jsonl").read_bytes() == before


def test_a_descriptor_that_the_caller_did_not_open_is_refused(folder):
    """The number is that of the input, or of the pipe that signals are read from."""
    for number in (3, 4, 5):
        run = shell(folder, f"score -m missing.pt in.jsonl -o /dev/fd/{number} 3>&- 4>&- 5>&-")
        assert run.returncode == 1
        assert f"cannot write /dev/fd/{number}: it is closed" in run.stderr.decode()


def test_resume_needs_an_output_that_is_a_file(folder):
    run = shell(folder, "score -m missing.pt in.jsonl -o /dev/stdout --resume")
    assert run.returncode == 2
    assert b"--resume needs an output file" in run.stderr


def test_a_descriptor_is_known_by_its_path_and_by_links_to_it(tmp_path):
    reading, writing = os.pipe()
    (tmp_path / "link").symlink_to(f"/dev/fd/{writing}")
    (tmp_path / "link to link").symlink_to("link")
    for path in (f"/dev/fd/{writing}", f"/proc/self/fd/{writing}", tmp_path / "link", tmp_path / "link to link"):
        assert descriptor_of(path) == writing
    (tmp_path / "1").touch()
    (tmp_path / "endless").symlink_to("endless")
    for path in (tmp_path / "1", tmp_path / "endless", tmp_path / "missing", "/dev/null", "/dev/fd", "1"):
        assert descriptor_of(path) is None
    assert not is_inherited(writing)
    os.set_inheritable(writing, True)
    assert is_inherited(writing)
    os.close(reading)
    os.close(writing)
    assert not is_inherited(writing)


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_no_other_path_is_a_descriptor(path):
    assert descriptor_of(Path("/nowhere") / path.lstrip("/")) is None
