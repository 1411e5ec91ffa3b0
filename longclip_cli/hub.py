"""Checkpoints on the Hugging Face Hub: which file of a repository to take, and fetching it into the Hub's cache."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from longclip_cli.errors import CheckpointError

DEMO_MODEL = "demo"  # comes with the package
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def looks_like_hub_id(model: str) -> bool:
    """Whether a model reference has the form `owner/name`, and not that of a checkpoint file."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) is not None and not model.endswith(CHECKPOINT_SUFFIXES)


def pick_checkpoint(names: Iterable[str], *, where: str) -> str:
    """The file to load of a folder's or repository's: safetensors first, then one that is named for LongCLIP."""
    candidates = [name for name in names if name.endswith(CHECKPOINT_SUFFIXES)]
    if not candidates:
        raise CheckpointError(f"no checkpoint in {where} (looked for {', '.join(CHECKPOINT_SUFFIXES)})")
    return min(
        candidates,
        key=lambda name: (not name.endswith(".safetensors"), "longclip" not in name.lower(), name),
    )


def download(repo_id: str) -> Path:
    """The checkpoint file of a Hub repository: from the network, or from the cache when there is none.

    Raises `CheckpointError`.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        files = HfApi().model_info(repo_id, timeout=10).siblings or []
        name = pick_checkpoint((file.rfilename for file in files), where=f"the Hub repository {repo_id}")
        return Path(hf_hub_download(repo_id, name))
    except CheckpointError:
        raise
    except HFValidationError as error:
        raise CheckpointError(f"{repo_id} is neither a file or folder here nor a Hub id: {error}") from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise CheckpointError(
            f"{repo_id}: the Hub has no such model, or only for those who are logged in (hf auth login)"
        ) from error
    except Exception as error:  # no network: each release of the Hub's client has its own errors for that
        unreachable = error
    try:
        folder = Path(snapshot_download(repo_id, local_files_only=True))
        return folder / pick_checkpoint((path.name for path in folder.iterdir()), where="the cached copy")
    except (OSError, CheckpointError):
        raise CheckpointError(
            f"cannot download {repo_id} ({unreachable}), and no copy is cached. Three ways out: "
            "--model with a local checkpoint; the same in the environment variable LONGCLIP_MODEL; or "
            f"'hf download {repo_id}' (huggingface-cli download in older releases) on a machine with a network, "
            f"and its cache copied here. To see the tool work without any of that: --model {DEMO_MODEL}"
        ) from unreachable
