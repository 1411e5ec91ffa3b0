"""`longclip-convert`: any checkpoint to one safetensors file."""

import json
import subprocess

import pytest
import torch
from helpers import COMMAND, ENVIRONMENT, IMAGES, golden_rows
from safetensors.torch import load_file, save_file

from longclip_cli.scorer import LongCLIPScorer

ROWS = golden_rows("expected.jsonl")


def convert(*arguments):
    command = [COMMAND.with_name("longclip-convert"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)


def scores(model):
    paths = [IMAGES / row["image_path"] for row in ROWS]
    return LongCLIPScorer.from_pretrained(str(model), "cpu", "fp32").score(paths, [row["text"] for row in ROWS])


@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 2e-6), ("fp32", 2e-6), ("fp16", 2e-3)])
def test_a_converted_checkpoint_scores_as_before(checkpoint, tmp_path, dtype, tolerance):
    run = convert(checkpoint, tmp_path / "out.safetensors", *(["--dtype", dtype] if dtype else []))
    assert run.returncode == 0
    assert scores(tmp_path / "out.safetensors") == pytest.approx(scores(checkpoint), abs=tolerance)
    kind = torch.float16 if dtype == "fp16" else torch.float32
    assert {tensor.dtype for tensor in load_file(tmp_path / "out.safetensors").values()} == {kind}


def test_a_converted_checkpoint_can_be_read_by_whom_other_files_can(tmp_path):
    (tmp_path / "other").touch()
    assert convert("demo", tmp_path / "out.safetensors").returncode == 0
    assert (tmp_path / "out.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_it_prints_what_the_checkpoint_is(checkpoint, tmp_path, weights):
    run = convert(checkpoint, tmp_path / "out.safetensors", "--dtype", "fp16")
    parameters = sum(tensor.numel() for tensor in weights.values()) - weights["positional_embedding_res"].numel() - 1
    for words in (
        "112 x 112 pixels in patches of 14",
        "248 tokens of 49,408",
        "64 channels",
        f"{parameters:,} parameters",
    ):
        assert words in run.stdout
    assert "float16" in run.stdout


def test_the_keys_are_the_original_s_whatever_they_were(checkpoint_maker, weights, tmp_path):
    checkpoint_maker.main("transformers", str(tmp_path / "in"))
    assert convert(tmp_path / "in", tmp_path / "out.safetensors").returncode == 0
    converted = load_file(tmp_path / "out.safetensors")
    assert converted.keys() == weights.keys() - {"logit_scale"}
    for name in converted.keys() - {"positional_embedding", "positional_embedding_res"}:
        assert torch.equal(converted[name], weights[name]), name


def test_what_the_config_said_goes_with_the_file(checkpoint_maker, tmp_path):
    checkpoint_maker.main("clip", str(tmp_path / "in"))
    config = json.loads((tmp_path / "in" / "config.json").read_text())
    config["text_config"] |= {"hidden_act": "gelu", "num_attention_heads": 2}
    (tmp_path / "in" / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out" / "plain.safetensors"
    out.parent.mkdir()
    assert convert(tmp_path / "in", out).returncode == 0
    assert scores(out) == pytest.approx(scores(tmp_path / "in"), abs=2e-6)
    sizes = LongCLIPScorer.from_pretrained(str(out), "cpu").model.sizes
    assert (sizes.context_length, sizes.text.activation, sizes.text.head_dim) == (77, "gelu", 32)
    assert sizes.vision.activation == "quick_gelu"


def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(checkpoint, weights, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    save_file(weights, tmp_path / "same.safetensors")
    save_file(weights | {"visual.proj": weights["visual.proj"] / 0}, tmp_path / "nan.safetensors")
    for source, target, message in (
        ("missing.pt", tmp_path / "out.safetensors", "no such checkpoint: missing.pt"),
        (tmp_path / "other.safetensors", tmp_path / "out.safetensors", "other.safetensors: not a LongCLIP or CLIP"),
        (tmp_path / "nan.safetensors", tmp_path / "out.safetensors", "nan.safetensors: visual.proj holds NaN"),
        (checkpoint, tmp_path / "out.pt", "its name has to end with .safetensors"),
        (tmp_path / "same.safetensors", tmp_path / "same.safetensors", "it is the checkpoint itself"),
        (checkpoint, tmp_path / "no" / "out.safetensors", "no such folder"),
    ):
        run = convert(source, target)
        assert run.returncode == 1
        assert run.stderr.startswith("longclip-convert: ")
        assert message in run.stderr
        assert run.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.safetensors" for name in ("nan", "other", "same")
    )
