"""Checkpoints found, read and refused."""

import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import CPU, ROW, jsonl, longclip_score
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from longclip_cli.checkpoints.load import find_checkpoint, load_model
from longclip_cli.checkpoints.state_dict import read_state_dict
from longclip_cli.errors import CheckpointError


class Call:
    """Unpickled, this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def load(path):
    return load_model(str(path), CPU, torch.float32)


def assert_same_weights(model, other):
    assert other.sizes == model.sizes
    for name, weight in model.named_parameters():
        # Packed weights can't be compared, but what they make of the same rows can.
        left, right = (m.get_submodule(name.rpartition(".")[0]) for m in (model, other))
        if weight.is_mkldnn:
            x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(0))
            assert torch.equal(left(x), right(x)), name
        else:
            assert torch.equal(weight, other.get_parameter(name)), name


def test_the_same_weights_as_pt_and_safetensors_load_alike(checkpoint, checkpoint_safetensors):
    assert_same_weights(load(checkpoint), load(checkpoint_safetensors))


def test_the_two_positional_tables_become_one(checkpoint, weights):
    table = load(checkpoint).positional_embedding
    assert torch.equal(table[:20], weights["positional_embedding"][:20])
    assert torch.equal(table[20:], weights["positional_embedding_res"][20:])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": {f"module.{name}": tensor for name, tensor in weights.items()}, "optimizer": {}},
    ],
    ids=["module.", "state_dict", "model and module."],
)
def test_what_training_code_wraps_around_weights_is_taken_off(tmp_path, checkpoint, weights, wrap):
    torch.save(wrap(weights), tmp_path / "wrapped.pt")
    assert_same_weights(load(tmp_path / "wrapped.pt"), load(checkpoint))


def test_a_file_from_before_torch_1_6_is_read_too(tmp_path, checkpoint, weights):
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_same_weights(load(tmp_path / "old.pt"), load(checkpoint))


def test_half_precision_files_are_computed_with_in_the_precision_asked_for(tmp_path, weights):
    save_file({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "half.safetensors")
    assert load(tmp_path / "half.safetensors").text_projection.dtype == torch.float32
    model = load_model(str(tmp_path / "half.safetensors"), CPU, torch.bfloat16)
    assert model.visual.conv1.weight.dtype == torch.bfloat16
    assert model.text_projection.dtype == torch.float32  # of what is added up from layer to layer


def test_a_pickled_call_is_refused_and_not_made(tmp_path):
    torch.save({"positional_embedding": Call(tmp_path / "made")}, tmp_path / "call.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Call(tmp_path / "made")))
    refusals = {"call.pt": "it holds posix.mkdir beside tensors", "plain.pt": "it is no plain state dict"}
    for name, reason in refusals.items():
        run = longclip_score("-m", tmp_path / name, input=jsonl(ROW))
        assert run.returncode == 1
        assert run.stdout == b""
        assert run.stderr.decode().startswith(f"longclip-score: {tmp_path / name}: refused, since {reason}")
        assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("ln_final.weight"), "missing ln_final.weight"),
        (lambda w: w.update(stray=torch.zeros(2)), "unexpected stray"),
        (lambda w: w.update(ln_final=torch.zeros(2)), "unexpected ln_final"),
        (lambda w: w.update({"ln_final.weight": torch.zeros(3)}), r"ln_final.weight is \[3\], not \[64\]"),
        (lambda w: w.update({"positional_embedding_res": torch.zeros(77, 64)}), "are of different shapes"),
        (lambda w: w.update({"positional_embedding_res": torch.zeros(248, 9)}), "are of different shapes"),
        (
            lambda w: w.update({"token_embedding.weight": torch.zeros(30_000, 64)}),
            "30000 tokens, fewer than CLIP's 49408",
        ),
        (
            lambda w: w.update({"visual.conv1.weight": torch.zeros(100, 3, 14, 14)}),
            "the blocks visual.transformer.resblocks.… have 100 channels",
        ),
        (lambda w: w.update({"text_projection": "not a tensor"}), "text_projection not a tensor"),
        (lambda w: w.clear(), "it is empty"),
    ],
)
def test_what_is_missing_or_unexpected_is_named(tmp_path, weights, change, message):
    changed = dict(weights)
    change(changed)
    torch.save(changed, tmp_path / "changed.pt")
    with pytest.raises(CheckpointError, match=f"changed.pt: .*{message}"):
        load(tmp_path / "changed.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut.pt", "not a readable PyTorch checkpoint: "),
        ("text.pt", "not a PyTorch checkpoint"),
        ("empty.pt", "not a PyTorch checkpoint"),
        ("tensor.pt", "holds a Tensor where a state dict"),
        ("text.safetensors", "not a readable safetensors file: "),
        ("cut.safetensors", "not a readable safetensors file: "),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, checkpoint, checkpoint_safetensors, name, message):
    contents = {
        "cut.pt": checkpoint.read_bytes()[:100_000],
        "cut.safetensors": checkpoint_safetensors.read_bytes()[:100_000],
        "empty.pt": b"",
    }
    (tmp_path / name).write_bytes(contents.get(name, b"hello, I am no checkpoint"))
    if name == "tensor.pt":
        torch.save(torch.zeros(3), tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name}: {message}"):
        load(tmp_path / name)


def test_a_folder_gives_its_safetensors_file_else_the_one_named_for_longclip(tmp_path):
    for name in ("notes.txt", "optimizer.pt", "longclip-B.pt"):
        (tmp_path / name).touch()
    assert find_checkpoint(str(tmp_path)).name == "longclip-B.pt"
    (tmp_path / "model.safetensors").touch()
    assert find_checkpoint(str(tmp_path)).name == "model.safetensors"


def test_a_changed_config_is_another_model_to_resume(checkpoint_maker, tmp_path):
    checkpoint_maker.main("clip", str(tmp_path / "model"))
    (tmp_path / "in.jsonl").write_text(jsonl(ROW))
    command = [tmp_path / "in.jsonl", "-m", tmp_path / "model", "-o", tmp_path / "out.jsonl", "--resume"]
    assert longclip_score(*command).returncode == longclip_score(*command).returncode == 0
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("quick_gelu", "gelu"))
    run = longclip_score(*command)
    assert run.returncode == 1
    assert b"its model hash was" in run.stderr


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path}"):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize("model", ["missing.pt", "folder/missing.pt", "no-such-name"])
def test_a_reference_that_leads_nowhere_is_named(model):
    with pytest.raises(CheckpointError, match=f"no such checkpoint: {model}"):
        find_checkpoint(model)


def test_reading_maps_the_file_and_does_not_copy_it(checkpoint):
    tensors = read_state_dict(checkpoint)
    assert str(checkpoint) in Path("/proc/self/maps").read_text()
    del tensors


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1710540580\n",
        b"<!DOCTYPE html><html><body>Not found</body></html>",
        bytes(range(256)),
    ],
    ids=["Git LFS pointer", "HTML", "bytes"],
)
def test_what_was_downloaded_wrongly_is_not_taken_for_a_checkpoint(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"model.pt: (not a PyTorch checkpoint|refused, since it is no plain state)"
    ):
        load(tmp_path / "model.pt")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_checkpoint_is_one_clear_error_or_still_loads(tiny_checkpoint, tmp_path_factory, data):
    content = bytearray(tiny_checkpoint.read_bytes())
    # The pickle that names the tensors lies at the front, the archive's directory at the end.
    ends = st.integers(0, 4000) | st.integers(len(content) - 6000, len(content) - 1)
    for position in data.draw(st.lists(ends, min_size=1, max_size=4)):
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("damaged") / "model.pt"
    path.write_bytes(content)
    with suppress(CheckpointError):
        load(path)
    path.unlink()
