"""A model reference to the path of its checkpoint file."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from longclip_cli.checkpoints.hub import download
from longclip_cli.checkpoints.messages import shown
from longclip_cli.checkpoints.names import DEMO_MODEL, SHORT_NAMES, looks_like_hub_id, pick_checkpoint
from longclip_cli.errors import CheckpointError


def find_checkpoint(model: str, revision: str | None = None) -> Path:
    """Return the checkpoint file of a model reference. A model on the Hub is downloaded unless it is cached.

    `model` is a file, a folder, a Hub id, a short name for one, or `demo`. `revision` is a branch, tag or commit on
    the Hub. For a checkpoint in several files the result is their index. Raises `CheckpointError`.
    """
    path = Path(os.path.expanduser(model))  # noqa: PTH111  (Path's own raises for an unknown user)
    is_local = model == DEMO_MODEL or os.path.lexists(path)
    if revision and is_local:
        raise CheckpointError(f"--revision {revision} is for models on the Hub, and {model} is local; omit --revision")
    if model == DEMO_MODEL:
        return Path(str(files("longclip_cli") / "data" / "demo.safetensors"))
    if is_local and path.is_dir():
        try:
            return path / pick_checkpoint((entry.name for entry in path.iterdir()), where=model)
        except OSError as error:
            raise CheckpointError(f"{model}: the folder cannot be read ({error.strerror})") from error
    if is_local:
        return path
    if model in SHORT_NAMES or looks_like_hub_id(model):
        return download(SHORT_NAMES.get(model, model), revision)
    raise CheckpointError(
        f"no such checkpoint: {shown(model)}; use a file, a folder, a Hub id (owner/name), "
        f"{', '.join(SHORT_NAMES)}, or {DEMO_MODEL}"
    )
