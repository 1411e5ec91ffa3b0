"""Parquet through the command: every way to give an image, and the file that comes out."""

import gzip
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import (
    EXAMPLES,
    IMAGES,
    MEBIBYTE,
    golden_rows,
    golden_score,
    linux_only,
    longclip_score,
    parse_jsonl,
    run_python,
    shell,
)
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.formats.detect import detect_format
from longclip_cli.formats.parquet import Parquet
from longclip_cli.formats.parquet_rows import has_list
from longclip_cli.options import ScoringOptions
from longclip_cli.storage.source import open_input

EXPECTED = golden_rows("expected.jsonl")
PATHS = [row["image_path"] for row in EXPECTED]
TEXTS = [row["text"] for row in EXPECTED]
BYTES = [(IMAGES / path).read_bytes() for path in PATHS]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WAYS = {
    "string": pa.array(PATHS),
    "large_string": pa.array(PATHS, pa.large_string()),
    "string_view": pa.array(PATHS, pa.string_view()),
    "dictionary": pa.array(PATHS).dictionary_encode(),
    "binary": pa.array(BYTES),
    "large_binary": pa.array(BYTES, pa.large_binary()),
    "binary_view": pa.array(BYTES, pa.binary_view()),
    "bytes_in_a_struct": pa.array([{"bytes": content, "path": None} for content in BYTES], IMAGE),
    "path_in_a_struct": pa.array([{"bytes": None, "path": path} for path in PATHS], IMAGE),
    "list_of_paths": pa.array([[path] for path in PATHS]),
    "list_of_structs": pa.array([[{"bytes": content, "path": None}] for content in BYTES], pa.list_(IMAGE)),
}
IS_LIST = {"list_of_paths", "list_of_structs"}


def options(**values):
    return ScoringOptions(**({"image_key": "image", "image_root": IMAGES} | values))


def write(path, columns, **settings):
    pq.write_table(pa.table(columns), path, **settings)
    return path


def rows_of(path, *, whole=False, **values):
    return list(Parquet().read_rows(open_input(str(path)), options(**values), whole=whole))


def jsonl_of(path, **values):
    """Return the rows of a file as JSONL, with a score."""
    rows = rows_of(path, whole=True, **values)
    return [json.loads(Parquet().encode_line(row, "clip_score", 0.5)) for row in rows]


