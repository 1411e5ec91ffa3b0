"""The built-in model: small, shipped, and able to tell right captions from wrong ones."""

import json
import subprocess
import sys
import zipfile
from collections import defaultdict

import pytest
from helpers import EXAMPLES, ROOT, longclip_score, parse_jsonl

from longclip_cli.checkpoints.load import find_checkpoint
from longclip_cli.checkpoints.state_dict import read_state_dict
from longclip_cli.models.tokenizer import tokenize

CLIP_CONTEXT_LENGTH = 77


@pytest.fixture(scope="module")
def pictures():
    """The shipped examples scored by the command: score and text of each picture's captions, by their kind."""
    run = longclip_score(EXAMPLES / "scenes.jsonl", "--image-root", EXAMPLES, "--model", "demo")
    assert run.returncode == 0
    captions = defaultdict(dict)
    for row in parse_jsonl(run.stdout):
        captions[row["image_path"]][row["caption"]] = (row["clip_score"], row["text"])
    return captions


def test_there_are_enough_examples_and_each_has_a_right_and_two_wrong_captions(pictures):
    assert 3 * len(pictures) >= 24
    for captions in pictures.values():
        assert set(captions) == {"right", "wrong early", "wrong late"}
        right, early, late = (tokenize(captions[kind][1], 248).ids for kind in ("right", "wrong early", "wrong late"))
        assert len(right) >= 80
        assert early[:CLIP_CONTEXT_LENGTH] != right[:CLIP_CONTEXT_LENGTH]
        assert late[:CLIP_CONTEXT_LENGTH] == right[:CLIP_CONTEXT_LENGTH]
        assert late != right


@pytest.mark.parametrize("kind", ["wrong early", "wrong late"])
def test_the_right_caption_scores_higher(pictures, kind):
    assert all(captions["right"][0] > captions[kind][0] for captions in pictures.values())


def test_a_caption_fits_its_own_picture_better_than_another(pictures, tmp_path):
    own = {path: captions["right"] for path, captions in pictures.items()}
    paths = list(own)
    others = [{"image_path": paths[(i + 1) % len(paths)], "text": own[path][1]} for i, path in enumerate(paths)]
    lines = "".join(json.dumps(row) + "\n" for row in others)
    run = longclip_score("--image-root", EXAMPLES, "--model", "demo", input=lines)
    for path, row in zip(paths, parse_jsonl(run.stdout), strict=True):
        assert own[path][0] > row["clip_score"]


def test_the_model_is_small_and_laid_out_as_the_published_ones():
    path = find_checkpoint("demo")
    assert path.stat().st_size <= 8_000_000
    tensors = read_state_dict(path).tensors
    assert tensors["positional_embedding"].shape[0] == tensors["positional_embedding_res"].shape[0] == 248
    assert tensors["token_embedding.weight"].shape[0] == 49408


def test_the_wheel_contains_the_model_the_merges_and_their_notice(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("demo.safetensors", "bpe_simple_vocab_16e6.txt.gz", "NOTICE.md"):
        assert f"longclip_cli/data/{name}" in names
    assert "longclip_cli/py.typed" in names
    assert not any(name.startswith(("tests", "examples")) for name in names)
