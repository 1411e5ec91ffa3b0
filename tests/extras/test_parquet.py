"""Parquet files that Hugging Face's `datasets` writes, and what it makes of the scored ones."""

import pytest
from datasets import Dataset, Features, Image, List, Value, load_dataset
from helpers import IMAGES, golden_rows, golden_score, longclip_score

ROWS = golden_rows("expected.jsonl")
PATHS = [str(IMAGES / row["image_path"]) for row in ROWS]
TEXTS = [row["text"] for row in ROWS]
ERROR = Value("string")


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


def scored(dataset, folder, model, *arguments):
    """Write a data set as Parquet, with its images, score it, and load the result."""
    (folder / "in").mkdir()
    dataset.to_parquet(folder / "in" / "data.parquet", batch_size=20)
    arguments = ("-m", model, "--device", "cpu", "--image-key", "image", *arguments)
    run = longclip_score(folder / "in", "-o", folder / "out", *arguments)
    assert run.returncode in (0, 3), run.stderr
    return load_dataset(
        "parquet", data_files=str(folder / "out" / "data.parquet"), split="train", cache_dir=str(folder / "cache")
    )


def test_a_data_set_of_images_is_scored_and_loaded(checkpoint_safetensors, tmp_path):
    features = Features({"image": Image(), "text": Value("string"), "id": Value("int32")})
    before = Dataset.from_dict({"image": PATHS, "text": TEXTS, "id": range(len(ROWS))}, features=features)
    after = scored(before, tmp_path, checkpoint_safetensors)
    assert after.features == Features({**features, "clip_score": Value("float64"), "clip_score_error": ERROR})
    for row, expected in zip(after, ROWS, strict=True):
        assert row["clip_score"] == golden_score(expected)
        assert row["clip_score_error"] is None
    assert after["id"][:] == list(range(len(ROWS)))
    assert all(image.size == other.size for image, other in zip(after["image"], before["image"], strict=True))


def test_lists_of_captions_give_lists_of_scores(checkpoint_safetensors, tmp_path):
    features = Features({"image": Image(), "text": List(Value("string"))})
    texts = [[text, "another text"] for text in TEXTS[:-1]] + [[]]
    before = Dataset.from_dict({"image": PATHS, "text": texts}, features=features)
    after = scored(before, tmp_path, checkpoint_safetensors)
    assert after.features["clip_score"] == List(Value("float64"))
    for row, expected in zip(list(after)[:-1], ROWS[:-1], strict=True):
        assert row["clip_score"][0] == golden_score(expected)
        assert len(row["clip_score"]) == 2
    assert after[-1]["clip_score"] is None
    assert after[-1]["clip_score_error"] == "text: an empty list: 'text'"


def test_lists_of_images_give_lists_of_scores(checkpoint_safetensors, tmp_path):
    features = Features({"image": List(Image()), "text": Value("string")})
    before = Dataset.from_dict({"image": [PATHS[:2], PATHS[:1]], "text": [TEXTS[0]] * 2}, features=features)
    after = scored(before, tmp_path, checkpoint_safetensors)
    assert after.features == Features({**features, "clip_score": List(Value("float64")), "clip_score_error": ERROR})
    assert [len(scores) for scores in after["clip_score"]] == [2, 1]
    assert after[0]["clip_score"][0] == after[1]["clip_score"][0] == golden_score(ROWS[0])
    assert after[0]["image"][0].size == before[0]["image"][0].size


def test_files_with_and_without_errors_are_one_data_set(checkpoint_safetensors, tmp_path):
    features = Features({"image": Image(), "text": Value("string")})
    (tmp_path / "in").mkdir()
    for name, texts in (("a", ["one"]), ("b", [None])):
        dataset = Dataset.from_dict({"image": PATHS[:1], "text": texts}, features=features)
        dataset.to_parquet(tmp_path / "in" / f"{name}.parquet")
    arguments = ("-m", checkpoint_safetensors, "--device", "cpu", "--image-key", "image")
    run = longclip_score(tmp_path / "in", "-o", tmp_path / "out", *arguments)
    assert run.returncode == 3
    after = load_dataset("parquet", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [score is None for score in after["clip_score"]] == [False, True]
    assert after[1]["clip_score_error"] == "text: not a string: 'text' is null"
