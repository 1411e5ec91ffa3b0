"""The record of a run: what it compares, and what no run has written."""

import json
import re
from dataclasses import fields, replace

import pytest
from helpers import IMAGES, RECORD, TIME, jsonl, leave_partial, longclip_score, parse_jsonl
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli import __version__
from longclip_cli.jobs.resume import result_of
from longclip_cli.jobs.run_record import RunRecord, is_record, read_object, read_record, write_record
from longclip_cli.storage.target_file import open_output

ROWS = [{"image_path": str(IMAGES / "rgb.png"), "text": f"Cat {number}"} for number in range(3)]
INFORMS = {"model", "model_file", "device", "start", "end", "prefix", "completion"}


@pytest.mark.parametrize("name", [field.name for field in fields(RunRecord)])
def test_all_that_decides_what_rows_look_like_is_compared(name):
    other = replace(RECORD, **{name: "another"})
    expected = [f"its {name.replace('_', ' ')} was {getattr(RECORD, name)}, not another"]
    assert RECORD.differences(other) == ([] if name in INFORMS else expected)


def test_another_model_is_named_and_not_hashed():
    other = replace(RECORD, model="another", model_hash="0baa3db3dfd6c34c")
    assert RECORD.differences(other) == ["its model was model, not another"]


def test_a_run_that_needed_no_model_is_the_same_with_any():
    without = replace(RECORD, model_hash=None, precision=None)
    assert without.differences(RECORD) == []
    assert RECORD.differences(without) == ["its model hash was hash, not None", "its precision was fp32, not None"]
    assert without.differences(replace(RECORD, text_key="caption")) == ["its text key was text, not caption"]


