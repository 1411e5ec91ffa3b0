"""Standard output, and files that are there only once they are complete."""

import os
from io import FileIO

import pytest

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.output import Output, check_output, open_output


def test_a_file_takes_its_name_when_all_is_written(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("of an earlier run\n")
    with open_output(str(path)) as output:
        output.write(b"new\n")
        assert path.read_text() == "of an earlier run\n"
        assert (tmp_path / "out.jsonl.partial").read_text() == "new\n"
    assert path.read_text() == "new\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_partial_file_and_an_older_output(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("of an earlier run\n")
    with pytest.raises(ZeroDivisionError), open_output(str(path)) as output:
        output.write(b"new\n")
        raise ZeroDivisionError
    assert path.read_text() == "of an earlier run\n"
    assert (tmp_path / "out.jsonl.partial").read_text() == "new\n"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with (
        pytest.raises(OutputError, match=r"cannot write .*missing/out.jsonl.partial: No such file or directory"),
        open_output(str(tmp_path / "missing" / "out.jsonl")),
    ):
        pass


def test_a_full_disk_is_named():
    message = r"cannot write /dev/full: No space left on device"
    with FileIO("/dev/full", "w") as file, pytest.raises(OutputError, match=message):
        Output("/dev/full", file).write(b"new\n")


def test_a_link_to_the_input_is_refused_as_the_input_itself(tmp_path):
    (tmp_path / "in.jsonl").touch()
    (tmp_path / "soft.jsonl").symlink_to("in.jsonl")
    os.link(tmp_path / "in.jsonl", tmp_path / "hard.jsonl")
    for name in ("in.jsonl", "soft.jsonl", "hard.jsonl"):
        with pytest.raises(UsageError, match=rf"{name} is the input itself"):
            check_output(str(tmp_path / name), input=str(tmp_path / "in.jsonl"))


def test_a_compressed_output_is_refused_with_the_way_to_have_it():
    with pytest.raises(UsageError, match="pipe it to a compressor"):
        check_output("out.jsonl.gz", input="-")
