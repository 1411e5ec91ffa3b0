"""Output files with their run records: what is kept, refused and replaced."""

import os

import pytest
from helpers import RECORD, SIDE_FILES, changed, leave_partial, longclip_score, recorded

from longclip_cli.errors import OutputError
from longclip_cli.jobs.run_record import Completion, read_record


def write(path, content, record=RECORD):
    with recorded(path) as output:
        output.begin(record)
        output.write(content)
        output.complete(rows=1, failed=0)


def test_the_partial_file_of_a_different_run_is_refused(tmp_path):
    leave_partial(tmp_path / "out.jsonl", b"one\n")
    other = changed(RECORD, "another", model_hash="another", text_key="caption")
    message = "it is from a different run: its text key was text, not caption; its model was model, not another"
    with recorded(tmp_path / "out.jsonl") as output, pytest.raises(OutputError, match=message):
        list(output.kept_lines(other))
    assert (tmp_path / "out.jsonl.partial").read_text() == "one\n"


def test_a_partial_file_without_its_record_is_refused(tmp_path):
    (tmp_path / "out.jsonl.partial").write_text("one\n")
    with pytest.raises(OutputError, match=r"record .* is missing"), recorded(tmp_path / "out.jsonl") as output:
        list(output.kept_lines(RECORD))


def test_a_complete_output_is_recognised_by_its_record_and_size(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, b"one\n")
    with recorded(path) as output:
        assert output.completion(RECORD) == Completion(rows=1, failed=0, size=4, time=path.stat().st_mtime_ns)
        assert output.completion(changed(RECORD, input="another")) is None
        with pytest.raises(OutputError, match="complete output of a different run: its model was model, not another"):
            output.completion(changed(RECORD, "another", model_hash="another"))
        path.write_text("changed\n")
        assert output.completion(RECORD) is None


def test_a_link_with_a_temporary_file_s_name_is_not_followed(tmp_path):
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


@pytest.mark.parametrize("suffix", SIDE_FILES)
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo", "folder"])
def test_foreign_files_are_neither_deleted_nor_followed(folder, kind, suffix):
    path, precious = folder / f"o.jsonl{suffix}", folder / "precious"
    if kind != "dangling link":
        precious.write_text("precious\n")
    make = {"file": lambda: os.link(precious, path), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}
    make.get(kind, lambda: path.symlink_to("precious"))()
    for _ in range(2):
        with pytest.raises(OutputError, match=rf"cannot write .*/o.jsonl{suffix}: .* move it away"):
            recorded("o.jsonl").__enter__()
    assert os.path.lexists(path)
    assert not precious.exists() if kind == "dangling link" else precious.read_text() == "precious\n"


def test_the_command_refuses_a_foreign_side_file(folder):
    (folder / "o.jsonl.run.json").write_text("{}")
    for resume in ((), ("--resume",)):
        run = longclip_score("in.jsonl", "-m", "missing.pt", "-o", "o.jsonl", *resume)
        assert run.returncode == 1
        assert run.stderr.decode().endswith(
            "o.jsonl.run.json: it is not the record of a run; move it away, or choose another output with -o\n"
        )


def test_a_refused_output_leaves_no_lock(folder):
    (folder / "o.jsonl.run.json").write_text("[]")
    with pytest.raises(OutputError, match="it is not the record of a run"), recorded("o.jsonl"):
        pass
    assert not (folder / "o.jsonl.partial.lock").exists()


def test_rows_after_the_last_recorded_hash_are_kept(tmp_path):
    """As a kill leaves them."""
    leave_partial(tmp_path / "o.jsonl", b"one\n")
    with (tmp_path / "o.jsonl.partial").open("ab") as file:
        file.write(b"two\nthr")
    with recorded(tmp_path / "o.jsonl") as output:
        assert list(output.kept_lines(RECORD)) == [b"one\n", b"two\n"]
        output.begin(RECORD)
        output.write(b"three\n")
    assert read_record(tmp_path / "o.jsonl.run.json").prefix.size == len(b"one\ntwo\nthree\n")
    with recorded(tmp_path / "o.jsonl") as output:
        assert list(output.kept_lines(RECORD)) == [b"one\n", b"two\n", b"three\n"]


def test_a_hash_of_lost_rows_does_not_stop_the_next_resume(tmp_path):
    """Scored again, on a GPU, they may differ in the last digit."""
    leave_partial(tmp_path / "o.jsonl", b"one\ntwo\n")
    with (tmp_path / "o.jsonl.partial").open("ab") as file:
        file.truncate(6)
    with recorded(tmp_path / "o.jsonl") as output:
        list(output.kept_lines(RECORD))
        output.begin(RECORD)
        assert read_record(tmp_path / "o.jsonl.run.json").prefix.size == len(b"one\n")


def test_the_hash_is_recorded_every_ten_seconds(tmp_path, monkeypatch):
    """Every ten seconds; a row takes four here."""
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("longclip_cli.jobs.recorded_output.monotonic", lambda: next(clock))
    sizes = []
    with recorded(tmp_path / "o.jsonl") as output:
        output.begin(RECORD)
        for _ in range(9):
            output.write(b"row\n")
            prefix = read_record(tmp_path / "o.jsonl.run.json").prefix
            sizes.append(prefix.size // 4 if prefix else 0)
        output.complete(rows=9, failed=0)
    assert sizes == [0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert read_record(tmp_path / "o.jsonl.run.json").completion.size == 36
