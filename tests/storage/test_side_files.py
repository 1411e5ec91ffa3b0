"""Files of a run that would overwrite each other, or what is not the tool's own."""

import os
from pathlib import Path

import pytest
from helpers import MISSING, jsonl, longclip_score, shell

from longclip_cli.checkpoints.convert import convert_checkpoint
from longclip_cli.errors import OutputError, UsageError
from longclip_cli.storage.files import file_keys, write_whole
from longclip_cli.storage.side_files import check_output
from longclip_cli.storage.source import open_input
from longclip_cli.storage.target_file import open_output

SIDE_FILES = (".partial", ".partial.lock", ".run.json")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(jsonl(MISSING))
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.mark.parametrize("suffix", ["", *SIDE_FILES])
@pytest.mark.parametrize("spelling", ["{}", "sub/../{}", "link/{}", "./{}"])
def test_a_summary_that_is_a_file_of_the_output_is_refused(folder, spelling, suffix):
    (folder / "link").symlink_to(".")
    for is_there in (False, True):
        with pytest.raises(UsageError, match="--summary would overwrite the output"):
            check_output("o.jsonl", Path(spelling.format(f"o.jsonl{suffix}")), open_input("in.jsonl"))
        assert (folder / f"o.jsonl{suffix}").exists() == is_there
        (folder / f"o.jsonl{suffix}").touch()


def test_the_command_refuses_such_a_summary(folder):
    """The second is the file behind standard output."""
    for line in ("-o o.jsonl --summary sub/../o.jsonl", "--summary all.txt > all.txt"):
        run = shell(folder, f"score in.jsonl -m missing.pt {line}")
        assert run.returncode == 2
        assert b"--summary would overwrite the output" in run.stderr


@pytest.mark.parametrize("suffix", SIDE_FILES)
def test_an_input_with_a_side_file_s_name_is_refused_and_stays(folder, suffix):
    (folder / f"d.jsonl{suffix}").write_text(jsonl(MISSING))
    os.link(folder / f"d.jsonl{suffix}", folder / "hard link.jsonl")
    for name in (f"d.jsonl{suffix}", "hard link.jsonl"):
        run = longclip_score(name, "-m", "none.pt", "-o", "d.jsonl")
        assert run.returncode == 2
        assert f"d.jsonl{suffix}, which is the input itself" in run.stderr.decode()
    assert (folder / f"d.jsonl{suffix}").read_text() == jsonl(MISSING)


@pytest.mark.parametrize("suffix", SIDE_FILES)
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo", "folder"])
def test_what_no_run_has_left_is_neither_deleted_nor_followed(folder, kind, suffix):
    path, precious = folder / f"o.jsonl{suffix}", folder / "precious"
    if kind != "dangling link":
        precious.write_text("precious\n")
    make = {"file": lambda: os.link(precious, path), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}
    make.get(kind, lambda: path.symlink_to("precious"))()
    for _ in range(2):
        with pytest.raises(OutputError, match=rf"cannot write .*/o.jsonl{suffix}: .* Move what is there away"):
            open_output("o.jsonl").__enter__()
    assert os.path.lexists(path)
    assert not precious.exists() if kind == "dangling link" else precious.read_text() == "precious\n"


def test_the_command_refuses_a_side_file_that_no_run_has_left(folder):
    (folder / "o.jsonl.run.json").write_text("{}")
    for resume in ((), ("--resume",)):
        run = longclip_score("in.jsonl", "-m", "missing.pt", "-o", "o.jsonl", *resume)
        assert run.returncode == 1
        assert run.stderr.decode().endswith(
            "o.jsonl.run.json: it is not the record of a run. Move what is there away, or give another output with -o\n"
        )


def test_a_file_is_written_whole_or_not_at_all(folder, monkeypatch):
    (folder / "target").write_text("old\n")
    (folder / "link").symlink_to("target")
    write_whole(folder / "link", b"new\n")
    assert (folder / "target").read_text() == "old\n"
    assert not (folder / "link").is_symlink()
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.fsync(-1) if descriptor < 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_whole(folder / "target", b"new\n")
    assert (folder / "target").read_text() == "old\n"
    assert {path.name for path in folder.iterdir()} == {"in.jsonl", "sub", "target", "link"}


def test_files_are_compared_and_not_their_names(folder):
    os.link(folder / "in.jsonl", folder / "sub" / "other")
    (folder / "link").symlink_to("in.jsonl")
    for same in ("./in.jsonl", "sub/../in.jsonl", "sub/other", "link"):
        assert file_keys(folder / "in.jsonl") & file_keys(folder / same)
    assert file_keys(folder / "to come") & file_keys(folder / "sub" / ".." / "to come")
    assert not file_keys(folder / "in.jsonl") & file_keys(folder / "to come")
    assert not file_keys(Path("/dev/null"))


def test_a_refused_output_leaves_no_lock(folder):
    (folder / "o.jsonl.run.json").write_text("[]")
    with pytest.raises(OutputError, match="it is not the record of a run"), open_output("o.jsonl"):
        pass
    assert not (folder / "o.jsonl.partial.lock").exists()


def test_a_summary_may_be_a_device_or_a_fifo(folder):
    source = open_input("in.jsonl")
    os.mkfifo("fifo")
    for summary in ("/dev/null", "/dev/stderr", "fifo"):
        check_output("o.jsonl", summary=Path(summary), source=source)
    check_output("/dev/null", summary=Path("/dev/null"), source=source)
    with pytest.raises(UsageError, match="--summary would overwrite the output fifo"):
        check_output("fifo", summary=Path("fifo"), source=source)


def test_a_converted_file_overwrites_nothing_else(folder, tiny_checkpoint):
    (folder / "precious").write_text("precious\n")
    (folder / "o.safetensors.partial").symlink_to("precious")
    convert_checkpoint(str(tiny_checkpoint), folder / "o.safetensors")
    assert (folder / "precious").read_text() == "precious\n"
    assert {path.name for path in folder.iterdir()} == {
        "in.jsonl", "sub", "precious", "o.safetensors", "o.safetensors.partial"
    }  # fmt: skip
