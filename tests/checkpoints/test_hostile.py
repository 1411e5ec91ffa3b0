"""Checkpoints that claim anything: each is one clear error, without a wait and without the memory."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from helpers import CPU, ROW, jsonl, longclip_score
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from longclip_cli.checkpoints.load import checkpoint_fingerprint, find_checkpoint, load_model
from longclip_cli.checkpoints.pickles import MOST_LEVELS, levels_of
from longclip_cli.checkpoints.state_dict import weight_files
from longclip_cli.errors import CheckpointError

INDEX = "model.safetensors.index.json"
NESTED = b'{"a":' * 100_000
PROJECTION = "text_projection"  # [64, 64] in the golden checkpoint
TABLES = ("positional_embedding", "positional_embedding_res")


@pytest.fixture
def refusal(tmp_path):
    """Return the message with which a checkpoint is refused."""

    def refusal(model=tmp_path / "model.pt"):
        with pytest.raises(CheckpointError) as raised:
            load_model(str(model), CPU, torch.float32)
        message = str(raised.value)
        assert message.isprintable()
        assert len(message) < 1000
        return message

    return refusal


def repeated(*shape):
    """A tensor that claims a shape, and holds one number."""
    return torch.ones(1).expand(shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual.positional_embedding": torch.ones(0, 128)}, "has 0 positions, not one more than a square"),
        ({"visual.positional_embedding": torch.ones(64, 128)}, "has 64 positions, not one more than a square"),
        ({"visual.positional_embedding": torch.ones(1, 128)}, "an image of 0 pixels a side"),
        ({"visual.conv1.weight": torch.ones(128, 3, 0, 0)}, "an image of 0 pixels a side"),
        ({"visual.conv1.weight": torch.ones(128, 3, 1000, 1000)}, "an image of 8000 pixels a side, not 1 to 4096"),
        (dict.fromkeys(TABLES, torch.ones(0, 64)), "positional_embedding has 0 positions, not 3 to 16384"),
        (dict.fromkeys(TABLES, torch.ones(20_000, 64)), "positional_embedding has 20000 positions"),
        ({"visual.proj": torch.ones(128, 0), PROJECTION: torch.ones(64, 0)}, "visual.proj has no channels"),
        ({f"transformer.resblocks.{i}.a": torch.ones(1) for i in range(300)}, "it has 300 blocks transformer.resbl"),
        ({PROJECTION: torch.ones(64, 64, device="meta")}, "text_projection is without data (meta)"),
        ({PROJECTION: torch.eye(64).to_sparse()}, "text_projection is sparse"),
        ({PROJECTION: torch.eye(64).to_sparse_csr()}, "text_projection is sparse"),
        ({PROJECTION: torch.nested.nested_tensor([torch.ones(2)])}, "text_projection is nested"),
        ({PROJECTION: torch.quantize_per_tensor(torch.eye(64), 0.1, 0, torch.qint8)}, "text_projection is quantized"),
        ({"visual.proj": repeated(128, 10**10), PROJECTION: repeated(64, 10**10)}, "its tensors claim 7,680,"),
        ({"visual.proj": repeated(2**40, 2**20)}, "its tensors claim 4,611,686,"),
        (dict.fromkeys(TABLES, repeated(2**40, 64)), "its tensors claim 562,949,"),
        ({"visual.conv1.weight": repeated(128, 3, 2**25, 2**25)}, "its tensors claim 1,729,382,"),
        ({"x" * 5000: torch.ones(1)}, f"unexpected {'x' * 80}…"),
        ({"a\nb": torch.ones(1)}, r"unexpected a\nb"),
        ({("a",): torch.ones(1)}, "its keys are not all names"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's, about the kinds of tensors
def test_sizes_and_tensors_that_no_network_has_are_named(tmp_path, weights, refusal, changes, message):
    torch.save(weights | changes, tmp_path / "model.pt")
    assert message in refusal()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("", torch.Tensor.int, "not floating-point numbers: positional_embedding (int32)"),
        ("", torch.Tensor.bool, "not floating-point numbers: positional_embedding (bool)"),
        ("visual.proj", torch.Tensor.long, "not floating-point numbers: visual.proj (int64)"),
        ("text_projection", torch.zeros_like, "text_projection is 0 throughout"),
        ("visual.proj", torch.ones_like, "visual.proj is 1 throughout"),
        ("token_embedding.weight", torch.zeros_like, "token_embedding.weight is 0 throughout"),
        ("ln_final.weight", torch.zeros_like, "ln_final.weight is 0 throughout"),
        ("visual.ln_post.bias", lambda bias: bias / 0, "visual.ln_post.bias holds NaN or infinity"),
        ("token_embedding.weight", lambda table: table.index_fill(0, torch.tensor(5), torch.nan), "holds NaN"),
    ],
)
def test_weights_that_make_all_scores_alike_are_refused(tmp_path, weights, refusal, name, change, message):
    """Without the refusal most of these give every row one score, with status 0."""
    torch.save({key: change(w) if name in ("", key) else w for key, w in weights.items()}, tmp_path / "model.pt")
    assert message in refusal()
    run = longclip_score("-m", tmp_path / "model.pt", input=jsonl(ROW))
    assert (run.returncode, run.stdout) == (1, b"")


def test_biases_of_zero_and_weights_of_one_are_accepted(tmp_path, weights):
    changed = {name: torch.zeros_like(weight) for name, weight in weights.items() if name.endswith("bias")}
    torch.save(weights | changed | {"ln_final.weight": torch.ones(64)}, tmp_path / "model.pt")
    load_model(str(tmp_path / "model.pt"), CPU, torch.float32)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "config.json", "model-1.safetensors", INDEX])
def test_a_fifo_in_place_of_a_file_is_refused_and_not_opened(tmp_path, weights, refusal, name):
    """Opening one waits for a writer."""
    if name == "config.json":
        torch.save({key: w for key, w in weights.items() if key != TABLES[1]}, tmp_path / "model.pt")
    if name == "model-1.safetensors":
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "part/../model-1.safetensors"}}))
    os.mkfifo(tmp_path / name)
    assert "is not a regular file" in refusal(tmp_path / INDEX if "-1" in name else tmp_path)
    if not name.startswith(("config", "model-1")):
        assert "it is not a regular file" in refusal(tmp_path / name) or name == INDEX
        with pytest.raises(CheckpointError, match="is not a regular file"):
            checkpoint_fingerprint(tmp_path / name)  # what a run records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NESTED, "config.json cannot be read: nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "config.json cannot be read: Exceeds the limit"),
        (b" " * (2**21 + 1), "config.json cannot be read: larger than 2 MiB"),
        (b'{"text_config": {"num_attention_heads": true}}', "which True attention heads"),
        (json.dumps({"text_config": {"hidden_act": "x" * 5000}}).encode(), f"the activation {'x' * 80}…"),
    ],
)
def test_a_hostile_config_is_named(tmp_path, weights, refusal, content, message):
    torch.save({key: w for key, w in weights.items() if key != TABLES[1]}, tmp_path / "model.pt")
    (tmp_path / "config.json").write_bytes(content)
    assert message in refusal()


def test_a_hostile_config_inside_a_safetensors_file_is_named(tmp_path, weights, refusal):
    save_file(weights, tmp_path / "model.safetensors", metadata={"config": NESTED.decode()})
    assert "its config.json cannot be read: nested too deeply" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NESTED, "the index cannot be read: nested too deeply"),
        (b" " * (2**21 + 1), "the index cannot be read: larger than 2 MiB"),
        (b"[]", "not the index of a checkpoint"),
        (b'{"weight_map": {}}', "not the index of a checkpoint"),
        (b'{"weight_map": {"a": 5}}', "not the index of a checkpoint"),
        (json.dumps({"weight_map": {"a": "x" * 5000}}).encode(), f"are missing: {'x' * 80}…"),
        (rb'{"weight_map": {"a": "x\u0000y"}}', r"are missing: x\x00y"),
        (b'{"weight_map": {"a": ".."}}', "its part .. is not a regular file"),
    ],
)
def test_a_hostile_index_is_named(tmp_path, refusal, content, message):
    (tmp_path / INDEX).write_bytes(content)
    assert message in refusal(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["weight_map", "..", "/etc/passwd"]),
    lambda values: st.lists(values) | st.dictionaries(st.text() | st.just("weight_map"), values),
)


@given(json_values | st.dictionaries(st.just("weight_map"), st.dictionaries(st.text(), st.text())))
def test_any_index_is_files_of_its_folder_or_one_error(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("index")
    (folder / INDEX).write_text(json.dumps(value))
    with pytest.raises(CheckpointError):
        weight_files(folder / INDEX)  # there are none


def archive_with(path, pickled, compression=zipfile.ZIP_STORED):
    """Write an archive as `torch.save` does, with this pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"model/{name}", content)


