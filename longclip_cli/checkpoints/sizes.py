"""The sizes of a checkpoint's network: from its tensors' shapes, and from its `config.json` what shapes can't say.

A `config.json` is believed about the activation and the number of heads alone: published ones are wrong about the
image size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isqrt
from pathlib import Path
from typing import Any, cast, get_args

from safetensors import SafetensorError, safe_open
from torch import Tensor

from longclip_cli.checkpoints.bounded import parse_json, read_json, shown
from longclip_cli.checkpoints.state_dict import listing
from longclip_cli.errors import CheckpointError
from longclip_cli.models.clip import LongCLIPSizes
from longclip_cli.models.tokenizer import END_TOKEN
from longclip_cli.models.transformer import HEAD_DIM, Activation, TowerSizes

CONFIG_FILE = "config.json"
CONFIG_METADATA = "config"  # where `longclip-convert` leaves the same in a safetensors file
DIMENSIONS = {
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.proj": 2,
    "token_embedding.weight": 2,
    "positional_embedding": 2,
}
# Many times those of any published CLIP. Larger ones would take memory that the checkpoint's own size does not bound.
MOST_PIXELS_A_SIDE = 4096
MOST_BLOCKS = 256
FEWEST_TOKENS, MOST_TOKENS = 3, 16_384  # a start token, one of the text, an end token


def read_config(checkpoint: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What is said about a checkpoint's towers, under `text_config` and `vision_config` as in Transformers.

    It is looked for in the file itself, if that is safetensors, and in a `config.json` in its folder, which is left
    alone where the tensors show a LongCLIP as its authors publish it; empty if it is in neither. Raises
    `CheckpointError` for a file that is no JSON, and for a file of OpenCLIP's, which would have to say more.
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
            "OpenCLIP's own files don't say which activation they were trained with; use the model's Transformers "
            f"export (a model.safetensors with its {CONFIG_FILE})"
        )
    return config if isinstance(config, dict) else {}


def sizes_from_shapes(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> LongCLIPSizes:
    """The network's sizes, from tensors under the original's names; raises `CheckpointError`."""
    missing = [name for name, count in DIMENSIONS.items() if name not in tensors or tensors[name].dim() != count]
    if missing:
        found = f"it holds {listing(map(shown, tensors))}" if tensors else "it is empty"
        raise CheckpointError(f"not a LongCLIP or CLIP checkpoint: missing {listing(missing)}; {found}")
    vocab_size = tensors["token_embedding.weight"].shape[0]
    if vocab_size <= END_TOKEN:
        raise CheckpointError(f"token_embedding.weight has {vocab_size} tokens, fewer than CLIP's {END_TOKEN + 1}")
    table = tensors["positional_embedding"]
    if tensors.get("positional_embedding_res", table).shape != table.shape:
        raise CheckpointError("positional_embedding and positional_embedding_res are of different shapes")
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
    """Pixels a side of the square image whose patches, and one class token, have these positions."""
    patches_a_side = isqrt(max(0, positions - 1))
    pixels = patch_size * patches_a_side
    if positions != patches_a_side**2 + 1:
        raise CheckpointError(f"visual.positional_embedding has {positions} positions, not one more than a square")
    if not 0 < pixels <= MOST_PIXELS_A_SIDE:
        raise CheckpointError(
            f"visual.conv1.weight and visual.positional_embedding are of an image of {pixels} pixels a side, "
            f"not 1 to {MOST_PIXELS_A_SIDE}"
        )
    return pixels


def tower_sizes(names: Iterable[str], prefix: str, width: int, config: Any) -> TowerSizes:
    """A tower's sizes: its blocks are counted by their names."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    if not numbers:
        raise CheckpointError(f"not a LongCLIP or CLIP checkpoint: missing {prefix}0…")
    if len(numbers) > MOST_BLOCKS:
        raise CheckpointError(f"it has {len(numbers)} blocks {prefix}…, more than {MOST_BLOCKS}")
    sizes = {"hidden_size": width, "num_hidden_layers": len(numbers)}
    if not isinstance(config, dict) or any(config.get(name, size) != size for name, size in sizes.items()):
        config = {}  # that of another network
    heads = config.get("num_attention_heads", width / HEAD_DIM)
    if isinstance(heads, bool) or heads not in range(1, width + 1) or width % heads:
        raise CheckpointError(
            f"the blocks {prefix}… have {width} channels, which {shown(heads)} attention heads can't share"
        )
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in get_args(Activation):
        raise CheckpointError(
            f"its {CONFIG_FILE} asks for the activation {shown(activation)}; {get_args(Activation)} are known"
        )
    return TowerSizes(width, len(numbers), width // int(heads), cast(Activation, activation))
