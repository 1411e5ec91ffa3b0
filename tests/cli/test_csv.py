"""CSV and TSV through the command, and with pandas."""

import base64
import io
import json

import pandas
import pytest
from helpers import (
    IMAGES,
    MISSING,
    PICTURES,
    ROW,
    golden_rows,
    golden_score,
    jsonl,
    longclip_score,
    parse_jsonl,
    start_longclip_score,
)

COLUMNS = ["clip_score", "clip_score_error"]


def csv_of(rows, **options) -> bytes:
    return pandas.DataFrame(rows).to_csv(index=False, **options).encode()


def loaded(content: bytes, **options) -> pandas.DataFrame:
    """Return the table in a file, its values as they are there."""
    table = pandas.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, **options)
    assert list(table.columns[-2:]) == COLUMNS
    return table


def data_uri(row) -> str:
    return "data:image/png;base64," + base64.b64encode((IMAGES / row["image_path"]).read_bytes()).decode()


WAYS = {
    "a path": (lambda row: row, ()),
    "a data: URI": (lambda row: {"text": row["text"], "image": data_uri(row)}, ("--image-key", "image")),
    "JSON in a cell": (
        lambda row: {"meta": json.dumps({"files": [row["image_path"]], "caption": row["text"]})},
        ("--image-key", ".meta.files", "--text-key", ".meta.caption"),
    ),
}