def test_a_compressed_archive_is_refused_unread(tmp_path, refusal):
    """It could unpack to a thousand times its size."""
    archive_with(tmp_path / "model.pt", b"\x80\x02" + b"N0" * 10_000_000 + b"N.", zipfile.ZIP_DEFLATED)
    assert "its part data.pkl is compressed" in refusal()


def test_a_large_pickle_is_refused_unread(tmp_path, refusal):
    archive_with(tmp_path / "model.pt", b"\x80\x02" + b"N0" * 2_000_000 + b"N.")
    assert "its part data.pkl claims 4,000,004 bytes" in refusal()
    (tmp_path / "model.pt").write_bytes(b"\x80\x02" + b"N0" * 2_000_000 + b"N.")
    assert "its pickle is larger than 2 MiB" in refusal()


@pytest.mark.parametrize("is_in_archive", [True, False])
def test_a_deeply_nested_pickle_is_refused_unread(tmp_path, is_in_archive):
    """Python crashes when it hashes such a tuple, so the command has to try it."""
    nested = b"\x80\x02}N" + b"\x85" * 1_000_000 + b"Ns."  # a dict whose key is ((((None,),),),)
    if is_in_archive:
        archive_with(tmp_path / "model.pt", nested)
    else:
        before = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        (tmp_path / "model.pt").write_bytes(b"".join(pickle.dumps(value, 2) for value in before) + nested)
    run = longclip_score("-m", tmp_path / "model.pt", input=jsonl(ROW))
    assert run.returncode == 1
    assert b"model.pt: refused, since its pickle is nested too deeply" in run.stderr


