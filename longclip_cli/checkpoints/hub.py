"""Checkpoints on the Hugging Face Hub, downloaded into the Hub's own cache."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from longclip_cli.checkpoints.names import DEMO_MODEL, needed_files, pick_checkpoint
from longclip_cli.errors import CheckpointError, LongCLIPError

DEFAULT_REVISION = "main"
SECONDS_TO_ANSWER = 10


def download(repo_id: str, revision: str | None = None) -> Path:
    """Return the checkpoint file of a Hub repository. Without a network, take it from the cache.

    The other files that it needs, its parts and its `config.json`, are in the same folder. `revision` is a branch, tag
    or commit. Sends a single request if all files are cached. Raises `CheckpointError`.
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
        # By commit: all files are then of the same one, and the client sends no request for a cached file of a commit.
        for name in needed_files(checkpoint, names):
            path = Path(hf_hub_download(repo_id, name, revision=found.sha or revision))
            snapshot = path.parents[name.count("/")]
        with suppress(OSError):  # the cache may be read-only
            remember_revision(snapshot, revision or DEFAULT_REVISION)
        return snapshot / checkpoint
    except LongCLIPError:
        raise
    except HFValidationError as error:
        raise CheckpointError(f"{repo_id}: not a local file or folder, and not a Hub id ({error})") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: the Hub has no revision {revision}; check --revision") from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise CheckpointError(
            f"{repo_id}: the Hub has no such model, or it needs a login; check --model, or run 'hf auth login'"
        ) from error
    except Exception as error:  # no network: the Hub's client raises different errors in each of its releases
        unreachable = error
    try:
        return cached_checkpoint(repo_id, revision or DEFAULT_REVISION)
    except CheckpointError:
        raise CheckpointError(
            f"cannot download {repo_id} ({' '.join(str(unreachable).split())}), and no copy is cached; "
            f"use --model with a local checkpoint, or set LONGCLIP_MODEL to one, or run 'hf download {repo_id}' "
            "('huggingface-cli download' in older releases) on a machine with a network and copy its cache here; "
            f"to try the command without a download, use --model {DEMO_MODEL}"
        ) from unreachable


def remember_revision(snapshot: Path, revision: str) -> None:
    """Record in the Hub's cache which commit a branch or tag is, for runs without a network.

    The Hub's client records it only for files that are requested by branch or tag.
    """
    reference = snapshot.parent.parent / "refs" / revision
    if revision != snapshot.name and not (reference.is_file() and reference.read_text() == snapshot.name):
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(snapshot.name)


def cached_checkpoint(repo_id: str, revision: str) -> Path:
    """Return the checkpoint file of a repository in the Hub's cache. Raise `CheckpointError` if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(f"no cached copy of {repo_id}") from error
    names = (path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
    return snapshot / pick_checkpoint(names, where="the cached copy")
