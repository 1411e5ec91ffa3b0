"""The DataFlow operator, with storages that work like DataFlow's own."""

import json
import math
from pathlib import Path

import pandas
import pytest
from helpers import PICTURES, jsonl, longclip_score, parse_jsonl, run_python
from PIL import Image

from longclip_cli.errors import InputError, UsageError
from longclip_cli.integrations.dataflow import LongCLIPEvaluator

CAR = "The image shows a man and a woman in what appears to be a car."
READERS = {
    "jsonl": lambda path: pandas.read_json(path, lines=True),
    "json": pandas.read_json,
    "csv": pandas.read_csv,
    "parquet": pandas.read_parquet,
}
WRITERS = {
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True, force_ascii=False),
    "json": lambda frame, path: frame.to_json(path, orient="records", force_ascii=False, indent=2),
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
}


class StepStorage:
    """A storage that reads a file and writes the next step's, like DataFlow's FileStorage."""

    def __init__(self, folder, rows, kind):
        self.kind, self.folder, self.step = kind, folder, 0
        WRITERS[kind](pandas.DataFrame(rows), self.path)

    @property
    def path(self):
        return self.folder / f"step_{self.step}.{self.kind}"

    def read(self, output_type):
        assert output_type == "dataframe"
        return READERS[self.kind](self.path)

    def write(self, data):
        self.step += 1
        WRITERS[self.kind](data, self.path)


class DummyStorage:
    """A storage that holds a dataframe, like DataFlow's class of that name."""

    def __init__(self, rows):
        self.data = pandas.DataFrame(rows, dtype=object)

    def read(self, output_type):
        assert output_type == "dataframe"
        return self.data

    def write(self, data):
        self.data = data


@pytest.fixture(scope="module")
def evaluator():
    return LongCLIPEvaluator(ckpt_path="demo", device="cpu")


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """Make a folder with a picture 1.png the current one and return it."""
    Image.open(PICTURES / "coffee.png").save(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", READERS)
def test_every_kind_of_file_gives_the_score_of_the_command(evaluator, in_folder, kind):
    row = {"image_path": "1.png", "text": CAR}
    storage = StepStorage(in_folder, [row], kind)
    assert evaluator.run(storage, image_key="image_path", text_key="text", output_key="clip_score") == ["clip_score"]
    written = storage.read("dataframe")
    assert list(written.columns) == ["image_path", "text", "clip_score"]
    run = longclip_score("-m", "demo", "--device", "cpu", input=jsonl(row), cwd=in_folder)
    assert written["clip_score"][0] == pytest.approx(parse_jsonl(run.stdout)[0]["clip_score"], abs=2e-6)


def test_rows_that_cannot_be_scored_hold_null_and_the_reason(evaluator, in_folder):
    rows = [
        {"image_path": "1.png", "text": CAR},
        {"image_path": "missing.png", "text": CAR},
        {"image_path": "1.png", "text": None},
        {"image_path": ["1.png"], "text": CAR},
        {"image_path": Path("1.png"), "text": "\ud800 a lone surrogate"},
        {"image_path": Image.new("RGB", (8, 8)), "text": CAR},
        {"image_path": "1.png", "text": pandas.NA},
    ]
    storage = DummyStorage(rows)
    evaluator.run(storage)
    scores, errors = storage.data["clip_score"].tolist(), storage.data["clip_score_error"].tolist()
    assert [math.isnan(score) for score in scores] == [False, True, True, False, False, True, True]
    assert scores[3] == scores[0]
    assert [error for error in errors if isinstance(error, str)] == [
        "image: no such file: missing.png",
        "text: not a string: 'text' is null",
        "image: not a path: 'image_path' is of type Image",
        "text: not a string: 'text' is null",
    ]
    assert json.loads(storage.data[["clip_score"]].to_json(orient="records"))[1] == {"clip_score": None}


def test_an_old_error_column_is_removed_if_no_row_fails(evaluator, in_folder):
    storage = DummyStorage([{"image_path": "1.png", "text": CAR, "clip_score_error": "image: no such file"}])
    evaluator.run(storage)
    assert list(storage.data.columns) == ["image_path", "text", "clip_score"]


def test_key_names_of_later_dataflow_versions_work(evaluator, in_folder):
    storage = DummyStorage([{"picture": "1.png", "caption": CAR}])
    assert evaluator.run(storage, input_image_key="picture", input_text_key="caption", output_key="fit") == ["fit"]
    assert 0 <= storage.data["fit"][0] <= 1


def test_any_index_and_an_empty_dataframe_are_accepted(evaluator, in_folder):
    storage = DummyStorage([{"image_path": "1.png", "text": CAR}, {"image_path": "1.png", "text": "Nothing."}])
    storage.data.index = [7, 3]
    evaluator.run(storage)
    assert storage.data["clip_score"].notna().all()
    empty = DummyStorage({"image_path": [], "text": []})
    assert evaluator.run(empty) == ["clip_score"]
    assert list(empty.data.columns) == ["image_path", "text", "clip_score"]


def test_a_missing_column_is_named_and_nothing_is_written(evaluator):
    storage = DummyStorage([{"image": "1.png", "text": CAR}])
    with pytest.raises(InputError, match="no column image_path; there are image, text"):
        evaluator.run(storage)
    assert list(storage.data.columns) == ["image", "text"]


def test_only_one_of_the_two_model_arguments_may_be_given():
    assert LongCLIPEvaluator(model_name="demo").get_desc("en").startswith("How well")
    with pytest.raises(UsageError, match="not both"):
        LongCLIPEvaluator("demo", model_name="demo")


def test_the_operator_imports_neither_pandas_nor_dataflow():
    code = "import longclip_cli, sys; longclip_cli.LongCLIPEvaluator; print({'pandas', 'dataflow'} & set(sys.modules))"
    assert run_python(code).stdout == b"set()\n"
