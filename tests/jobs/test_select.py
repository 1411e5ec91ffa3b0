"""Rows chosen by score: which ones, in which order, and what happens to the files."""

import csv
import gzip
import io
import json
import random
from itertools import accumulate, chain, pairwise

import pyarrow.parquet
import pytest
from helpers import jsonl, parquet, parse_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from longclip_cli.errors import InputError, OutputError, UsageError
from longclip_cli.jobs import select as select_module
from longclip_cli.jobs.criteria import range_of, top_of
from longclip_cli.jobs.select import select_rows
from longclip_cli.jobs.selection import SelectOptions

FAILURE = {"clip_score": None, "clip_score_error": "image: no such file: a.png"}


def rows_with(*scores):
    return [{"id": place} | (FAILURE if score is None else {"clip_score": score}) for place, score in enumerate(scores)]


def many_rows(count):
    """Return rows with many equal scores and many failures."""
    draw = random.Random(1)
    scores = [round(draw.gauss(0.6, 0.1), draw.choice([2, 2, 2, 6])) for _ in range(count)]
    return rows_with(*(None if draw.random() < 0.05 else min(max(score, 0), 1) for score in scores))


def top_by_sorting(rows, count):
    scored = sorted((row for row in rows if row["clip_score"] is not None), key=lambda row: -row["clip_score"])
    return sorted(scored[:count], key=lambda row: row["id"])


def select(criterion, *inputs, **options):
    criterion = top_of(criterion) if isinstance(criterion, str) else criterion
    options = {name: str(value) if name in ("output", "rest") else value for name, value in options.items()}
    return select_rows(SelectOptions(criterion, tuple(map(str, inputs)), **options))


@pytest.fixture
def source(tmp_path):
    """Return a scored file of five rows."""
    path = tmp_path / "scored.jsonl"
    path.write_text(jsonl(*rows_with(0.5, None, 0.7, 0.5, 0.6)))
    return path


def ids_in(path):
    return [row["id"] for row in parse_jsonl(path.read_bytes())]