values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


def levels(value):
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return max((levels(part) + 1 for part in parts), default=0)


@given(values, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_a_pickle_is_never_taken_for_flatter_than_it_is(value, protocol):
    found = max(levels_of(pickle.dumps(value, protocol)), default=0)
    assert levels(value) <= found <= MOST_LEVELS


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_pickle_are_one_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "model.pt"
    for write in (lambda: archive_with(path, b"\x80\x02" + content), lambda: path.write_bytes(content)):
        write()
        with pytest.raises(CheckpointError):
            load_model(str(path), CPU, torch.float32)


@pytest.mark.parametrize("size", [2**21 + 1, 2**62])
def test_a_safetensors_header_that_claims_too_much_is_refused(tmp_path, refusal, size):
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", size) + b"{}" + b" " * (2**21 - 1))
    assert f"its header claims {size:,} bytes" in refusal(tmp_path)


@pytest.mark.parametrize("model", ["x" * 5000, "a/" * 3000, "a\0b"], ids=["long name", "long path", "NUL"])
def test_a_reference_that_no_path_can_be_is_named(model):
    with pytest.raises(CheckpointError, match="no such checkpoint: "):
        find_checkpoint(model)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda _: os.scandir("/nowhere"))  # root may read every folder
    with pytest.raises(CheckpointError, match="the folder cannot be read"):
        find_checkpoint(str(tmp_path))