@pytest.fixture(scope="module")
def outputs(checkpoint_safetensors, tmp_path_factory):
    """Score the golden pairs, with the image given in each of the ways, in one run."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "in").mkdir()
    for way, images in WAYS.items():
        texts = pa.array(TEXTS).dictionary_encode() if way == "dictionary" else pa.array(TEXTS)
        write(folder / "in" / f"{way}.parquet", {"image": images, "text": texts}, row_group_size=30)
    arguments = ("-m", checkpoint_safetensors, "--image-root", IMAGES, "--device", "cpu", "--image-key", "image")
    run = longclip_score(folder / "in", "-o", folder / "out", *arguments)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_give_an_image_gives_the_golden_scores(outputs, way):
    table = pq.read_table(outputs / "out" / f"{way}.parquet")
    scores = table["clip_score"].to_pylist()
    for score, row in zip(scores, EXPECTED, strict=True):
        assert (score[0] if way in IS_LIST else score) == golden_score(row)
    assert table["clip_score_error"].null_count == len(EXPECTED)


@pytest.mark.parametrize("way", WAYS)
def test_columns_and_row_groups_are_kept(outputs, way):
    before, after = (pq.ParquetFile(outputs / folder / f"{way}.parquet") for folder in ("in", "out"))
    assert after.schema_arrow.names == ["image", "text", "clip_score", "clip_score_error"]
    assert after.read().select(["image", "text"]).equals(before.read(), check_metadata=True)
    sizes = [[file.metadata.row_group(i).num_rows for i in range(3)] for file in (before, after)]
    assert sizes[0] == sizes[1] == [30, 30, 13]


def test_output_can_be_jsonl_without_the_pixels(checkpoint_safetensors, tmp_path):
    path = write(tmp_path / "in.pq", {"image": WAYS["bytes_in_a_struct"], "pixels": BYTES, "text": TEXTS})
    run = longclip_score(path, "-m", checkpoint_safetensors, "--device", "cpu", "--image-key", ".image")
    assert run.returncode == 0
    assert run.stderr.count(b"binary columns are left out of JSONL: image.bytes, pixels") == 1
    for row, expected in zip(parse_jsonl(run.stdout), EXPECTED, strict=True):
        assert row == {
            "image": {"path": None},
            "text": expected["text"],
            "clip_score": golden_score(expected),
        }


def test_images_of_a_fixed_size_are_read(tmp_path):
    content = (IMAGES / "rgb.png").read_bytes()
    path = write(tmp_path / "in.parquet", {"image": pa.array([content], pa.binary(len(content))), "text": ["a"]})
    assert rows_of(path)[0].inputs.images[0].content == content


def test_standard_input_can_be_a_redirected_file_but_no_pipe(tmp_path):
    scenes = parse_jsonl((EXAMPLES / "scenes.jsonl").read_bytes())[:3]
    write(tmp_path / "in.parquet", {name: [row[name] for row in scenes] for name in scenes[0]})
    score = f"score -m demo --image-root {EXAMPLES} -o out.parquet"
    assert shell(tmp_path, f"{score} < in.parquet").returncode == 0
    assert pq.read_table(tmp_path / "out.parquet")["clip_score"].null_count == 0
    piped = shell(tmp_path, f"cat in.parquet | {score}")
    assert piped.returncode == 1
    assert b"standard input: Parquet cannot be read from a pipe; give its file as INPUT" in piped.stderr


def test_without_pyarrow_the_error_names_the_extra(tmp_path):
    write(tmp_path / "in.parquet", {"text": ["a"]})
    code = "import sys; sys.modules['pyarrow.parquet'] = None; from longclip_cli.cli.score import main; main()"
    run = run_python(code, tmp_path / "in.parquet", "-m", "demo")
    assert run.returncode == 1
    assert b"Parquet needs the pyarrow package: pip install 'longclip-cli[parquet]'" in run.stderr


def test_pyarrow_is_not_imported_for_other_formats():
    code = "import sys, longclip_cli.cli.score, longclip_cli.jobs.run; print({'numpy', 'pyarrow'} & set(sys.modules))"
    assert run_python(code).stdout == b"set()\n"


@pytest.mark.parametrize("name", ["in.parquet", "in.pq", "in", "in.data"])
def test_parquet_is_detected_by_name_or_content(tmp_path, name):
    source = open_input(str(write(tmp_path / name, {"text": ["a"]})))
    assert detect_format(source, None).name == "parquet"


def test_a_compressed_output_is_wrong_usage(tmp_path):
    write(tmp_path / "in.parquet", {"text": ["a"]})
    run = longclip_score("in.parquet", "-o", "out.parquet.gz", "-m", "demo", cwd=tmp_path)
    assert run.returncode == 2
    assert b"remove .gz from the name" in run.stderr


def test_a_compressed_file_is_an_error_with_the_remedy(tmp_path):
    path = write(tmp_path / "in.parquet", {"text": ["a"]})
    (tmp_path / "in.parquet.gz").write_bytes(gzip.compress(path.read_bytes()))
    run = longclip_score("in.parquet.gz", "-m", "demo", cwd=tmp_path)
    assert run.returncode == 1
    assert b"in.parquet.gz: is compressed; decompress it to a file first: zcat" in run.stderr


def test_null_images_and_texts_are_row_errors(tmp_path):
    nothing = {"bytes": None, "path": None}
    images = pa.array([None, nothing, {"bytes": BYTES[0], "path": None}], IMAGE)
    rows = rows_of(write(tmp_path / "in.parquet", {"image": images, "text": ["a", "b", None]}))
    assert [str(row.inputs) for row in rows] == [
        "image: not a path: 'image' is null",
        "image: not a path: 'image' is null",
        "text: not a string: 'text' is null",
    ]
    assert [row.number for row in rows] == [1, 2, 3]


def test_selectors_reach_into_structs_lists_and_json_strings(tmp_path):
    columns = {
        "meta": [{"file": {"path": "a.png"}, "caps": [{"t": "one"}, {"t": "two"}]}],
        "json": [json.dumps({"caps": ["three"]})],
        "a.b": ["plain"],
        "map": pa.array([[("en", "four")]], pa.map_(pa.string(), pa.string())),
    }
    path = write(tmp_path / "in.parquet", columns)
    keys = (".meta.caps[1].t", ".json.caps[0]", "a.b", ".map.en")
    inputs = rows_of(path, image_key=".meta.file.path", text_key=keys)[0].inputs
    assert inputs.images == ("a.png",)
    assert inputs.texts == ("two", "three", "plain", "four")


LISTS = pa.schema(
    {
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "image": IMAGE,
        "images": pa.large_list(IMAGE),
        "meta": pa.struct([("caps", pa.list_(pa.struct([("t", pa.string())])))]),
        "map": pa.map_(pa.string(), pa.list_(pa.string())),
    }
)


@pytest.mark.parametrize(
    ("image", "texts", "expected"),
    [
        ("image", ("text",), False),
        ("image", ("texts",), True),
        ("images", ("text",), True),
        (".images[0]", ("text",), False),
        ("image", ("text", "text"), True),
        ("image", (".meta.caps[0].t",), False),
        ("image", (".meta.caps[].t",), True),
        ("image", (".map.en",), True),
        ("image", (".map.en[0]",), False),
        ("image", (".text.captions",), False),
        ("image", (".text.captions[]",), True),
        ("missing", ("missing",), False),
    ],
)
def test_the_schema_and_the_keys_say_whether_scores_are_lists(image, texts, expected):
    assert has_list(LISTS, options(image_key=image, text_key=texts)) is expected
    assert not has_list(LISTS, options(image_key=image, text_key=texts, reduce="max"))


def test_a_list_in_a_json_string_needs_brackets_in_its_key(tmp_path):
    path = write(tmp_path / "in.parquet", {"image": ["a.png"], "json": ['{"caps": ["one", "two"]}']})
    (row,) = rows_of(path, text_key=(".json.caps",))
    assert "is a list in a string; add [] to --text-key" in str(row.inputs)
    assert len(rows_of(path, text_key=(".json.caps[]",))[0].inputs.texts) == 2
    assert len(rows_of(path, text_key=(".json.caps",), whole=True)[0].inputs.texts) == 2


def test_only_columns_that_keys_name_are_read(tmp_path):
    """The unused column is broken, and is only noticed if it is read."""
    unused = [f"unused value {i} " * 20 for i in range(50)]
    columns = {"image": ["a.png"] * 50, "text": ["a"] * 50, "unused": unused}
    path = write(tmp_path / "in.parquet", columns, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    begin = content.index(b"unused value 0") - 4
    content[begin : begin + 4] = b"\xff\xff\xff\x7f"  # the length of the first value
    path.write_bytes(content)
    assert len(rows_of(path)) == 50
    with pytest.raises(Exception, match="row group 1 of 1 cannot be read"):
        rows_of(path, whole=True)


def test_messages_show_the_columns_that_a_file_has(tmp_path):
    meta = [json.dumps({"caption": "one"})] * 120
    path = write(tmp_path / "in.parquet", {"image": [{"path": "a.png"}] * 120, "meta": meta})
    run = longclip_score(path, "-m", "demo", "--image-key", ".image.path", "--text-key", ".meta.captoin")
    assert run.returncode == 1
    assert b"did you mean .meta.caption? fields in the row: .image.path, meta, .meta.caption" in run.stderr


def test_a_column_name_that_a_key_needs_must_be_unique(tmp_path):
    table = pa.table([pa.array(["a.png"]), pa.array(["one"]), pa.array(["two"])], names=["image", "text", "text"])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(Exception, match=r"two columns are named 'text'; rename one"):
        rows_of(tmp_path / "in.parquet")


def test_duplicate_and_empty_column_names_are_kept_in_jsonl(tmp_path):
    names = ["image", "text", "x", "x", ""]
    table = pa.table([pa.array([value]) for value in ("a.png", "a", 1, 2, 3)], names=names)
    pq.write_table(table, tmp_path / "in.parquet")
    row = rows_of(tmp_path / "in.parquet", whole=True)[0]
    line = Parquet().encode_line(row, "clip_score", 0.5)
    assert line == b'{"image": "a.png", "text": "a", "x": 1, "x": 2, "": 3, "clip_score": 0.5}\n'


@pytest.mark.parametrize("groups", [0, 1])
def test_files_without_rows_are_scored(tmp_path, groups):
    schema = pa.schema({"image": pa.string(), "text": pa.string()})
    with pq.ParquetWriter(tmp_path / "in.parquet", schema) as writer:
        for _ in range(groups):
            writer.write_table(schema.empty_table())
    run = longclip_score("in.parquet", "-o", "out.parquet", "-m", "demo", "--image-key", "image", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["image", "text", "clip_score", "clip_score_error"]


cells = st.none() | st.text(max_size=5)


@given(
    st.lists(st.tuples(cells, st.none() | st.lists(cells, max_size=3), st.none() | st.integers(-(2**63), 2**63 - 1)))
)
def test_jsonl_has_the_values_of_all_columns(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "in.parquet"
    types = {"a": pa.string(), "b": pa.list_(pa.string()), "c": pa.int64()}
    columns = {name: pa.array([row[i] for row in rows], kind) for i, (name, kind) in enumerate(types.items())}
    write(path, columns, row_group_size=3)
    assert jsonl_of(path) == [dict(zip("abc", row, strict=True)) | {"clip_score": 0.5} for row in rows]
    shutil.rmtree(path.parent)


def test_old_results_are_replaced_in_jsonl_too(tmp_path):
    path = write(tmp_path / "in.parquet", {"clip_score": [1], "x": [2], "clip_score_error": ["old"]})
    assert jsonl_of(path) == [{"x": 2, "clip_score": 0.5}]


PEAK = """
import sys
from longclip_cli.cli.score import main
try:
    main()
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@linux_only
def test_a_row_group_of_images_is_not_held_several_times(tiny_checkpoint, tmp_path):
    """The row group has 300 MB. Beside it there is room for what may wait for the model, and what comes back late."""

    def peak(count, padding):
        image = (IMAGES / "rgb.png").read_bytes()
        columns = {"image": [image + os.urandom(padding) for _ in range(count)], "text": ["a"] * count}
        settings = dict(use_dictionary=False, compression="none", write_batch_size=8)
        path = write(tmp_path / f"{count}.parquet", columns, **settings)
        output = tmp_path / "out.parquet"
        run = run_python(PEAK, path, "-o", output, "-m", tiny_checkpoint, "--image-key", "image", "--device", "cpu")
        assert pq.read_metadata(output).num_rows == count, run.stderr
        return 1024 * int(run.stdout)

    ordinary = peak(10, 0)
    assert peak(300, MEBIBYTE) < ordinary + 512 * MEBIBYTE + 300 * MEBIBYTE
