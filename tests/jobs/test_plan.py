"""Which files a run reads, and where their outputs go."""

import os
from pathlib import Path

import pytest

from longclip_cli.errors import InputError, UsageError
from longclip_cli.jobs.plan import plan_run
from longclip_cli.options import ScoreOptions, ScoringOptions


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return the current folder, with inputs in `data` and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "data/b.jsonl",
        "data/a.jsonl.gz",
        "data/sub/c.NDJSON",
        "data/notes.txt",
        "data/picture.png",
        "data/.hidden.jsonl",
        "data/.cache/d.jsonl",
        "data/b.jsonl.run.json",
        "data/b.jsonl.partial",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    return tmp_path / "data"


def parts(*inputs, output="out", summary=None, **scoring):
    options = ScoreOptions(inputs=inputs, output=output, summary=summary, scoring=ScoringOptions(**scoring))
    return {part.input: part.output for part in plan_run(options).parts}


def test_a_folder_means_its_files_of_known_suffixes_sorted(data):
    assert list(parts("data").items()) == [
        ("data/a.jsonl.gz", "out/a.jsonl"),
        ("data/b.jsonl", "out/b.jsonl"),
        ("data/sub/c.NDJSON", "out/sub/c.NDJSON"),
    ]


def test_what_lies_below_the_output_folder_is_no_input(data):
    (data / "out").mkdir()
    (data / "out" / "b.jsonl").write_text("{}\n")
    assert "data/out/b.jsonl" not in parts("data", output="data/out")
    assert "data/out/b.jsonl" in parts("data")


def test_the_summary_is_no_input(data):
    (data / "summary.json").write_text("{}\n")
    assert "data/summary.json" not in parts("data", summary=data / "summary.json")


def test_a_folder_of_several_formats_is_refused_and_they_are_listed(data):
    (data / "captions.json").write_text("[]\n")
    with pytest.raises(UsageError, match=r"3 jsonl \(a.jsonl.gz, b.jsonl, .*\), 1 json \(captions.json\)") as error:
        parts("data")
    assert "--input-format" in str(error.value)


def test_the_input_format_selects_files_of_a_folder(data):
    (data / "captions.json").write_text("[]\n")
    assert parts("data", input_format="json") == {"data/captions.json": "out/captions.json"}
    assert len(parts("data", input_format="jsonl")) == 3


def test_a_folder_without_an_input_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no file of a known format in this folder"):
        parts(str(tmp_path))


@pytest.mark.parametrize("output", ["out", "out/"])
def test_several_files_go_to_a_folder_under_their_names(data, output):
    assert parts("data/b.jsonl", "data/a.jsonl.gz", output=output) == {
        "data/b.jsonl": "out/b.jsonl",
        "data/a.jsonl.gz": "out/a.jsonl",
    }


def test_one_file_goes_to_a_file_or_to_a_folder(data):
    assert parts("data/b.jsonl", output="x.jsonl") == {"data/b.jsonl": "x.jsonl"}
    assert parts("data/b.jsonl", output="x/") == {"data/b.jsonl": "x/b.jsonl"}
    assert parts("data/b.jsonl", output="data/sub") == {"data/b.jsonl": "data/sub/b.jsonl"}


def test_side_files_of_a_folder_are_in_a_hidden_folder_of_it(data):
    (part, *_) = plan_run(ScoreOptions(inputs=("data",), output="out")).parts
    assert part.place == Path("out/.longclip/a.jsonl")


def test_two_inputs_with_one_output_name_are_refused(data):
    (data / "sub" / "b.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"data/b.jsonl, data/sub/b.jsonl would all be written to out/b.jsonl"):
        parts("data/b.jsonl", "data/sub/b.jsonl")
    (data / "a.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"data/a.jsonl, data/a.jsonl.gz"):
        parts("data")


def test_an_input_that_is_given_twice_is_refused(data):
    with pytest.raises(UsageError, match=r"data/b.jsonl is given twice"):
        parts("data/b.jsonl", "data/a.jsonl.gz", "data/b.jsonl")


@pytest.mark.parametrize("output", ["data", "data/", "data/../data"])
def test_an_output_that_is_an_input_is_refused(data, output):
    with pytest.raises(UsageError, match=r"would overwrite data/b\.jsonl, which is an input"):
        parts("data/b.jsonl", "data/sub/c.NDJSON", output=output)


def test_standard_input_is_not_combined_with_files(data):
    with pytest.raises(UsageError, match="cannot be combined"):
        parts("-", "data/b.jsonl")


def test_standard_input_has_no_name_in_a_folder(data):
    with pytest.raises(UsageError, match="give a file"):
        parts("-", output="data")


def test_all_inputs_share_standard_output(data):
    assert set(parts("data", output="-").values()) == {"-"}


def test_the_size_of_all_inputs_is_known_unless_one_is_a_pipe(data):
    plan = plan_run(ScoreOptions(inputs=("data",), output="out"))
    assert plan.size == 9
    assert [part.start for part in plan.parts] == [0, 3, 6]
    assert plan_run(ScoreOptions(inputs=("-",))).size is None


def test_a_key_that_is_no_path_is_wrong_usage(data):
    with pytest.raises(UsageError, match=r"--text-key '\.a\['"):
        parts("data", text_key=(".a[",))


def test_a_summary_that_is_one_of_several_files_is_refused(data):
    (data.parent / "one.jsonl").write_text("{}\n")
    for summary in ("data/b.jsonl", "out/b.jsonl", "data/../one.jsonl"):
        with pytest.raises(UsageError, match=r"--summary would overwrite the (in|out)put"):
            parts("one.jsonl", "data/b.jsonl", summary=Path(summary))
    with pytest.raises(UsageError, match=r"--summary would overwrite the output out/one\.jsonl"):
        parts("one.jsonl", output="out/", summary=Path("out/one.jsonl"))


def test_a_folder_that_cannot_be_read_is_an_error(data, monkeypatch):
    """Permissions do not stop the administrator, who may run the tests."""
    scan = os.scandir

    def refuse(path):
        if str(path) == "data/sub":
            raise PermissionError(13, "Permission denied", "data/sub")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="cannot read data/sub: Permission denied"):
        parts("data")