@pytest.mark.parametrize(("way", "kind", "separator"), [*((way, "csv", ",") for way in WAYS), ("a path", "tsv", "\t")])
def test_all_golden_pairs_score_as_the_original_scored_them(checkpoint_safetensors, tmp_path, way, kind, separator):
    convert, options = WAYS[way]
    rows = [convert(row) for row in golden_rows("pairs.jsonl")]
    (tmp_path / f"in.{kind}").write_bytes(csv_of(rows, sep=separator))
    arguments = ("-m", checkpoint_safetensors, "--image-root", IMAGES, "--device", "cpu", *options)
    run = longclip_score(tmp_path / f"in.{kind}", "-o", tmp_path / f"out.{kind}", *arguments)
    assert run.returncode == 0, run.stderr
    table = loaded((tmp_path / f"out.{kind}").read_bytes(), sep=separator)
    for score, error, row in zip(*(table[name] for name in COLUMNS), golden_rows("expected.jsonl"), strict=True):
        assert (float(score), error) == (golden_score(row), "")
    written = table.drop(columns=COLUMNS).to_dict("records")
    assert written == [{name: str(value) for name, value in row.items()} for row in rows]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a CSV file as pandas writes it, and its rows as strings."""
    texts = ["A cat", 'say "hi",\r\nthen\nleave', " é, 漢字 😀 ", "x" * 200_000, "a\tb", "'", "", "NA"]
    rows = [ROW | {"text": text, "n": str(i), "": "", "note": "a;b"} for i, text in enumerate(texts)]
    rows.insert(3, MISSING | {"n": "1.50", "": "", "note": '"'})
    path = tmp_path_factory.mktemp("table") / "in.csv"
    path.write_bytes(csv_of(rows))
    return path, rows


@pytest.fixture(scope="module")
def scored(table, tiny_checkpoint):
    path, _ = table
    out = path.with_name("out.csv")
    assert longclip_score(path, "-o", out, "-m", tiny_checkpoint).returncode == 3
    return out.read_bytes()


def test_pandas_loads_what_it_has_written_with_the_scores(table, scored):
    _, rows = table
    frame = loaded(scored)
    names = {f"Unnamed: {i}": "" for i in range(9)}
    assert frame.drop(columns=COLUMNS).rename(columns=names).to_dict("records") == rows
    failed = [bool(row["text"].strip()) and "missing" not in row["image_path"] for row in rows]
    assert [score != "" for score in frame["clip_score"]] == failed
    assert [error == "" for error in frame["clip_score_error"]] == failed


def test_a_stream_and_a_pipe_get_the_same_rows(table, scored, tiny_checkpoint, tmp_path):
    path, _ = table
    arguments = ("-m", tiny_checkpoint, "--input-format", "csv")
    assert longclip_score(path, *arguments).stdout == scored
    assert longclip_score("-", *arguments, input=path.read_bytes()).stdout == scored
    out = tmp_path / "out.csv"
    longclip_score("-", "-o", out, *arguments, input=path.read_bytes())
    assert loaded(out.read_bytes()).equals(loaded(scored))


def test_rows_of_csv_are_written_as_jsonl(table, scored, tiny_checkpoint, tmp_path):
    path, rows = table
    out = tmp_path / "out.jsonl"
    assert longclip_score(path, "-o", out, "-m", tiny_checkpoint).returncode == 3
    written = parse_jsonl(out.read_bytes())
    scores = [float(score) if score else None for score in loaded(scored)["clip_score"]]
    assert [row.pop("clip_score") for row in written] == scores
    assert [row.pop("clip_score_error", "") for row in written] == list(loaded(scored)["clip_score_error"])
    assert written == rows


def test_a_second_run_replaces_the_columns(table, scored, tiny_checkpoint, tmp_path):
    (tmp_path / "in.csv").write_bytes(scored)
    assert longclip_score(tmp_path / "in.csv", "-m", tiny_checkpoint).stdout == scored


def test_compressed_csv_stays_compressed(table, scored, tiny_checkpoint, tmp_path):
    path, _ = table
    pandas.read_csv(path, dtype=str, keep_default_na=False).to_csv(tmp_path / "in.csv.gz", index=False)
    longclip_score(tmp_path / "in.csv.gz", "-o", tmp_path / "out.csv.gz", "-m", tiny_checkpoint)
    table = pandas.read_csv(tmp_path / "out.csv.gz", dtype=str, keep_default_na=False)
    assert list(table["clip_score"]) == list(loaded(scored)["clip_score"])


def test_each_row_is_written_as_soon_as_it_is_scored(tiny_checkpoint):
    with start_longclip_score("-m", tiny_checkpoint, "--input-format", "csv") as process:
        lines = csv_of([ROW, ROW | {"text": "a\nb"}]).splitlines(keepends=True)
        process.stdin.write(lines[0] + lines[1] + lines[2])
        process.stdin.flush()
        assert process.stdout.readline() == lines[0].rstrip() + b",clip_score,clip_score_error\n"
        assert process.stdout.readline().startswith(lines[1].rstrip() + b",0.")
        process.stdin.write(lines[3])
        process.stdin.close()
        assert process.stdout.readline() == lines[2]
        assert process.stdout.readline().startswith(lines[3].rstrip() + b",0.")
        assert process.wait() == 0


def test_a_header_alone_is_the_output_of_an_input_without_rows(tmp_path):
    expected = b"image_path,text,clip_score,clip_score_error\n"
    run = longclip_score("--input-format", "csv", "-m", "demo", input="image_path,text\n")
    assert (run.returncode, run.stdout) == (0, expected)
    (tmp_path / "in.csv").write_text("image_path,text\n")
    assert longclip_score(tmp_path / "in.csv", "-o", tmp_path / "out.csv", "-m", "demo").returncode == 0
    assert (tmp_path / "out.csv").read_bytes() == expected


def test_broken_records_fail_and_others_are_scored(tiny_checkpoint, tmp_path):
    path = str(PICTURES / next(PICTURES.iterdir()).name)
    content = f"image_path,text\n{path},one\n{path},two, three\n{path}\n{path},\xe9\n{path},four".encode("latin-1")
    (tmp_path / "in.csv").write_bytes(content)
    for out in ("out.csv", "out.jsonl"):
        assert longclip_score(tmp_path / "in.csv", "-o", tmp_path / out, "-m", tiny_checkpoint).returncode == 3
    errors = [row.get("clip_score_error") for row in parse_jsonl((tmp_path / "out.jsonl").read_bytes())]
    assert errors == [
        None,
        "line 3: too many fields: the header has 2",
        "line 4: too few fields: 1, the header has 2",
        f"line 5: not UTF-8: byte 0xe9 at position {len(path) + 2}",
        None,
    ]
    table = loaded((tmp_path / "out.csv").read_bytes(), encoding="latin-1")
    assert list(table["clip_score_error"]) == [error or "" for error in errors]
    assert list(table["text"]) == ["one", "two, three", "", "é", "four"]


@pytest.mark.parametrize("count", [3, 150])
def test_an_input_without_a_whole_record_fails(tmp_path, count):
    (tmp_path / "in.csv").write_text("image_path,text\n" + "a.png,a cat, a dog\n" * count)
    run = longclip_score(tmp_path / "in.csv", "-o", tmp_path / "out.csv", "-m", "demo")
    assert run.returncode == 1
    assert (
        b"too many fields" in run.stderr if count > 100 else b"no record is UTF-8 text with the 2 fields" in run.stderr
    )
    assert not (tmp_path / "out.csv").exists()


def test_a_wrong_key_is_named_with_the_columns(tmp_path):
    (tmp_path / "in.csv").write_text("image_path,caption\n" + "a.png,a cat\n" * 100)
    run = longclip_score(tmp_path / "in.csv", "-m", "demo")
    assert run.returncode == 1
    assert b"no field 'text'; fields in the row: image_path, caption (see --image-key" in run.stderr


def test_several_csv_inputs_need_a_folder(tiny_checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_bytes(csv_of([ROW]))
    run = longclip_score(tmp_path / "in", "-m", tiny_checkpoint)
    assert run.returncode == 2
    assert b"csv of several inputs is not written to one stream; give a folder with -o" in run.stderr
    assert longclip_score(tmp_path / "in", "-o", tmp_path / "out", "-m", tiny_checkpoint).returncode == 0
    assert len(loaded((tmp_path / "out" / "b.csv").read_bytes())) == 1


def test_the_format_of_an_output_is_checked_before_rows_are_read(tmp_path):
    for arguments, content in (((), jsonl(ROW)), (("--input-format", "tsv"), "image_path\ttext\n")):
        run = longclip_score("-o", tmp_path / "out.csv", "-m", "demo", *arguments, input=content)
        assert run.returncode == 2
        assert b"are not written as csv; they can be " in run.stderr
    assert not list(tmp_path.iterdir())


def test_a_stream_takes_rows_of_json_as_lines(tiny_checkpoint):
    rows = json.dumps([ROW, ROW])
    run = longclip_score("--input-format", "json", "-o", "/dev/stdout", "-m", tiny_checkpoint, input=rows)
    assert len(parse_jsonl(run.stdout)) == 2


def test_csv_that_is_read_as_jsonl_names_the_option():
    run = longclip_score("-m", "demo", input=csv_of([ROW]))
    assert run.returncode == 1
    assert b"looks like CSV; add --input-format csv" in run.stderr
