"""Checkpoints of every layout, which have to score as the original scored their weights."""

import json

import pytest
import torch
from helpers import CPU, GOLDEN, IMAGES, golden_rows, golden_score, longclip_score, parse_jsonl
from safetensors.torch import load_file, save_file

from longclip_cli.checkpoints.layouts import network_layout, original_layout, original_names
from longclip_cli.checkpoints.load import load_model
from longclip_cli.errors import CheckpointError
from longclip_cli.scorer import LongCLIPScorer


@pytest.fixture(scope="session")
def folders(checkpoint_maker, tmp_path_factory):
    """The golden weights as `make_checkpoint.py` lays them out for Transformers: LongCLIP, and cut to plain CLIP."""
    root = tmp_path_factory.mktemp("layouts")
    for layout in ("transformers", "clip"):
        checkpoint_maker.main(layout, str(root / layout))
    return root


@pytest.fixture(scope="session")
def plain_clip(weights, tmp_path_factory):
    """Plain CLIP in the original's layout, as OpenAI's state dict is."""
    path = tmp_path_factory.mktemp("plain") / "ViT.pt"
    plain = {name: tensor for name, tensor in weights.items() if name != "positional_embedding_res"}
    plain["positional_embedding"] = plain["positional_embedding"][:77].clone()
    plain |= {name: torch.tensor(0) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save(plain, path)
    return path


def assert_scores_as(expected, model):
    run = longclip_score("-m", model, GOLDEN / "pairs.jsonl", "--image-root", IMAGES, "--device", "cpu")
    assert run.returncode == 0
    for row, reference in zip(parse_jsonl(run.stdout), golden_rows(expected), strict=True):
        assert row["clip_score"] == golden_score(reference), row["id"]


def test_the_transformers_port_of_longclip_scores_as_the_original(folders):
    assert_scores_as("expected.jsonl", folders / "transformers")


def test_plain_clip_of_transformers_scores_as_the_original(folders):
    assert_scores_as("expected_clip.jsonl", folders / "clip")


def test_plain_clip_in_the_original_s_layout_scores_as_the_original(plain_clip):
    assert_scores_as("expected_clip.jsonl", plain_clip)


def test_a_clip_model_with_one_table_of_248_positions_scores_as_the_original(checkpoint_maker, weights, tmp_path):
    merged = {name: tensor for name, tensor in weights.items() if name != "positional_embedding_res"}
    table = torch.cat([weights["positional_embedding"][:20], weights["positional_embedding_res"][20:]])
    merged["positional_embedding"] = table
    save_file(checkpoint_maker.transformers_layout(merged, nested=False), tmp_path / "model.safetensors")
    assert_scores_as("expected.jsonl", tmp_path)


def test_the_original_layout_of_a_network_is_what_it_was_made_of(weights):
    again = original_layout(network_layout(original_names(weights)), patch_size=14)
    table = torch.cat([weights["positional_embedding"][:20], weights["positional_embedding_res"][20:]])
    expected = weights | {"positional_embedding": table, "positional_embedding_res": table}
    del expected["logit_scale"]
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


def test_position_numbers_that_transformers_once_saved_are_left_out(folders, tmp_path):
    tensors = load_file(folders / "clip" / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    assert load_model(str(tmp_path), CPU, torch.float32).sizes.context_length == 77


def with_config(folders, tmp_path, **changes):
    """Plain CLIP with another `config.json`, given as changes of both towers' parts."""
    config = json.loads((folders / "clip" / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower] |= changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folders / "clip" / "model.safetensors")
    return str(tmp_path)


def test_the_activation_is_that_of_the_config(folders, weights, tmp_path):
    block = load_model(with_config(folders, tmp_path, hidden_act="gelu"), CPU, torch.float32).transformer.resblocks[0]
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    name = "transformer.resblocks.0.mlp"
    hidden = x @ weights[f"{name}.c_fc.weight"].T + weights[f"{name}.c_fc.bias"]
    expected = torch.nn.functional.gelu(hidden) @ weights[f"{name}.c_proj.weight"].T + weights[f"{name}.c_proj.bias"]
    assert block.mlp.output_scale == 1
    torch.testing.assert_close(block.mlp(x), expected, rtol=0, atol=1e-4)


def test_the_number_of_heads_is_that_of_the_config(folders, tmp_path):
    sizes = load_model(with_config(folders, tmp_path, num_attention_heads=4), CPU, torch.float32).sizes
    assert (sizes.text.head_dim, sizes.vision.head_dim) == (16, 32)


def test_the_image_size_is_never_that_of_the_config(folders, tmp_path):
    assert load_model(with_config(folders, tmp_path, image_size=999), CPU, torch.float32).sizes.image_size == 112


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "swish"}, "asks for the activation swish"),
        ({"num_attention_heads": 7}, "128 channels, which 7 attention heads can't share|64 channels, which 7"),
        ({"num_attention_heads": "many"}, "which many attention heads"),
    ],
)
def test_a_config_that_makes_no_sense_is_named(folders, tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        load_model(with_config(folders, tmp_path, **changes), CPU, torch.float32)


def test_a_config_that_is_no_json_is_named(folders, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(folders / "clip" / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"its config\.json cannot be read"):
        load_model(str(tmp_path), CPU, torch.float32)


def test_a_config_of_another_network_is_left_alone(folders, tmp_path):
    sizes = load_model(with_config(folders, tmp_path, hidden_act="gelu", hidden_size=999), CPU, torch.float32).sizes
    assert sizes.text.activation == sizes.vision.activation == "quick_gelu"


def test_a_config_beside_an_original_longclip_is_left_alone(checkpoint, folders, tmp_path):
    (tmp_path / "longclip.pt").symlink_to(checkpoint)
    (tmp_path / "config.json").write_text("{")
    assert load_model(str(tmp_path), CPU, torch.float32).sizes.text.activation == "quick_gelu"


def test_openclip_s_own_files_are_refused_without_a_config(plain_clip, tmp_path):
    (tmp_path / "open_clip_pytorch_model.bin").symlink_to(plain_clip)
    with pytest.raises(CheckpointError, match="don't say which activation"):
        load_model(str(tmp_path), CPU, torch.float32)


def test_openai_s_torchscript_archives_are_refused_with_the_reason_and_the_remedy(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "ViT-B-32.pt")
    with pytest.raises(CheckpointError, match=r"TorchScript program.*--model openai/clip.*state_dict"):
        load_model(str(tmp_path / "ViT-B-32.pt"), CPU, torch.float32)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".safetensors"])