@pytest.fixture(scope="module")
def interrupted(tiny_checkpoint, tmp_path_factory):
    """A folder with what a run has left that stopped at its fourth row, and its arguments."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "in.jsonl").write_text(jsonl(*ROWS, {"image_path": "missing.png", "text": "No cat"}))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-b", 1, "-o", "o.jsonl", "--image-root", folder)
    assert longclip_score(*arguments, "--max-errors", 0, cwd=folder).returncode == 1
    return folder, arguments


@pytest.fixture
def resume(interrupted, tmp_path):
    """A way to resume that run once its partial output and record are replaced by these."""
    folder, arguments = interrupted

    def run(partial=None, record=None, **streams):
        left, recorded = (
            (folder / "o.jsonl.partial").read_bytes(),
            json.loads((folder / "o.jsonl.run.json").read_text()),
        )
        assert left.count(b"\n") == 4
        (tmp_path / "in.jsonl").symlink_to(folder / "in.jsonl")
        (tmp_path / "o.jsonl.partial").write_bytes(partial(left) if partial else left)
        (tmp_path / "o.jsonl.run.json").write_text(record(recorded) if record else json.dumps(recorded))
        return longclip_score(*arguments, "--resume", cwd=tmp_path, **streams)

    return run


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("version", f"its version was 0.0.1, not {__version__}"),
        ("output_format", "its output format was 0.0.1, not 1"),
        ("model_hash", "its model hash was 0.0.1, not "),
    ],
)
def test_a_run_of_another_version_is_not_resumed(resume, name, message):
    run = resume(record=lambda record: json.dumps(record | {name: "0.0.1"}))
    assert run.returncode == 1
    assert message in run.stderr.decode()


def with_score(value):
    return lambda rows: re.sub(rb'"clip_score": [^,}]+', b'"clip_score": ' + value, rows, count=1)


@pytest.mark.parametrize("score", ["7.5", "-0.1", "true", "NaN", "1e999", "null", '"0.5"', "[0.5]", "1" * 400])
def test_a_score_that_no_run_gives_is_no_result(score):
    assert result_of(f'{{"clip_score": {score}}}\n'.encode(), "clip_score") is None


@pytest.mark.parametrize("score", ["0", "1", "0.5", "1.0"])
def test_a_score_from_0_to_1_is_a_result(score):
    assert result_of(f'{{"clip_score": {score}}}\n'.encode(), "clip_score") == float(score)


def test_a_kept_score_that_no_run_gives_is_refused(resume, tmp_path):
    run = resume(with_score(b"7.5"), lambda record: json.dumps(record | {"prefix": None}))
    assert run.returncode == 1
    assert "the partial output holds a row 1 which has no 'clip_score' from 0 to 1, and no error" in run.stderr.decode()
    assert b"7.5" in (tmp_path / "o.jsonl.partial").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        with_score(b"0.123456"),
        lambda rows: rows.replace(b"no such file", b"no such folder"),
    ],
    ids=["score", "error"],
)
def test_rows_that_have_changed_since_then_are_refused(resume, change, tmp_path):
    run = resume(change)
    assert run.returncode == 1
    assert b"bytes have changed since they were written" in run.stderr
    assert (tmp_path / "o.jsonl.partial").exists()


@pytest.mark.parametrize("lost", [1, 700])
def test_rows_that_were_lost_with_the_power_are_scored_again(resume, interrupted, tmp_path, lost):
    run = resume(lambda rows: rows[:-lost] + b"\0" * 10)
    assert run.returncode == 3
    assert (tmp_path / "o.jsonl").read_bytes() == (interrupted[0] / "o.jsonl.partial").read_bytes()


def test_rows_behind_the_last_recorded_hash_are_kept(tmp_path):
    """As a kill leaves them."""
    leave_partial(tmp_path / "o.jsonl", b"one\n")
    with (tmp_path / "o.jsonl.partial").open("ab") as file:
        file.write(b"two\nthr")
    with open_output(str(tmp_path / "o.jsonl")) as output:
        assert list(output.kept_lines(RECORD)) == [b"one\n", b"two\n"]
        output.begin(RECORD)
        output.write(b"three\n")
    assert read_record(tmp_path / "o.jsonl.run.json").prefix.size == len(b"one\ntwo\nthree\n")
    with open_output(str(tmp_path / "o.jsonl")) as output:
        assert list(output.kept_lines(RECORD)) == [b"one\n", b"two\n", b"three\n"]


def test_a_hash_of_lost_rows_does_not_stop_the_next_resume(tmp_path):
    """Scored again, on a GPU, they may differ in the last digit."""
    leave_partial(tmp_path / "o.jsonl", b"one\ntwo\n")
    with (tmp_path / "o.jsonl.partial").open("ab") as file:
        file.truncate(6)
    with open_output(str(tmp_path / "o.jsonl")) as output:
        list(output.kept_lines(RECORD))
        output.begin(RECORD)
        assert read_record(tmp_path / "o.jsonl.run.json").prefix.size == len(b"one\n")


def test_the_hash_is_recorded_from_time_to_time(tmp_path, monkeypatch):
    """Every ten seconds; a row takes four here."""
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("longclip_cli.storage.target_file.monotonic", lambda: next(clock))
    recorded = []
    with open_output(str(tmp_path / "o.jsonl")) as output:
        output.begin(RECORD)
        for _ in range(9):
            output.write(b"row\n")
            prefix = read_record(tmp_path / "o.jsonl.run.json").prefix
            recorded.append(prefix.size // 4 if prefix else 0)
        output.complete(rows=9, failed=0)
    assert recorded == [0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert read_record(tmp_path / "o.jsonl.run.json").completion.size == 36


NESTED = ["[" * 200_000, '{"input":' * 200_000]
NOT_RECORDS = ["", "[]", "{}", "1", "\0", '{"input": 1', '"version output_format input"', *NESTED]


@pytest.mark.parametrize("content", NOT_RECORDS, ids=lambda content: f"{len(content)}: {content[:10]}")
def test_a_record_that_cannot_be_read_is_refused_and_named(resume, tmp_path, content):
    run = resume(record=lambda _: content)
    assert run.returncode == 1
    assert b"o.jsonl.run.json: it is not the record of a run" in run.stderr
    assert (tmp_path / "o.jsonl.partial").read_bytes().count(b"\n") == 4


def test_a_record_with_unknown_fields_is_refused_and_named(resume):
    run = resume(record=lambda record: json.dumps(record | {"later": 1}))
    assert run.returncode == 1
    assert b"o.jsonl.run.json, is unreadable" in run.stderr


VALUES = st.recursive(st.none() | st.text(), lambda values: st.dictionaries(st.text(), values))


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_record_or_none(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.run.json"
    path.write_bytes(content)
    assert isinstance(read_object(path), dict)
    assert read_record(path) is None
    assert not is_record(path)


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "o.run.json"
    for record in (RECORD, replace(RECORD, image_root="/b\udce4d/ä")):
        write_record(path, record)
        assert read_record(path) == record
        assert is_record(path)


def test_the_record_names_model_device_and_times(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*ROWS))
    (tmp_path / "model.pt").symlink_to(tiny_checkpoint)
    run = longclip_score("in.jsonl", "-m", "model.pt", "-o", "o.jsonl", "--device", "cpu", cwd=tmp_path)
    assert run.returncode == 0
    record = json.loads((tmp_path / "o.jsonl.run.json").read_text())
    named = [record[name] for name in ("model", "model_file", "device", "precision", "version")]
    assert named == ["model.pt", "model.pt", "cpu", "float32", __version__]
    assert re.fullmatch(TIME, record["start"])
    assert re.fullmatch(TIME, record["end"])


def test_an_output_without_its_record_is_named_and_scored(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*ROWS))
    arguments = ("in.jsonl", "-m", tiny_checkpoint, "-o", "o.jsonl", "--resume", "-q")
    assert longclip_score(*arguments, cwd=tmp_path).stderr == b""
    record = tmp_path / "o.jsonl.run.json"
    kept = record.read_bytes()
    record.unlink()
    run = longclip_score(*arguments, cwd=tmp_path)
    assert run.returncode == 0
    message = f"longclip-score: o.jsonl exists without its run record {record}; scoring all rows\n"
    assert run.stderr.decode() == message
    assert record.exists()
    (tmp_path / "o.jsonl").write_text("edited\n")
    record.write_bytes(kept)
    run = longclip_score(*arguments, cwd=tmp_path)
    assert b"o.jsonl has 7 bytes, not " in run.stderr
    assert len(parse_jsonl((tmp_path / "o.jsonl").read_bytes())) == 3


def test_a_run_that_needed_no_model_leaves_what_can_be_resumed(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*[{"image_path": "late.png", "text": "A cat"}] * 3))
    arguments = ("in.jsonl", "-o", "o.jsonl", "--resume", "--image-root", tmp_path)
    stopped = longclip_score(*arguments, "-m", "missing.pt", "--max-errors", 0, cwd=tmp_path)
    assert b"--resume to go on" in stopped.stderr
    for _ in range(2):  # the second finds nothing to do
        run = longclip_score(*arguments, "-m", tiny_checkpoint, cwd=tmp_path)
        assert run.returncode == 3
        assert b"without its run record" not in run.stderr
    assert b"nothing to do" in run.stderr


def test_an_empty_output_is_complete_and_has_a_record(tmp_path, tiny_checkpoint):
    (tmp_path / "in.jsonl").touch()
    arguments = ("in.jsonl", "-o", "o.jsonl", "-m", tiny_checkpoint, "--resume")
    assert longclip_score(*arguments, cwd=tmp_path).returncode == 0
    run = longclip_score(*arguments, cwd=tmp_path)
    assert run.returncode == 0
    assert run.stderr == b"longclip-score: nothing to do: o.jsonl is complete (0 rows, 0 of them failed)\n"
