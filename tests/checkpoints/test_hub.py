"""Hub ids, and the real Hub client with a loopback server that answers like the Hub."""

import json
import threading
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers import ROW, jsonl, longclip_score, parse_jsonl
from safetensors.torch import save_file

from longclip_cli.checkpoints.find import find_checkpoint
from longclip_cli.checkpoints.hub import download
from longclip_cli.checkpoints.names import SHORT_NAMES, looks_like_hub_id, pick_checkpoint
from longclip_cli.errors import CheckpointError, Interrupted, LongCLIPError
from longclip_cli.options import DEFAULT_MODEL


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "a/b", "some.one/LongCLIP_L-1.0"])
def test_owner_and_name_are_a_hub_id(model):
    assert looks_like_hub_id(model)


@pytest.mark.parametrize("model", ["name", "./a", "../a", "/a/b", "a/b/c", "a/b.pt", "./b c", "a/b.safetensors"])
def test_a_path_is_not_a_hub_id(model):
    assert not looks_like_hub_id(model)


def test_a_safetensors_file_is_preferred_then_a_longclip_name():
    assert pick_checkpoint(["README.md", "a.pt", "longclip-L@336px.pt"], where="x") == "longclip-L@336px.pt"
    assert pick_checkpoint(["longclip-L.pt", "model.safetensors"], where="x") == "model.safetensors"
    several = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert pick_checkpoint([*several, "longclip.pt"], where="x") == "model.safetensors.index.json"
    assert pick_checkpoint([*several, "model.safetensors"], where="x") == "model.safetensors"
    others = ["adapter_model.safetensors", "model.fp16.safetensors", "text/model.safetensors", "model.safetensors"]
    assert pick_checkpoint(others, where="x") == "model.safetensors"
    assert pick_checkpoint(["optimizer.pt", "pytorch_model.bin"], where="x") == "pytorch_model.bin"
    with pytest.raises(CheckpointError, match="no checkpoint in x"):
        pick_checkpoint(["README.md"], where="x")


@pytest.mark.parametrize("offline", ["1", "0"])
def test_without_network_and_cache_the_error_lists_remedies(tmp_path, offline):
    # Nothing listens on the port, as without a network.
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9"}
    run = longclip_score(input=jsonl(ROW), environment=environment)
    message = run.stderr.decode()
    assert run.returncode == 1
    assert run.stdout == b""
    assert message.startswith(f"longclip-score: cannot download {DEFAULT_MODEL} (")
    for way_out in ("--model", "LONGCLIP_MODEL", "--model demo", f"hf download {DEFAULT_MODEL}", "huggingface-cli"):
        assert way_out in message
    assert message.count("\n") == 1


COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "somebody/longclip-tiny"


