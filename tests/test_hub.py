"""Hub ids; the Hub itself is never asked."""

import pytest
from conftest import jsonl, longclip_score

from longclip_cli.errors import CheckpointError
from longclip_cli.hub import looks_like_hub_id, pick_checkpoint
from longclip_cli.options import DEFAULT_MODEL


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "a/b", "some.one/LongCLIP_L-1.0"])
def test_owner_and_name_are_a_hub_id(model):
    assert looks_like_hub_id(model)


@pytest.mark.parametrize("model", ["name", "./a", "../a", "/a/b", "a/b/c", "a/b.pt", "./b c", "a/b.safetensors"])
def test_a_path_is_no_hub_id(model):
    assert not looks_like_hub_id(model)


def test_a_repository_gives_its_safetensors_file_else_the_one_named_for_longclip():
    assert pick_checkpoint(["README.md", "a.pt", "longclip-L@336px.pt"], where="x") == "longclip-L@336px.pt"
    assert pick_checkpoint(["longclip-L.pt", "model.safetensors"], where="x") == "model.safetensors"
    with pytest.raises(CheckpointError, match="no checkpoint in x"):
        pick_checkpoint(["README.md"], where="x")


@pytest.mark.parametrize("offline", ["1", "0"])
def test_without_a_network_and_a_cached_copy_the_error_says_the_ways_out(tmp_path, offline):
    # Nothing listens on the port, as if there were no network.
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9"}
    run = longclip_score(input=jsonl({"image_path": "a.png", "text": "a"}), environment=environment)
    message = run.stderr.decode()
    assert run.returncode == 1
    assert run.stdout == b""
    assert message.startswith(f"longclip-score: cannot download {DEFAULT_MODEL} (")
    for way_out in ("--model", "LONGCLIP_MODEL", "--model demo", f"hf download {DEFAULT_MODEL}", "huggingface-cli"):
        assert way_out in message
    assert message.count("\n") == 1


def test_a_cached_copy_is_used_without_a_network(tmp_path, tiny_checkpoint):
    repository = tmp_path / "hub" / "models--somebody--longclip-tiny"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    (snapshot / "longclip-tiny.pt").symlink_to(tiny_checkpoint)
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    row = jsonl({"image_path": "a.png", "text": "a"})
    run = longclip_score("-m", "somebody/longclip-tiny", input=row, environment=environment)
    assert run.returncode == 3
    assert b"no such file: a.png" in run.stdout
