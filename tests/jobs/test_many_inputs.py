"""Many inputs in one run of the command: each output is complete or absent, and nothing is scored twice."""

import csv
import gzip
import io
import json
import os
import random
import signal
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet
import pytest
from helpers import (
    MISSING,
    ROW,
    jsonl,
    longclip_score,
    parquet,
    parse_jsonl,
    rows_of,
    shell,
    start_longclip_score,
    wait_until,
)

FORMS = (".jsonl.gz", ".json", ".parquet", ".tar", ".csv")


def write_array(path, rows):
    path.write_text(json.dumps(rows, indent=2))


def write_as(form, path, rows):
    """Write rows in a format, with the image's file name as `kind`, and return the name of their output."""
    rows = [row | {"kind": row["image_path"].rpartition("/")[2]} for row in rows]
    target = path.with_name(path.name + form)
    if form == ".json":
        write_array(target, rows)
    elif form == ".jsonl.gz":
        target.write_bytes(gzip.compress(jsonl(*rows).encode()))
    elif form == ".csv":
        with target.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif form == ".parquet":
        images = {row["image_path"]: image_bytes(row["image_path"]) for row in rows}
        rows = [row | {"image_path": {"bytes": images[row["image_path"]], "path": row["kind"]}} for row in rows]
        target.write_bytes(parquet(rows))
    else:
        write_tar(target, rows)
    return path.name + {".jsonl.gz": ".jsonl", ".tar": ".jsonl"}.get(form, form)


def bytes_below(folder):
    """Return the size of all files in a folder that a run is writing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def image_bytes(path):
    """Return the content of an image, or what is none if it is missing."""
    return Path(path).read_bytes() if Path(path).exists() else b"missing"


def write_tar(path, rows):
    with tarfile.open(path, "w") as archive:
        for row in rows:
            members = {"png": image_bytes(row["image_path"]), "txt": row["text"].encode()}
            members["json"] = json.dumps({"id": row["id"], "kind": row["kind"]}).encode()
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{row['id']:06}.{extension}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def read(path):
    """Return the rows of an output."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path, columns=["id", "kind", "clip_score"]).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [row | {"id": int(row["id"])} for row in csv.DictReader(file)]
    content = path.read_bytes()
    rows = json.loads(content) if content.startswith(b"[") else parse_jsonl(content)
    return [row | row["json"] if "json" in row else row for row in rows]


