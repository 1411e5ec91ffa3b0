"""Standard output, and files that are there only once they are complete."""

import os
import threading
from dataclasses import replace

import pytest
from helpers import RECORD, leave_partial

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.jobs.run_record import Completion
from longclip_cli.storage.side_files import check_output, side_files
from longclip_cli.storage.source import open_input
from longclip_cli.storage.target import Output
from longclip_cli.storage.target_file import open_output


def write(path, content, record=RECORD):
    with open_output(str(path)) as output:
        output.begin(record)
        output.write(content)
        output.complete(rows=1, failed=0)


def test_a_file_takes_its_name_when_all_is_written(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("of an earlier run\n")
    with open_output(str(path)) as output:
        output.begin(RECORD)
        output.write(b"new\n")
        assert path.read_text() == "of an earlier run\n"
        assert (tmp_path / "out.jsonl.partial").read_text() == "new\n"
        output.complete(rows=1, failed=0)
    assert path.read_text() == "new\n"
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "out.jsonl.run.json"]


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
        assert list(output.kept_lines(RECORD)) == [b"one\n", b"two\n"]
        output.begin(RECORD)
        output.write(b"three\n")
        output.complete(rows=3, failed=0)
    assert path.read_text() == "one\ntwo\nthree\n"


def test_what_another_run_has_left_is_refused_with_the_difference(tmp_path):
    leave_partial(tmp_path / "out.jsonl", b"one\n")
    other = replace(RECORD, model="another", model_hash="another", text_key="caption")
    message = "its text key was text, not caption; its model was model, not another"
    with open_output(str(tmp_path / "out.jsonl")) as output, pytest.raises(OutputError, match=message):
        list(output.kept_lines(other))
    assert (tmp_path / "out.jsonl.partial").read_text() == "one\n"


def test_a_partial_file_without_its_record_is_refused(tmp_path):
    (tmp_path / "out.jsonl.partial").write_text("one\n")
    with pytest.raises(OutputError, match=r"record .* is missing"), open_output(str(tmp_path / "out.jsonl")) as output:
        list(output.kept_lines(RECORD))


def test_a_complete_output_is_known_by_its_record_and_its_size(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, b"one\n")
    with open_output(str(path)) as output:
        assert output.completion(RECORD) == Completion(rows=1, failed=0, size=4)
        assert output.completion(replace(RECORD, input="another")) is None
        with pytest.raises(OutputError, match="complete output of another run: its model was model, not another"):
            output.completion(replace(RECORD, model="another", model_hash="another"))
        path.write_text("changed\n")
        assert output.completion(RECORD) is None


def test_a_second_run_on_one_output_is_refused_and_the_first_is_unharmed(tmp_path):
    with open_output(str(tmp_path / "out.jsonl")) as first:
        first.begin(RECORD)
        first.write(b"one\n")
        with pytest.raises(OutputError, match="another run is writing"), open_output(str(tmp_path / "out.jsonl")):
            pass
        first.complete(rows=1, failed=0)
    assert (tmp_path / "out.jsonl").read_text() == "one\n"


def test_a_full_disk_is_named():
    with Output("/dev/full") as output, pytest.raises(OutputError, match=r"cannot write /dev/full: No space left"):
        output.begin(None)
        output.write(b"new\n")


def check(output, input, summary=None):
    check_output(str(output), summary, open_input(str(input)))


def test_an_output_that_is_the_input_is_refused_whatever_it_is_called(tmp_path):
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "soft.jsonl").symlink_to("in.jsonl")
    os.link(tmp_path / "in.jsonl", tmp_path / "hard.jsonl")
    for name in ("in.jsonl", "soft.jsonl", "hard.jsonl"):
        with pytest.raises(UsageError, match=rf"{name}, which is the input itself"):
            check(tmp_path / name, tmp_path / "in.jsonl")
    with pytest.raises(UsageError, match=r"--summary would overwrite .*in.jsonl, which is the input itself"):
        check(tmp_path / "out.jsonl", tmp_path / "in.jsonl", tmp_path / "in.jsonl")


def test_an_input_that_is_the_output_s_partial_file_is_refused_and_stays(tmp_path):
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
    with pytest.raises(UsageError, match="pipe it to a compressor"):
        check("out.jsonl.gz", tmp_path / "in.jsonl")


def test_a_link_stays_a_link_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "out.jsonl").symlink_to("folder/real.jsonl")
    with open_output(str(tmp_path / "out.jsonl")) as output:
        output.begin(RECORD)
        output.write(b"new\n")
        assert (tmp_path / "folder" / "real.jsonl.partial").exists()
        output.complete(rows=1, failed=0)
    assert (tmp_path / "out.jsonl").is_symlink()
    assert (tmp_path / "folder" / "real.jsonl").read_bytes() == b"new\n"


def test_a_fifo_is_written_to_and_stays_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    with open_output(str(tmp_path / "fifo")) as output:
        output.begin(RECORD)
        output.write(b"new\n")
        output.complete(rows=1, failed=0)
    reader.join(10)
    assert received == [b"new\n"]
    assert list(tmp_path.iterdir()) == [tmp_path / "fifo"]
    assert side_files("/dev/null") is None


def test_a_link_where_a_temporary_file_was_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious\n")
    (tmp_path / "o.jsonl.run.json.new").symlink_to("precious")
    write(tmp_path / "o.jsonl", b"new\n")
    assert (tmp_path / "precious").read_text() == "precious\n"
    assert (tmp_path / "o.jsonl.run.json.new").is_symlink()


def test_a_run_s_own_side_files_are_replaced(tmp_path):
    leave_partial(tmp_path / "o.jsonl", b"one\n")
    (tmp_path / "o.jsonl.partial.lock").touch()  # of a run that was killed
    write(tmp_path / "o.jsonl", b"two\n")
    assert (tmp_path / "o.jsonl").read_bytes() == b"two\n"