def encoded(kind, rows):
    if kind == "parquet":
        return parquet(rows)
    if kind == "jsonl":
        return jsonl(*rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["id", "clip_score", "clip_score_error"])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def ids_of(kind, content):
    if kind == "parquet":
        return pyarrow.parquet.read_table(io.BytesIO(content))["id"].to_pylist()
    if kind == "jsonl":
        return [row["id"] for row in parse_jsonl(content)]
    if kind == "json":
        return [row["id"] for row in json.loads(content)]
    return [int(row["id"]) for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_the_top_of_100_000_rows_is_that_of_a_sort(tmp_path, kind):
    rows = many_rows(100_000)
    source, kept, rest = (tmp_path / f"{name}.{kind}" for name in ("scored", "kept", "rest"))
    source.write_bytes(encoded(kind, rows))
    selection = select("30%", source, output=kept, rest=rest)
    count = int(0.3 * selection.scored)
    expected = top_by_sorting(rows, count)
    others = {row["id"] for row in expected}
    found = [ids_of(kind, path.read_bytes()) for path in (kept, rest)]
    assert found == [[row["id"] for row in expected], [row["id"] for row in rows if row["id"] not in others]]
    assert selection.failed == sum(row["clip_score"] is None for row in rows) > 0
    assert selection.kept == count and selection.tied > selection.cut.ties > 0, "some, not all, of the ties are kept"


scores = st.sampled_from([None, 0.0, 0.3, 0.300001, 1.0]) | st.floats(0, 1).map(lambda score: round(score, 6))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
@settings(deadline=None, max_examples=25)
@given(files=st.lists(st.lists(scores, min_size=1, max_size=8), min_size=1, max_size=3), count=st.integers(1, 12))
def test_any_top_and_its_rest_are_the_inputs(tmp_path_factory, kind, files, count):
    folder = tmp_path_factory.mktemp("select")
    rows = [row | {"id": place} for place, row in enumerate(rows_with(*chain(*files)))]
    ends = list(accumulate(map(len, files)))
    (folder / "scored").mkdir()
    for number, (start, end) in enumerate(pairwise([0, *ends])):
        (folder / "scored" / f"{number}.{kind}").write_bytes(encoded(kind, rows[start:end]))
    select(str(count), folder / "scored", output=folder / "kept", rest=folder / "rest")
    kept, rest = (
        [list(ids_of(kind, path.read_bytes())) for path in sorted((folder / name).glob(f"*.{kind}"))]
        for name in ("kept", "rest")
    )
    assert list(chain(*kept)) == [row["id"] for row in top_by_sorting(rows, count)]
    for (start, end), found in zip(pairwise([0, *ends]), zip(kept, rest, strict=True), strict=True):
        assert sorted(chain(*found)) == list(range(start, end)) and all(ids == sorted(ids) for ids in found)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_kept_rows_and_the_rest_have_all_bytes_of_the_input(tmp_path, kind):
    source, kept, rest = (tmp_path / f"{name}.{kind}" for name in ("scored", "kept", "rest"))
    source.write_bytes(encoded(kind, many_rows(200)))
    select(range_of(0.55, 0.65), source, output=kept, rest=rest)
    header = kind == "csv"
    lines = [path.read_bytes().splitlines(keepends=True) for path in (source, kept, rest)]
    assert sorted(lines[0]) == sorted([*lines[1], *lines[2][header:]])
    assert all(len(found) > 10 for found in lines)


def test_the_top_is_that_of_all_inputs(tmp_path):
    rows = many_rows(3000)
    source = tmp_path / "scored"
    for name, part in (("a.jsonl", rows[:1000]), ("deep/b.jsonl", rows[1000:1700]), ("z.jsonl", rows[1700:])):
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / name).write_text(jsonl(*part))
    selection = select("500", source, output=tmp_path / "kept", rest=tmp_path / "rest")
    names = ("a.jsonl", "deep/b.jsonl", "z.jsonl")
    kept, rest = ([row for name in names for row in ids_in(tmp_path / folder / name)] for folder in ("kept", "rest"))
    assert kept == [row["id"] for row in top_by_sorting(rows, 500)]
    assert sorted(kept + rest) == list(range(3000)) and rest == sorted(rest)
    assert selection.tied > selection.cut.ties, "ties are in several files"


def test_folders_of_kept_rows_are_not_inputs_of_the_next_time(tmp_path, source):
    for _ in range(2):
        selection = select("2", tmp_path, output=tmp_path / "kept", rest=tmp_path / "rest")
        assert (selection.scored, selection.failed) == (4, 1)


def test_ties_are_kept_in_the_order_of_rows(tmp_path, source):
    selection = select("3", source, output=tmp_path / "kept.jsonl", rest=tmp_path / "rest.jsonl")
    assert ids_in(tmp_path / "kept.jsonl") == [0, 2, 4] and ids_in(tmp_path / "rest.jsonl") == [1, 3]
    assert str(selection) == (
        "kept 3 of 4 scored rows (score >= 0.5; 2 rows tie at the threshold, 1 of them kept); "
        "1 row without a score went to the rest"
    )


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ("4", "kept 4 of 4 scored rows (score >= 0.5; 2 rows tie at the threshold, all of them kept)"),
        ("9", "kept 4 of 4 scored rows (score >= 0.5; 2 rows tie at the threshold, all of them kept)"),
        ("1", "kept 1 of 4 scored rows (score >= 0.7)"),
        ("10%", "kept 0 of 4 scored rows"),
        (range_of(0.5, 0.6), "kept 3 of 4 scored rows (0.5 <= score <= 0.6)"),
        (range_of(None, 0.5), "kept 2 of 4 scored rows (score <= 0.5)"),
        (range_of(0.51, 0.59), "kept 0 of 4 scored rows (0.51 <= score <= 0.59)"),
    ],
)
def test_the_message_has_the_counts(tmp_path, source, criterion, message):
    assert str(select(criterion, source, output=tmp_path / "kept")) == f"{message}; 1 row without a score left out"