@pytest.fixture
def shards(tmp_path):
    """Return a folder of 20 files of three rows, one of which is no gzip file."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(20):
        rows = jsonl(*[row | {"id": 3 * i + j} for j, row in enumerate(rows_of(3))])
        (folder / f"{i:02}.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "07.jsonl.gz").write_bytes(b"broken")
    return folder


def test_a_broken_input_is_named_and_does_not_stop_the_others(shards, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    command = (shards, "-o", out, "-m", tiny_checkpoint, "--summary", tmp_path / "summary.json")
    run = longclip_score(*command)
    assert run.returncode == 1
    assert f"failed: {shards}/07.jsonl.gz: ".encode() in run.stderr
    assert b"inputs  19 completed, 1 failed" in run.stderr
    names = {f"{i:02}.jsonl" for i in range(20) if i != 7}
    assert {path.name for path in out.iterdir()} == names | {".longclip"}
    for name in names:
        assert [row["id"] for row in read(out / name)] == [3 * int(name[:2]) + j for j in range(3)]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert not summary["complete"] and summary["rows"] == 57
    (failed,) = [each for each in summary["inputs"] if each["error"]]
    assert failed["input"] == f"{shards}/07.jsonl.gz" and not failed["complete"]

    (shards / "07.jsonl.gz").write_bytes(gzip.compress(jsonl(ROW).encode()))
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix}
    run = longclip_score(*command, "--resume")
    assert run.returncode == 0
    assert b"58 rows" in run.stderr and b"inputs  1 completed, 19 complete already" in run.stderr
    assert len(read(out / "07.jsonl")) == 1
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times
    resumed = json.loads((tmp_path / "summary.json").read_text())
    assert resumed["complete"] and (resumed["rows"], resumed["kept"], resumed["scores"]) == (58, 57, 58)
    for name in ("histogram", "mismatched"):
        before, after = (sum((each.get("histogram") or each)["counts"]) for each in (summary[name], resumed[name]))
        assert 0 < before <= after, "those of earlier runs are counted"
    assert longclip_score(*command, "--resume").returncode == 0
    again = json.loads((tmp_path / "summary.json").read_text())
    assert (again["histogram"], again["mean"]) == (resumed["histogram"], pytest.approx(resumed["mean"], abs=1e-4))


def test_an_input_that_breaks_midway_leaves_its_rows_for_resume(tiny_checkpoint, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    whole = gzip.compress(jsonl(*rows_of(73)).encode() * 20)
    (folder / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "b.jsonl").write_text(jsonl(ROW))
    run = longclip_score(folder, "-o", out, "-m", tiny_checkpoint)
    assert run.returncode == 1
    assert b"a.jsonl.gz: unreadable after line" in run.stderr
    assert not (out / "a.jsonl").exists() and len(read(out / "b.jsonl")) == 1
    assert (out / ".longclip" / "a.jsonl.partial").stat().st_size > 0


def test_a_wrong_command_stops_at_the_first_input(tiny_checkpoint, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(*[ROW] * 100))
    run = longclip_score(
        tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", tmp_path / "out", "-m", tiny_checkpoint, "--text-key", "texts"
    )
    assert run.returncode == 1
    assert b"did you mean text? fields in the row: image_path, text" in run.stderr
    assert not list((tmp_path / "out").rglob("*.jsonl*"))


def test_a_later_input_whose_rows_all_fail_is_a_failed_input(tiny_checkpoint, tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl(ROW))
    (tmp_path / "b.jsonl").write_text(jsonl(*[MISSING] * 100))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "c.jsonl").write_text(jsonl(*[ROW | {"image_path": str(broken)}] * 300))
    (tmp_path / "d.jsonl").write_text(jsonl(ROW))
    out = tmp_path / "out"
    inputs = [tmp_path / f"{name}.jsonl" for name in "abcd"]
    run = longclip_score(*inputs, "-o", out, "-m", tiny_checkpoint)
    assert run.returncode == 1
    assert {path.name for path in out.glob("*.jsonl")} == {"a.jsonl", "d.jsonl"}
    assert run.stderr.count(b"rows failed for the same reason") == 2
    run = longclip_score(*inputs, "-o", out, "-m", tiny_checkpoint, "--max-errors", 10_000)
    assert run.returncode == 3, "an explicit --max-errors replaces the rule"
    assert len(read(out / "c.jsonl")) == 300


def test_an_error_of_the_model_ends_the_run_once(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(ROW))
    run = longclip_score(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", tmp_path / "out", "-m", "missing.pt")
    assert run.returncode == 1
    assert run.stderr.count(b"no such checkpoint") == 1


def test_the_summary_may_be_in_an_output_folder_to_be_made(tmp_path, tiny_checkpoint):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(ROW))
    out = tmp_path / "out"
    inputs = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run = longclip_score(*inputs, "-o", out, "-m", tiny_checkpoint, "--summary", out / "summary.json")
    assert run.returncode == 0
    assert json.loads((out / "summary.json").read_text())["complete"]


def test_max_errors_counts_over_all_inputs(tiny_checkpoint, tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(ROW, MISSING, MISSING))
    inputs = [tmp_path / f"{name}.jsonl" for name in "abc"]
    run = longclip_score(*inputs, "-o", tmp_path / "out", "-m", tiny_checkpoint, "--max-errors", 5, "-b", 1)
    assert run.returncode == 1
    assert b"stopped: 6 rows have failed (--max-errors 5)" in run.stderr


def test_several_inputs_become_one_stream(tiny_checkpoint, tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl(*[ROW | {"id": i} for i in range(5)]))
    write_array(tmp_path / "b.json", [ROW | {"id": i} for i in range(5, 8)])
    run = longclip_score(tmp_path / "a.jsonl", tmp_path / "b.json", "-q", "-m", tiny_checkpoint)
    assert run.returncode == 0
    assert [row["id"] for row in parse_jsonl(run.stdout)] == list(range(8))


def test_the_limit_counts_rows_of_each_input(tiny_checkpoint, tmp_path):
    (tmp_path / "a.jsonl").write_text("\n" + jsonl(*[ROW] * 5))
    write_array(tmp_path / "b.json", [ROW] * 5)
    out = tmp_path / "out"
    run = longclip_score(tmp_path / "a.jsonl", tmp_path / "b.json", "-o", out, "-m", tiny_checkpoint, "--limit", 2)
    assert run.returncode == 0
    assert [len(read(out / name)) for name in ("a.jsonl", "b.json")] == [2, 2]


def test_inputs_without_rows_have_outputs_without_rows(tiny_checkpoint, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, content in {"a": "", "b": jsonl(ROW), "c": "\n\n", "d": jsonl(MISSING), "e": ""}.items():
        (folder / f"{name}.jsonl").write_text(content)
    run = longclip_score(folder, "-o", out, "-m", tiny_checkpoint)
    assert run.returncode == 3
    assert {path.name: len(read(path)) for path in out.glob("*.jsonl")} == {
        "a.jsonl": 0,
        "b.jsonl": 1,
        "c.jsonl": 0,
        "d.jsonl": 1,
        "e.jsonl": 0,
    }
    assert longclip_score(folder, "-o", out, "-m", tiny_checkpoint, "--resume").returncode == 3


def test_thousands_of_inputs_need_few_file_descriptors(tiny_checkpoint, tmp_path):
    """Inputs without a row, and those that are complete already, are closed while others are opened."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(300):
        (folder / f"{i:03}.jsonl").write_text(jsonl(ROW) if i in (10, 250) else "")
    for _ in range(2):
        run = shell(tmp_path, f'ulimit -n 150; score in -o out -m "{tiny_checkpoint}" --resume')
        assert run.returncode == 0, run.stderr
    assert b"300 complete already" in run.stderr
    (folder / "299.jsonl").write_text(jsonl(ROW))
    run = shell(tmp_path, f'ulimit -n 150; score in -o out -m "{tiny_checkpoint}" --resume')
    assert run.returncode == 0 and b"1 completed, 299 complete already" in run.stderr


