"""`longclip-convert`: any checkpoint to one safetensors file."""

import json
import subprocess

import pytest
import torch
from helpers import COMMAND, ENVIRONMENT, scores_of_golden_rows
from safetensors.torch import load_file, save_file

from longclip_cli.checkpoints.convert import convert_checkpoint
from longclip_cli.errors import LongCLIPError
from longclip_cli.scorer import LongCLIPScorer


def convert(*arguments):
    command = [COMMAND.with_name("longclip-convert"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)


@pytest.fixture(scope="module", params=[None, "fp32", "fp16"])
def converted(request, checkpoint, tmp_path_factory):
    """Return the type of the weights, the file that the command wrote, and what it printed."""
    out = tmp_path_factory.mktemp("converted") / "out.safetensors"
    run = convert(checkpoint, out, *(["--dtype", request.param] if request.param else []))
    assert run.returncode == 0
    return request.param, out, run.stdout


def test_a_converted_checkpoint_scores_as_before(converted, checkpoint):
    dtype, out, _ = converted
    tolerance = 2e-3 if dtype == "fp16" else 2e-6
    assert scores_of_golden_rows(out) == pytest.approx(scores_of_golden_rows(checkpoint), abs=tolerance)
    kind = torch.float16 if dtype == "fp16" else torch.float32
    assert {tensor.dtype for tensor in load_file(out).values()} == {kind}


def test_a_converted_file_has_the_permissions_of_any_new_file(converted, tmp_path):
    (tmp_path / "other").touch()
    assert converted[1].stat().st_mode == (tmp_path / "other").stat().st_mode


def test_it_prints_what_the_checkpoint_is(converted, weights):
    dtype, _, printed = converted
    parameters = sum(tensor.numel() for tensor in weights.values()) - weights["positional_embedding_res"].numel() - 1
    for words in (
        "112 x 112 pixels in patches of 14",
        "248 tokens of 49,408",
        "64 channels",
        f"{parameters:,} parameters",
    ):
        assert words in printed
    assert ("float16" if dtype == "fp16" else "float32") in printed


def test_converted_keys_are_those_of_the_original(checkpoint_maker, weights, tmp_path):
    checkpoint_maker.main("transformers", str(tmp_path / "in"))
    assert convert(tmp_path / "in", tmp_path / "out.safetensors").returncode == 0
    converted = load_file(tmp_path / "out.safetensors")
    assert converted.keys() == weights.keys() - {"logit_scale"}
    for name in converted.keys() - {"positional_embedding", "positional_embedding_res"}:
        assert torch.equal(converted[name], weights[name]), name


def test_the_config_is_stored_in_the_converted_file(checkpoint_maker, tmp_path):
    checkpoint_maker.main("clip", str(tmp_path / "in"))
    config = json.loads((tmp_path / "in" / "config.json").read_text())
    config["text_config"] |= {"hidden_act": "gelu", "num_attention_heads": 2}
    (tmp_path / "in" / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out" / "plain.safetensors"
    out.parent.mkdir()
    assert convert(tmp_path / "in", out).returncode == 0
    assert scores_of_golden_rows(out) == pytest.approx(scores_of_golden_rows(tmp_path / "in"), abs=2e-6)
    sizes = LongCLIPScorer.from_pretrained(str(out), "cpu").model.sizes
    assert (sizes.context_length, sizes.text.activation, sizes.text.head_dim) == (77, "gelu", 32)
    assert sizes.vision.activation == "quick_gelu"


def test_a_failed_conversion_is_one_line_and_leaves_no_file(checkpoint, weights, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    save_file(weights, tmp_path / "same.safetensors")
    save_file(weights | {"visual.proj": weights["visual.proj"] / 0}, tmp_path / "nan.safetensors")
    for source, target, message in (
        ("missing.pt", tmp_path / "out.safetensors", "no such checkpoint: missing.pt"),
        (tmp_path / "other.safetensors", tmp_path / "out.safetensors", "other.safetensors: not a LongCLIP or CLIP"),
        (tmp_path / "nan.safetensors", tmp_path / "out.safetensors", "nan.safetensors: visual.proj holds NaN"),
        (checkpoint, tmp_path / "out.pt", "its name must end with .safetensors"),
        (tmp_path / "same.safetensors", tmp_path / "same.safetensors", "it is the checkpoint itself"),
        (checkpoint, tmp_path / "no" / "out.safetensors", "no such folder"),
    ):
        with pytest.raises(LongCLIPError) as raised:
            convert_checkpoint(str(source), target)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)
    run = convert("missing.pt", tmp_path / "out.safetensors")
    assert run.returncode == 1
    assert run.stderr.startswith("longclip-convert: no such checkpoint: missing.pt")
    assert run.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.safetensors" for name in ("nan", "other", "same")
    )
