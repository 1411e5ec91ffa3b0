"""Checkpoints on the Hugging Face Hub: which file of a repository to take, and fetching it into the Hub's cache."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from longclip_cli.errors import CheckpointError, LongCLIPError

DEMO_MODEL = "demo"  # comes with the package
SHORT_NAMES = {
    "longclip-b": "BeichenZhang/LongCLIP-B",
    "longclip-l": "BeichenZhang/LongCLIP-L",
    "longclip-l-336": "BeichenZhang/LongCLIP-L-336px",
}
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
INDEX_SUFFIX = ".index.json"  # model.safetensors.index.json names the files of a checkpoint in several
PART_OF_SEVERAL = re.compile(r"-\d+-of-\d+\.\w+$")
DEFAULT_REVISION = "main"
SECONDS_TO_ANSWER = 10


def looks_like_hub_id(model: str) -> bool:
    """Whether a model reference has the form `owner/name`, and not that of a checkpoint file."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) is not None and not model.endswith(CHECKPOINT_SUFFIXES)


def pick_checkpoint(names: Iterable[str], *, where: str) -> str:
    """The file to load of a folder's or repository's: safetensors first, then one that is named for LongCLIP.

    For a checkpoint in several files it is their index. Of what is left, names that Transformers gives come first, and
    short ones: training leaves other things beside a model.
    """
    candidates = [
        name
        for name in names
        if name.removesuffix(INDEX_SUFFIX).endswith(CHECKPOINT_SUFFIXES) and not PART_OF_SEVERAL.search(name)
    ]
    if not candidates:
        raise CheckpointError(f"no checkpoint in {where} (looked for {', '.join(CHECKPOINT_SUFFIXES)})")
    return min(
        candidates,
        key=lambda name: (
            ".safetensors" not in name,
            name.endswith(INDEX_SUFFIX),
            "longclip" not in name.lower(),
            name.count("/"),
            Path(name).name.partition(".")[0] not in ("model", "pytorch_model"),
            len(name),
            name,
        ),
    )


def download(repo_id: str, revision: str | None = None) -> Path:
    """The checkpoint file of a Hub repository: from the network, or from the cache when there is none.

    What belongs to it, its other parts and its `config.json`, then lies beside it. `revision` is a branch, tag or
    commit. Sends one request if all of them are cached. Raises `CheckpointError`.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().model_info(repo_id, revision=revision, timeout=SECONDS_TO_ANSWER)
        names = [file.rfilename for file in found.siblings or []]
        checkpoint = pick_checkpoint(names, where=f"the Hub repository {repo_id}")
        # By commit: all are of the same one, and the client asks nothing about a file that it has of a commit.
        for name in belonging_to(checkpoint, names):
            path = Path(hf_hub_download(repo_id, name, revision=found.sha or revision))
            snapshot = path.parents[name.count("/")]
        with suppress(OSError):  # of a cache that may only be read
            remember_revision(snapshot, revision or DEFAULT_REVISION)
        return snapshot / checkpoint
    except LongCLIPError:  # of ours, or of a signal
        raise
    except HFValidationError as error:
        raise CheckpointError(f"{repo_id} is neither a file or folder here nor a Hub id: {error}") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: the Hub has no revision {revision} of it") from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise CheckpointError(
            f"{repo_id}: the Hub has no such model, or only for those who are logged in (hf auth login)"
        ) from error
    except Exception as error:  # no network: each release of the Hub's client has its own errors for that
        unreachable = error
    try:
        return cached_checkpoint(repo_id, revision or DEFAULT_REVISION)
    except CheckpointError:
        raise CheckpointError(
            f"cannot download {repo_id} ({' '.join(str(unreachable).split())}), and no copy is cached. Three ways out: "
            "--model with a local checkpoint; the same in the environment variable LONGCLIP_MODEL; or "
            f"'hf download {repo_id}' (huggingface-cli download in older releases) on a machine with a network, "
            f"and its cache copied here. To see the tool work without any of that: --model {DEMO_MODEL}"
        ) from unreachable


def belonging_to(checkpoint: str, names: Iterable[str]) -> list[str]:
    """Of a repository's files those without which this checkpoint is not whole: itself, its parts, its config."""
    # The parts of model.safetensors.index.json are model-00001-of-00002.safetensors and so on.
    stem, _, suffix = checkpoint.removesuffix(INDEX_SUFFIX).rpartition(".")
    is_part = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{suffix}")
    beside = f"{checkpoint.rpartition('/')[0]}/config.json".lstrip("/")
    return [
        name
        for name in names
        if name in (checkpoint, beside) or (checkpoint.endswith(INDEX_SUFFIX) and is_part.fullmatch(name))
    ]


def remember_revision(snapshot: Path, revision: str) -> None:
    """Note in the Hub's cache which commit a branch or tag is, for runs without a network.

    The Hub's client does so only for files that it is asked for by branch or tag.
    """
    reference = snapshot.parent.parent / "refs" / revision
    if revision != snapshot.name and not (reference.is_file() and reference.read_text() == snapshot.name):
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(snapshot.name)


def cached_checkpoint(repo_id: str, revision: str) -> Path:
    """The checkpoint file of a repository in the Hub's cache; raises `CheckpointError` if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(f"no cached copy of {repo_id}") from error
    names = (path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
    return snapshot / pick_checkpoint(names, where="the cached copy")
