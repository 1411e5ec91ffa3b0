"""What a run is asked to do. Every default of the command stands here, once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from longclip_cli.errors import UsageError
from longclip_cli.formats.jsonl import error_key
from longclip_cli.storage.side_files import side_files
from longclip_cli.storage.source import STANDARD_STREAM

Precision = Literal["auto", "fp32", "fp16", "bf16"]
DEFAULT_MODEL = "BeichenZhang/LongCLIP-L-336px"


def available_cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ScoreOptions:
    """The options of `longclip-score`; `None` leaves a choice to the device.

    `batch_size` counts images, `prefetch` and `max_errors` rows. Raises `UsageError` for names that are empty and
    keys that would overwrite each other.
    """

    input: str = STANDARD_STREAM
    output: str = STANDARD_STREAM
    model: str = DEFAULT_MODEL
    revision: str | None = None
    image_key: str = "image_path"
    text_key: str = "text"
    output_key: str = "clip_score"
    image_root: Path = Path()
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    workers: int = field(default_factory=available_cores)
    prefetch: int | None = None
    max_errors: int | None = None
    max_pixels: int = 100_000_000
    fast_decode: bool = False
    fast_resize: bool = False
    summary: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("input", "output", "model", "image_key", "text_key", "output_key"):
            if not getattr(self, name):
                raise UsageError(f"an empty string as {name.replace('_', ' ')}: is a variable not set?")
        if self.resume and not side_files(self.output):
            raise UsageError("--resume needs an output file to go on with: give one with -o")
        for key in (self.image_key, self.text_key):
            if key in (self.output_key, error_key(self.output_key)):
                raise UsageError(
                    f"--output-key {self.output_key} would overwrite the field '{key}' that rows are read from"
                )