def test_no_rows_give_empty_files(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.csv").write_text("id,clip_score\n")
    for name in ("a.jsonl", "b.csv"):
        out = tmp_path / f"out_{name}"
        assert str(select("30%", tmp_path / name, output=out)) == "kept 0 of 0 scored rows"
        assert out.read_bytes() == (tmp_path / name).read_bytes()


def test_a_compressed_output_holds_the_same_rows(tmp_path, source):
    (tmp_path / "scored.jsonl.gz").write_bytes(gzip.compress(source.read_bytes()))
    select("2", tmp_path / "scored.jsonl.gz", output=tmp_path / "kept.jsonl.gz")
    assert [row["id"] for row in parse_jsonl(gzip.decompress((tmp_path / "kept.jsonl.gz").read_bytes()))] == [2, 4]


def test_a_score_list_needs_to_be_reduced(tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_with([0.2, 0.8], 0.4, [0.3, 0.5])))
    with pytest.raises(UsageError, match=r"in.jsonl: row 1 has a list of scores; add --reduce mean"):
        select("2", tmp_path / "in.jsonl", output=tmp_path / "kept")
    for reduce, expected in (("mean", [0, 1]), ("min", [1, 2]), ("max", [0, 2])):
        select("2", tmp_path / "in.jsonl", output=tmp_path / "kept", reduce=reduce)
        assert ids_in(tmp_path / "kept") == expected


def test_a_list_with_a_failed_element_goes_to_the_rest(tmp_path):
    row = {"id": 0, "clip_score": [0.9, None], "clip_score_error": "[1] text: blank: 'text[1]'"}
    (tmp_path / "in.jsonl").write_text(jsonl(row))
    assert select("2", tmp_path / "in.jsonl", output=tmp_path / "kept", reduce="max").failed == 1


