"""The record of a run: what it compares, and what no run has written."""

import io
import json
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from helpers import IMAGES, RECORD, TIME, changed, jsonl, longclip_score, parse_jsonl
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli import __version__
from longclip_cli.jobs.run_record import RunRecord, describe_run, is_record, read_object, read_record, write_record
from longclip_cli.options import ScoringOptions
from longclip_cli.reporting.summary import ModelInUse
from longclip_cli.storage.source import Input

ROWS = [{"image_path": str(IMAGES / "rgb.png"), "text": f"Cat {number}"} for number in range(3)]
DEFAULTS = ScoringOptions()
SOURCE = Input("in.jsonl", io.BytesIO(), io.BytesIO(), 2, "/in.jsonl (2 bytes)", "/in.jsonl")
MODEL = ModelInUse(file="/m.pt", fingerprint="hash", device="cpu", precision="float32")
OTHER_OPTIONS = {
    "image_key": "picture",
    "input_format": "jsonl",
    "limit": 2,
    "text_key": ("caption",),
    "strip": ("<image>",),
    "reduce": "mean",
    "output_key": "fit",
    "image_root": Path("/"),
    "max_pixels": 1000,
    "exif_orientation": True,
    "fast_decode": True,
    "fast_resize": True,
}


def describe(scoring=DEFAULTS, model=MODEL):
    return describe_run(scoring, SOURCE, "2026-01-01T00:00:00+00:00", model)


@pytest.mark.parametrize("name", RECORD.compared)
def test_all_that_rows_depend_on_is_compared(name):
    other = changed(RECORD, **{name: "another"})
    assert RECORD.differences(other) == [f"its {name.replace('_', ' ')} was {RECORD.compared[name]}, not another"]


@pytest.mark.parametrize("name", [field.name for field in fields(RunRecord) if field.name != "compared"])
def test_what_informs_people_is_not_compared(name):
    assert RECORD.differences(replace(RECORD, **{name: "another"})) == []


@pytest.mark.parametrize("name", [field.name for field in fields(ScoringOptions)])
def test_each_scoring_option_is_compared(name):
    if name in ("model", "revision", "precision"):
        others = [describe(model=replace(MODEL, precision="float16")), describe(model=replace(MODEL, fingerprint="0"))]
        label = "precision" if name == "precision" else "model hash"
    else:
        others = [describe(replace(DEFAULTS, **{name: OTHER_OPTIONS[name]}))]
        label = name.replace("_", " ")
    differences = [text for other in others for text in describe().differences(other)]
    assert [text for text in differences if text.startswith(f"its {label} was ")]


def test_an_option_that_is_added_is_compared():
    """Without a change to the run record."""

    @dataclass(frozen=True)
    class Later(ScoringOptions):
        mirror: bool = False
        crop: str | None = None

    recorded = describe(Later())
    assert recorded.differences(describe(Later())) == []
    assert recorded.differences(describe(Later(mirror=True))) == ["its mirror was off, not on"]
    assert recorded.differences(describe(Later(crop="centre"))) == ["its crop was none, not centre"]
    assert describe().differences(describe(Later(mirror=True))) == [
        "its crop was unknown, not none",
        "its mirror was unknown, not on",
    ]


def test_a_different_model_is_shown_by_name_not_by_hash():
    other = changed(RECORD, "another", model_hash="0baa3db3dfd6c34c")
    assert RECORD.differences(other) == ["its model was model, not another"]


def test_a_run_that_needed_no_model_matches_any_model():
    without = describe(model=None)
    assert without.differences(describe()) == []
    assert describe().differences(without) == [
        "its precision was float32, not unknown",
        "its model hash was hash, not unknown",
    ]
    other = describe(replace(DEFAULTS, text_key=("caption",)))
    assert without.differences(other) == ["its text key was text, not caption"]


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
        ("output_format", "its output format was 0.0.1, not 2"),
        ("model_hash", "its model hash was 0.0.1, not "),
    ],
)
def test_a_run_of_a_different_version_is_not_resumed(resume, name, message):
    run = resume(record=lambda record: json.dumps(record | {name: "0.0.1"}))
    assert run.returncode == 1
    assert message in run.stderr.decode()


def with_score(value):
    return lambda rows: re.sub(rb'"clip_score": [^,}]+', b'"clip_score": ' + value, rows, count=1)


def test_an_impossible_kept_score_is_refused(resume, tmp_path):
    run = resume(with_score(b"7.5"), lambda record: json.dumps(record | {"prefix": None}))
    assert run.returncode == 1
    assert "row 1 of the partial output has no 'clip_score' from 0 to 1, and no error" in run.stderr.decode()
    assert b"7.5" in (tmp_path / "o.jsonl.partial").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        with_score(b"0.123456"),
        lambda rows: rows.replace(b"no such file", b"no such folder"),
    ],
    ids=["score", "error"],
)
def test_kept_rows_that_were_edited_are_refused(resume, change, tmp_path):
    run = resume(change)
    assert run.returncode == 1
    assert b"bytes have changed since they were written" in run.stderr
    assert (tmp_path / "o.jsonl.partial").exists()


@pytest.mark.parametrize("lost", [1, 700])
def test_rows_lost_in_a_power_cut_are_scored_again(resume, interrupted, tmp_path, lost):
    run = resume(lambda rows: rows[:-lost] + b"\0" * 10)
    assert run.returncode == 3
    assert (tmp_path / "o.jsonl").read_bytes() == (interrupted[0] / "o.jsonl.partial").read_bytes()


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
    for record in (RECORD, changed(RECORD, image_root="/b\udce4d/ä")):
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


def test_a_run_that_needed_no_model_can_be_resumed(tiny_checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*[{"image_path": "late.png", "text": "A cat"}] * 3))
    arguments = ("in.jsonl", "-o", "o.jsonl", "--resume", "--image-root", tmp_path)
    stopped = longclip_score(*arguments, "-m", "missing.pt", "--max-errors", 0, cwd=tmp_path)
    assert b"add --resume to continue" in stopped.stderr
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
