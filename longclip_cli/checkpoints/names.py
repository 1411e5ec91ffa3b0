"""Names: those that stand for a checkpoint, and those of its files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from longclip_cli.errors import CheckpointError

DEMO_MODEL = "demo"  # part of the package
SHORT_NAMES = {
    "longclip-b": "BeichenZhang/LongCLIP-B",
    "longclip-l": "BeichenZhang/LongCLIP-L",
    "longclip-l-336": "BeichenZhang/LongCLIP-L-336px",
}
CONFIG_FILE = "config.json"
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
INDEX_SUFFIX = ".index.json"  # model.safetensors.index.json lists the files of a checkpoint in several files
PART_OF_SEVERAL = re.compile(r"-\d+-of-\d+\.\w+$")


def looks_like_hub_id(model: str) -> bool:
    """Return whether a model reference has the form `owner/name` without a checkpoint's suffix."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) is not None and not model.endswith(CHECKPOINT_SUFFIXES)


def pick_checkpoint(names: Iterable[str], *, where: str) -> str:
    """Return the file to load among those of a folder or repository, which messages call `where`.

    For a checkpoint in several files it is their index. Raises `CheckpointError` if there is none.
    """
    candidates = [
        name
        for name in names
        if name.removesuffix(INDEX_SUFFIX).endswith(CHECKPOINT_SUFFIXES) and not PART_OF_SEVERAL.search(name)
    ]
    if not candidates:
        raise CheckpointError(f"no checkpoint in {where} (looked for {', '.join(CHECKPOINT_SUFFIXES)})")
    return min(candidates, key=order_of_choice)


def order_of_choice(name: str) -> tuple[bool, bool, bool, int, bool, int, str]:
    """Return a key that sorts checkpoint files by preference, best first.

    The last four parts tell a model from what training saves with it, such as `optimizer.pt` or older steps.
    """
    is_safe = ".safetensors" in name
    is_index = name.endswith(INDEX_SUFFIX)
    is_longclip = "longclip" in name.lower()
    folders = name.count("/")
    has_usual_name = Path(name).name.partition(".")[0] in ("model", "pytorch_model")  # as Transformers saves it
    return not is_safe, is_index, not is_longclip, folders, not has_usual_name, len(name), name


def needed_files(checkpoint: str, names: Iterable[str]) -> list[str]:
    """Return those of a repository's files that a checkpoint needs: itself, its parts, and its config."""
    # The parts of model.safetensors.index.json are model-00001-of-00002.safetensors and so on.
    stem, _, suffix = checkpoint.removesuffix(INDEX_SUFFIX).rpartition(".")
    is_part = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{suffix}")
    config = f"{checkpoint.rpartition('/')[0]}/{CONFIG_FILE}".lstrip("/")
    return [
        name
        for name in names
        if name in (checkpoint, config) or (checkpoint.endswith(INDEX_SUFFIX) and is_part.fullmatch(name))
    ]
