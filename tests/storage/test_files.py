"""Files that are written whole, and paths that lead to one file."""

import os
from pathlib import Path

import pytest

from longclip_cli.checkpoints.convert import convert_checkpoint
from longclip_cli.storage.files import file_keys, write_whole


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


def test_a_converted_file_overwrites_nothing_else(folder, tiny_checkpoint):
    (folder / "precious").write_text("precious\n")
    (folder / "o.safetensors.partial").symlink_to("precious")
    convert_checkpoint(str(tiny_checkpoint), folder / "o.safetensors")
    assert (folder / "precious").read_text() == "precious\n"
    assert {path.name for path in folder.iterdir()} == {
        "in.jsonl", "sub", "precious", "o.safetensors", "o.safetensors.partial"
    }  # fmt: skip