def test_every_suffix_loads_the_same_weights(weights, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    texts = ["a red circle", "a blue square"]
    features = LongCLIPScorer.from_pretrained(str(path), "cpu").encode_texts(texts)
    torch.save(weights, tmp_path / "reference.pt")
    assert torch.equal(
        features, LongCLIPScorer.from_pretrained(str(tmp_path / "reference.pt"), "cpu").encode_texts(texts)
    )


@pytest.mark.parametrize(("suffix", "save"), [(".safetensors", save_file), (".bin", torch.save)])
def test_a_checkpoint_in_several_files_is_read_through_its_index(folders, tmp_path, suffix, save):
    tensors = load_file(folders / "transformers" / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::3], names[1::3], names[2::3]), 1):
        file = f"model-{number:05}-of-00003{suffix}"
        save({name: tensors[name] for name in part}, tmp_path / file)
        weight_map |= dict.fromkeys(part, file)
    (tmp_path / f"model{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    texts = ["a red circle", "a blue square"]
    whole = LongCLIPScorer.from_pretrained(str(folders / "transformers"), "cpu").encode_texts(texts)
    assert torch.equal(LongCLIPScorer.from_pretrained(str(tmp_path), "cpu").encode_texts(texts), whole)
    (tmp_path / f"model-00002-of-00003{suffix}").unlink()
    with pytest.raises(CheckpointError, match=f"are missing: model-00002-of-00003{suffix}"):
        load_model(str(tmp_path), CPU, torch.float32)


def test_an_index_reaches_no_file_outside_its_folder(tmp_path, checkpoint_safetensors):
    folder = tmp_path / "folder"
    folder.mkdir()
    index = {"weight_map": {"logit_scale": str(checkpoint_safetensors)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"are missing: golden\.safetensors"):
        load_model(str(folder), CPU, torch.float32)
