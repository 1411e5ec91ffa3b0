"""Streams, and files that exist only once they are complete."""

import gzip
import os
import threading

import pytest

from longclip_cli.errors import OutputError
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.target import Output, open_output


def leave_partial(path, content):
    with pytest.raises(ZeroDivisionError), open_output(str(path)) as output:
        output.begin()
        output.write(content)
        raise ZeroDivisionError


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("of an earlier run\n")
    with open_output(str(path)) as output:
        output.begin()
        output.write(b"new\n")
        assert path.read_text() == "of an earlier run\n"
        assert (tmp_path / "out.jsonl.partial").read_text() == "new\n"
        output.complete()
    assert path.read_text() == "new\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_partial_file_and_an_older_output(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("of an earlier run\n")
    leave_partial(path, b"new\n")
    assert path.read_text() == "of an earlier run\n"
    assert (tmp_path / "out.jsonl.partial").read_text() == "new\n"


def test_whole_lines_are_kept_and_a_torn_one_is_cut(tmp_path):
    path = tmp_path / "out.jsonl"
    leave_partial(path, b"one\ntwo\nthr")
    with open_output(str(path)) as output:
        assert list(output.kept_lines()) == [b"one\n", b"two\n"]
        output.begin()
        output.write(b"three\n")
        output.complete()
    assert path.read_text() == "one\ntwo\nthree\n"


def test_a_second_run_on_one_output_is_refused(tmp_path):
    with open_output(str(tmp_path / "out.jsonl")) as first:
        first.begin()
        first.write(b"one\n")
        with pytest.raises(OutputError, match="another run is writing"), open_output(str(tmp_path / "out.jsonl")):
            pass
        first.complete()
    assert (tmp_path / "out.jsonl").read_text() == "one\n"


def test_a_full_disk_is_named():
    with Output("/dev/full") as output, pytest.raises(OutputError, match=r"cannot write /dev/full: No space left"):
        output.begin()
        output.write(b"new\n")


def test_a_link_stays_a_link_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "out.jsonl").symlink_to("folder/real.jsonl")
    with open_output(str(tmp_path / "out.jsonl")) as output:
        output.begin()
        output.write(b"new\n")
        assert (tmp_path / "folder" / "real.jsonl.partial").exists()
        output.complete()
    assert (tmp_path / "out.jsonl").is_symlink()
    assert (tmp_path / "folder" / "real.jsonl").read_bytes() == b"new\n"


def test_a_fifo_is_written_to_and_stays_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    with open_output(str(tmp_path / "fifo")) as output:
        output.begin()
        output.write(b"new\n")
        output.complete()
    reader.join(10)
    assert received == [b"new\n"]
    assert list(tmp_path.iterdir()) == [tmp_path / "fifo"]
    assert side_files("/dev/null") is None


def test_what_a_killed_run_left_is_replaced_and_not_written_to(tmp_path):
    """It may share its content with another file."""
    (tmp_path / "precious").write_text("precious\n")
    os.link(tmp_path / "precious", tmp_path / "out.jsonl.gz.partial.new")
    leave_partial(tmp_path / "out.jsonl.gz", b"one\n")
    os.link(tmp_path / "precious", tmp_path / "out.jsonl.gz.partial.new")
    with open_output(str(tmp_path / "out.jsonl.gz")) as output:
        list(output.kept_lines())
        output.begin()
        output.finished_file(None)
        output.complete()
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == b"one\n"
    assert (tmp_path / "precious").read_text() == "precious\n"