class Hub(BaseHTTPRequestHandler):
    """The two parts of the Hub that the client uses: lists of files, and the files."""

    files: dict[str, bytes]
    breaks: int  # how many downloads of a checkpoint end midway
    downloads: list[str]
    requests: list[str]

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        self.requests.append(f"{self.command} {self.path}")
        part = self.path.partition("?")[0].strip("/").split("/")
        if part[:2] == ["api", "models"]:
            self.answer_about("/".join(part[2:4]), *part[4:6])
        elif "/".join(part[:2]) == REPOSITORY and part[4] in self.files:
            self.send_file(part[4], with_body)
        else:
            self.refuse("EntryNotFound")

    def answer_about(self, repository, kind="revision", revision="main"):
        if repository != REPOSITORY:
            return self.refuse("RepoNotFound")
        if revision not in ("main", "v1", COMMIT):
            return self.refuse("RevisionNotFound")
        if kind == "tree":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            return self.send(200, json.dumps(tree).encode(), {})
        siblings = [{"rfilename": name} for name in self.files]
        return self.send(200, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode(), {})

    def send_file(self, name, with_body):
        content = self.files[name]
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        is_broken = with_body and type(self).breaks > 0 and name.endswith((".pt", ".safetensors"))
        if with_body:
            self.downloads.append(name)
        self.send(206 if start else 200, content[start:], headers, cut=is_broken, with_body=with_body)
        if is_broken:
            type(self).breaks -= 1

    def send(self, status, content, headers, *, cut=False, with_body=True):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def refuse(self, code):
        self.send(404, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def log_message(self, *_):
        pass


@contextmanager
def serving(files, breaks=0):
    """Serve a Hub that holds these files in one repository."""
    handler = type("Handler", (Hub,), {"files": files, "breaks": breaks, "downloads": [], "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def score_from(endpoint, cache, *options, model=REPOSITORY, offline="0"):
    environment = {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline}
    return longclip_score("-q", "-m", model, *options, input=jsonl(ROW), environment=environment)


def assert_scored(run):
    assert run.returncode == 0, run.stderr
    assert parse_jsonl(run.stdout)[0].keys() == ROW.keys() | {"clip_score"}


def assert_one_line(run, *words):
    assert run.returncode == 1
    assert run.stdout == b""
    message = run.stderr.decode()
    assert message.startswith("longclip-score: ")
    assert message.count("\n") == 1, message
    for word in words:
        assert word in message


def test_a_checkpoint_in_several_files_comes_whole_with_its_config(tmp_path, checkpoint_maker, weights):
    tensors = checkpoint_maker.transformers_layout(weights, nested=True)
    names, files = sorted(tensors), {"config.json": b"{}", "README.md": b"#"}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, tmp_path / file)
        files[file] = (tmp_path / file).read_bytes()
    weight_map = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    with serving(files) as (hub, endpoint):
        assert_scored(score_from(endpoint, tmp_path / "cache"))
        assert sorted(hub.downloads) == sorted(files.keys() - {"README.md"})
    assert_scored(score_from(endpoint, tmp_path / "cache", offline="1"))


@pytest.mark.parametrize("options", [[], ["--revision", "v1"], ["--revision", COMMIT, "--resume"]])
def test_a_cached_model_costs_one_request_and_no_download(tmp_path, tiny_checkpoint, options):
    """Recording the run needs the model's files, too. A push between two downloads must not mix two commits."""
    files = {"longclip-tiny.pt": tiny_checkpoint.read_bytes(), "config.json": b"{}", "README.md": b"#"}
    with serving(files) as (hub, endpoint):
        assert score_from(endpoint, tmp_path, "-o", tmp_path / "first.jsonl", *options).returncode == 0
        assert sorted(hub.downloads) == ["config.json", "longclip-tiny.pt"]
        asked = [request for request in hub.requests if "/resolve/" in request]
        assert asked
        assert all(f"/resolve/{COMMIT}/" in request for request in asked)
        hub.requests.clear()
        hub.downloads.clear()
        assert score_from(endpoint, tmp_path, "-o", tmp_path / "second.jsonl", *options).returncode == 0
        assert len(hub.requests) == 1, hub.requests
        assert hub.downloads == []
    options = [option for option in options if option != "--resume"]
    if not options:
        assert_scored(score_from(endpoint, tmp_path))  # the server has stopped
    assert_scored(score_from(endpoint, tmp_path, *options, offline="1"))


def test_a_missing_revision_is_named_and_a_file_has_none(tmp_path, tiny_checkpoint):
    with serving({"longclip-tiny.pt": tiny_checkpoint.read_bytes()}) as (_, endpoint):
        assert_one_line(score_from(endpoint, tmp_path, "--revision", "v2"), REPOSITORY, "no revision v2")
    with pytest.raises(LongCLIPError, match=r"--revision v1 is for"):
        find_checkpoint(str(tiny_checkpoint), "v1")


def test_a_wrong_id_and_a_repository_without_a_checkpoint_are_named(tmp_path):
    with serving({"README.md": b"#"}) as (_, endpoint):
        wrong = score_from(endpoint, tmp_path, model="somebody/longclip-tyni")
        assert_one_line(wrong, "somebody/longclip-tyni: the Hub has no such model")
        assert_one_line(score_from(endpoint, tmp_path), f"no checkpoint in the Hub repository {REPOSITORY}")


def test_a_missing_file_that_the_repository_lists_is_one_line(tmp_path, tiny_checkpoint):
    class Listed(dict):
        def __contains__(self, _):
            return False

    with serving(Listed({"longclip-tiny.pt": b""})) as (_, endpoint):
        assert_one_line(score_from(endpoint, tmp_path), f"cannot download {REPOSITORY}")


def test_a_download_that_breaks_midway_is_continued(tmp_path, tiny_checkpoint):
    with serving({"longclip-tiny.pt": tiny_checkpoint.read_bytes()}, breaks=1) as (hub, endpoint):
        assert_scored(score_from(endpoint, tmp_path))
        assert hub.breaks == 0


def test_a_download_that_keeps_breaking_is_continued_by_the_next_run(tmp_path, tiny_checkpoint):
    with serving({"longclip-tiny.pt": tiny_checkpoint.read_bytes()}, breaks=100) as (hub, endpoint):
        assert_one_line(score_from(endpoint, tmp_path), f"cannot download {REPOSITORY}", "no copy is cached")
        hub.breaks = 0
        assert_scored(score_from(endpoint, tmp_path))


def test_an_interrupt_while_asking_the_hub_is_raised(monkeypatch):
    def interrupted(*_, **__):
        raise Interrupted(2)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", interrupted)
    with pytest.raises(Interrupted):
        download(REPOSITORY)


@pytest.mark.parametrize(("name", "repository"), SHORT_NAMES.items())
def test_short_names_are_those_of_the_published_repositories(monkeypatch, name, repository):
    asked = []

    def interrupted(_, repo_id, **__):
        asked.append(repo_id)
        raise Interrupted(2)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", interrupted)
    with pytest.raises(Interrupted):
        find_checkpoint(name)
    assert asked == [repository]


def test_a_cached_copy_is_used_without_a_network(tmp_path, tiny_checkpoint):
    repository = tmp_path / "hub" / "models--somebody--longclip-tiny"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    (snapshot / "longclip-tiny.pt").symlink_to(tiny_checkpoint)
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    assert_scored(longclip_score("-m", "somebody/longclip-tiny", input=jsonl(ROW), environment=environment))