def test_an_empty_score_without_an_error_counts_as_failed(tmp_path):
    (tmp_path / "in.jsonl").write_text(jsonl({"id": 0, "clip_score": None}, {"id": 1, "clip_score": 0.5}))
    (tmp_path / "in.csv").write_text("id,clip_score\n0,\n1,0.5\n")
    for name in ("in.jsonl", "in.csv"):
        assert select("2", tmp_path / name, output=tmp_path / f"kept_{name}").failed == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"id": 1}\n', r"row 2 has no 'clip_score'; score the file first, or see --output-key \(fields.*: id\)"),
        ('{"id": 1, "clip_score": 2}\n', "row 2: 'clip_score' is neither a score from 0 to 1 nor empty"),
        ("x\n", "line 2: not JSON: "),
    ],
)
def test_a_row_that_was_not_scored_is_named(tmp_path, content, problem):
    (tmp_path / "in.jsonl").write_text(jsonl(*rows_with(0.5)) + content)
    with pytest.raises(InputError, match=f"in.jsonl: {problem}"):
        select("2", tmp_path / "in.jsonl", output=tmp_path / "kept", rest=tmp_path / "rest")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_nothing_is_written_if_one_of_several_inputs_is_broken(tmp_path, source):
    (tmp_path / "z.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"z.jsonl"):
        select("2", source, tmp_path / "z.jsonl", output=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_an_output_stays_as_it_was_until_it_is_complete(tmp_path, source, monkeypatch):
    (tmp_path / "kept.jsonl").write_text("old")
    (tmp_path / "kept.jsonl.partial").write_text("rows of an interrupted run")

    def fail(*arguments):
        raise InputError("broken")

    monkeypatch.setattr(select_module, "copy_rows", fail)
    with pytest.raises(InputError):
        select("2", source, output=tmp_path / "kept.jsonl", rest=tmp_path / "rest.jsonl")
    monkeypatch.undo()
    assert (tmp_path / "kept.jsonl").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"scored.jsonl", "kept.jsonl", "kept.jsonl.partial"}
    select("2", source, output=tmp_path / "kept.jsonl")
    assert ids_in(tmp_path / "kept.jsonl") == [2, 4]
    assert (tmp_path / "kept.jsonl.partial").read_text() == "rows of an interrupted run"


@pytest.mark.parametrize("change", [lambda text: 2 * text, lambda text: text[:0], lambda text: text.replace("5", "4")])
def test_an_input_that_changes_midway_gives_no_output(tmp_path, source, monkeypatch, change):
    write_part = select_module.write_part

    def changing(*arguments):
        source.write_text(change(source.read_text()))
        return write_part(*arguments)

    monkeypatch.setattr(select_module, "write_part", changing)
    with pytest.raises(InputError, match="changed while its rows were selected"):
        select("2", source, output=tmp_path / "kept.jsonl")
    assert not (tmp_path / "kept.jsonl").exists()


@pytest.mark.parametrize("option", ["output", "rest"])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to", None])
def test_an_input_is_never_overwritten(tmp_path, source, option, link):
    target = tmp_path / "link.jsonl" if link else source
    if link:
        getattr(target, link)(source)
    content = source.read_bytes()
    options = {"output": tmp_path / "kept.jsonl"} | {option: target}
    with pytest.raises(UsageError, match=r"would overwrite .*, which is an input"):
        select("2", source, **options)
    assert source.read_bytes() == content and not (tmp_path / "kept.jsonl").exists()


def test_a_summary_is_not_overwritten(tmp_path, source):
    (tmp_path / "s.json").write_text("{}")
    with pytest.raises(UsageError, match=r"-o would overwrite .*s.json, which --summary names"):
        select("2", source, output=tmp_path / "s.json", summaries=(tmp_path / "s.json",))


def test_kept_rows_and_the_rest_are_two_files(tmp_path, source):
    (tmp_path / "link").symlink_to("kept.jsonl")
    for rest in ("kept.jsonl", "../" + tmp_path.name + "/kept.jsonl", "link"):
        with pytest.raises(UsageError, match=r"--rest would overwrite .*kept.jsonl, which -o names"):
            select("2", source, output=tmp_path / "kept.jsonl", rest=tmp_path / rest)


@pytest.mark.parametrize(
    ("name", "problem"), [("sub", "it is a folder"), ("missing/kept.jsonl", "no such folder"), ("kept.csv", "jsonl")]
)
def test_an_output_that_cannot_be_written_is_named(tmp_path, source, name, problem):
    (tmp_path / "sub").mkdir()
    for option in ("output", "rest"):
        options = {"output": tmp_path / "kept.jsonl"} | {option: tmp_path / name}
        is_folder = name == "sub"
        if is_folder:  # a folder is where an output of this name goes
            select("2", source, **options)
            assert (tmp_path / "sub" / "scored.jsonl").exists()
            continue
        with pytest.raises((OutputError, UsageError), match=problem):
            select("2", source, **options)
        assert not (tmp_path / name).exists()


def test_an_output_that_another_run_is_writing_is_refused(tmp_path, source):
    from filelock import FileLock

    with FileLock(tmp_path / "kept.jsonl.partial.lock"), pytest.raises(OutputError, match="another run is writing"):
        select("2", source, output=tmp_path / "kept.jsonl")


def test_an_empty_name_is_rejected():
    for name in ("output", "rest", "output_key"):
        with pytest.raises(UsageError, match="is empty"):
            SelectOptions(top_of("2"), **{name: ""})
    with pytest.raises(UsageError, match="INPUT is empty"):
        SelectOptions(top_of("2"), ("",))