def test_an_output_that_was_changed_is_scored_again(tiny_checkpoint, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(ROW))
    out = tmp_path / "out"
    command = (tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", out, "-m", tiny_checkpoint)
    assert longclip_score(*command).returncode == 0
    os.utime(out / "a.jsonl", ns=(0, 0))
    run = longclip_score(*command, "--resume")
    assert run.returncode == 0
    assert b"a.jsonl has changed since it was written; scoring all rows" in run.stderr
    assert b"inputs  1 completed, 1 complete already" in run.stderr


@pytest.mark.parametrize("kills", [4, pytest.param(30, marks=pytest.mark.stress)])
def test_every_row_is_there_once_whenever_a_run_is_killed(tiny_checkpoint, tmp_path, kills):
    """Kill runs on JSON arrays, compressed JSONL, Parquet, archives and CSV, also while files are assembled."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    expected = {}
    for i in range(10):
        rows = [row | {"id": 1000 * i + j} for j, row in enumerate(rows_of(150))]
        expected[write_as(FORMS[i % len(FORMS)], folder / str(i), rows)] = [row["id"] for row in rows]
    arguments = ["-o", str(out) + "/", "-m", tiny_checkpoint, "--resume", "-q", "-b", 4]
    command = [*sorted(folder.iterdir()), *arguments]
    rng = random.Random(kills)
    for _ in range(kills):
        before = bytes_below(out)
        with start_longclip_score(*command) as process:

            def has_moved(before=before):
                return bytes_below(out) != before

            wait_until(has_moved, process)
            time.sleep(rng.random() * 0.3)
            process.send_signal(signal.SIGKILL)
        for path in out.glob("[0-9]*"):
            assert [row["id"] for row in read(path)] == expected[path.name], "what is there is complete"
    run = longclip_score(*command)
    assert run.returncode == 3 and run.stderr == b""
    assert {path.name: [row["id"] for row in read(path)] for path in out.glob("[0-9]*")} == expected
    assert {path.name for path in (out / ".longclip").iterdir()} == {f"{name}.run.json" for name in expected}
    for path in out.glob("[0-9]*"):
        assert all(bool(row["clip_score"]) == (row.get("kind") != MISSING["image_path"]) for row in read(path))


def test_a_second_run_on_a_folder_stops_at_once(tiny_checkpoint, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(*rows_of(1000)))
    out = tmp_path / "out"
    command = (tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", out, "-q", "-m", tiny_checkpoint, "-b", 1)
    with start_longclip_score(*command) as process:
        wait_until((out / ".longclip" / "a.jsonl.partial").exists, process)
        second = longclip_score(*command)
        assert process.wait(120) == 3
    assert second.returncode == 1
    assert b"another run is writing" in second.stderr and second.stderr.count(b"\n") == 1
    assert [len(read(out / f"{name}.jsonl")) for name in "ab"] == [1000, 1000]
    assert not (out / ".longclip" / "run.lock").exists()


def test_other_options_stop_a_resumed_run_at_once(tiny_checkpoint, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(ROW))
    command = (tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", tmp_path / "out", "-q", "-m", tiny_checkpoint)
    longclip_score(*command)
    run = longclip_score(*command, "--resume", "--precision", "bf16")
    assert run.returncode == 1 and run.stderr.count(b"\n") == 1
    assert b"precision was float32, not bfloat16" in run.stderr


@pytest.mark.parametrize("what", ["file", "link", "side file"])
def test_an_output_folder_that_is_none_is_one_clear_error(tiny_checkpoint, tmp_path, what):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(ROW))
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "link":
        out.mkdir()
        (tmp_path / "elsewhere").mkdir()
        (out / ".longclip").symlink_to(tmp_path / "elsewhere")
    else:
        out.mkdir()
        (out / ".longclip").write_text("mine")
    run = longclip_score(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", f"{out}", "-q", "-m", tiny_checkpoint)
    assert run.returncode == 1
    assert b"it is not a folder" in run.stderr and run.stderr.count(b"\n") == 1
    assert not list((tmp_path / "elsewhere").glob("*"))


def test_a_stream_that_goes_to_an_input_is_refused(tiny_checkpoint, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(jsonl(ROW))
    run = shell(tmp_path, f'score a.jsonl b.jsonl -m "{tiny_checkpoint}" >> b.jsonl')
    assert run.returncode == 2 and b"would overwrite b.jsonl, which is an input" in run.stderr
    assert (tmp_path / "b.jsonl").read_text() == jsonl(ROW)


def test_an_interrupted_folder_says_which_output_is_partial(tiny_checkpoint, tmp_path):
    for name in "ab":
        rows = jsonl(*rows_of(2000))
        (tmp_path / f"{name}.jsonl").write_text(rows)
    out = tmp_path / "out"
    command = (tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", out, "-m", tiny_checkpoint, "-b", 1)
    partial = out / ".longclip" / "a.jsonl.partial"
    with start_longclip_score(*command) as process:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 0, process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 143
    assert f"partial output is in {partial}; add --resume to continue".encode() in errors
    run = longclip_score(*command, "--resume", "--summary", tmp_path / "summary.json")
    assert run.returncode == 3
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["kept"] > 0 and summary["rows"] == 4000
    assert [len(read(out / f"{name}.jsonl")) for name in "ab"] == [2000, 2000]
