"""The sizes of a checkpoint's network, from the shapes of its tensors and from its `config.json`.

The config supplies only what shapes do not determine: the activation and the number of attention heads. Published
configs are wrong about the image size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isqrt
from pathlib import Path
from typing import Any, cast, get_args

from safetensors import SafetensorError, safe_open
from torch import Tensor

from longclip_cli.checkpoints.bounded import parse_json, read_json
from longclip_cli.checkpoints.messages import listing, shown
from longclip_cli.checkpoints.names import CONFIG_FILE
from longclip_cli.errors import CheckpointError
from longclip_cli.models.clip import LongCLIPSizes
from longclip_cli.models.tokenizer import VOCAB_SIZE
from longclip_cli.models.transformer import HEAD_DIM, Activation, TowerSizes

CONFIG_METADATA = "config"  # the same in a safetensors file, under this name, from `longclip-convert`
DIMENSIONS = {
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.proj": 2,
    "token_embedding.weight": 2,
    "positional_embedding": 2,
}
# Many times the sizes of any published CLIP. The checkpoint's own size does not limit the memory of larger ones.
MOST_PIXELS_A_SIDE = 4096
MOST_BLOCKS = 256
FEWEST_TOKENS, MOST_TOKENS = 3, 16_384  # a start token, one of the text, an end token


def read_config(checkpoint: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a checkpoint's config, with `text_config` and `vision_config` as in Transformers. Empty if there is none.

    It is read from the metadata of a safetensors file, else from the `config.json` in the same folder. The latter is
    ignored if the tensors are those of an original LongCLIP. Raises `CheckpointError` if the config is not JSON, and
    for a file of OpenCLIP without one.
    """
    text: str | None = None
    beside = checkpoint.parent / CONFIG_FILE
    if checkpoint.suffix == ".safetensors":
        try:
            with safe_open(checkpoint, "pt") as file:
                text = (file.metadata() or {}).get(CONFIG_METADATA)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"not a readable safetensors file: {error}") from error
    if text is not None:
        config = parse_json(text, f"its {CONFIG_FILE}")
    else:
        is_needed = "positional_embedding_res" not in tensors and beside.exists()
        config = read_json(beside, f"its {CONFIG_FILE}") if is_needed else {}
    if not config and checkpoint.name.startswith("open_clip_"):
        raise CheckpointError(
            "OpenCLIP's own files do not name the activation that the model was trained with; use the model's export "
            f"for Transformers (model.safetensors with {CONFIG_FILE})"
        )
    return config if isinstance(config, dict) else {}


def sizes_from_shapes(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> LongCLIPSizes:
    """Return the network's sizes, from tensors under the original's names. Raise `CheckpointError`."""
    missing = [name for name, count in DIMENSIONS.items() if name not in tensors or tensors[name].dim() != count]
    if missing:
        found = f"found {listing(map(shown, tensors))}" if tensors else "it is empty"
        raise CheckpointError(f"not a LongCLIP or CLIP checkpoint: missing {listing(missing)}; {found}")
    vocab_size = tensors["token_embedding.weight"].shape[0]
    if vocab_size < VOCAB_SIZE:
        raise CheckpointError(f"token_embedding.weight has {vocab_size} tokens, fewer than CLIP's {VOCAB_SIZE}")
    table = tensors["positional_embedding"]
    if tensors.get("positional_embedding_res", table).shape != table.shape:
        raise CheckpointError("positional_embedding and positional_embedding_res have different shapes")
    if not FEWEST_TOKENS <= len(table) <= MOST_TOKENS:
        raise CheckpointError(f"positional_embedding has {len(table)} positions, not {FEWEST_TOKENS} to {MOST_TOKENS}")
    embed_dim = tensors["visual.proj"].shape[1]
    if not embed_dim:
        raise CheckpointError("visual.proj has no channels")
    width, _, _, patch_size = tensors["visual.conv1.weight"].shape
    return LongCLIPSizes(
        embed_dim=embed_dim,
        image_size=image_size(patch_size, positions=len(tensors["visual.positional_embedding"])),
        patch_size=patch_size,
        vision=tower_sizes(tensors, "visual.transformer.resblocks.", width, config.get("vision_config")),
        context_length=table.shape[0],
        vocab_size=vocab_size,
        text=tower_sizes(tensors, "transformer.resblocks.", table.shape[1], config.get("text_config")),
    )


def image_size(patch_size: int, *, positions: int) -> int:
    """Return the side in pixels of a square image that has so many `positions`: its patches and one class token."""
    patches_a_side = isqrt(max(0, positions - 1))
    pixels = patch_size * patches_a_side
    if positions != patches_a_side**2 + 1:
        raise CheckpointError(f"visual.positional_embedding has {positions} positions, not one more than a square")
    if not 0 < pixels <= MOST_PIXELS_A_SIDE:
        raise CheckpointError(
            "visual.conv1.weight and visual.positional_embedding belong to an image with sides of "
            f"{pixels} pixels, not 1 to {MOST_PIXELS_A_SIDE}"
        )
    return pixels


def tower_sizes(names: Iterable[str], prefix: str, width: int, config: Any) -> TowerSizes:
    """Return a tower's sizes. Its blocks are counted by their names. Raise `CheckpointError`."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    if not numbers:
        raise CheckpointError(f"not a LongCLIP or CLIP checkpoint: missing {prefix}0…")
    if len(numbers) > MOST_BLOCKS:
        raise CheckpointError(f"too many blocks {prefix}… ({len(numbers)}, more than {MOST_BLOCKS})")
    sizes = {"hidden_size": width, "num_hidden_layers": len(numbers)}
    if not isinstance(config, dict) or any(config.get(name, size) != size for name, size in sizes.items()):
        config = {}  # it belongs to another network
    heads = config.get("num_attention_heads", width / HEAD_DIM)
    if isinstance(heads, bool) or heads not in range(1, width + 1) or width % heads:
        raise CheckpointError(
            f"the blocks {prefix}… have {width} channels, which cannot be divided among {shown(heads)} attention heads"
        )
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in get_args(Activation):
        raise CheckpointError(
            f"{CONFIG_FILE}: unknown activation ({shown(activation)}); known are {', '.join(get_args(Activation))}"
        )
    return TowerSizes(width, len(numbers), width // int(heads), cast(Activation, activation))
