"""Pairs to scores: the cosine of their features, on a device."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

from longclip_cli.checkpoint import load_model
from longclip_cli.encoding import Encoder, Item, chunks
from longclip_cli.errors import DeviceError, UsageError
from longclip_cli.images import check_pixels, load_image, row_errors, to_pixels
from longclip_cli.loading import Pair, load_text
from longclip_cli.model import LongCLIP
from longclip_cli.remembering import ImageInput

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BATCHES_IN_CHUNK = 3
ImageSource: TypeAlias = str | PathLike[str] | Image.Image


@dataclass(frozen=True)
class PendingScores:
    """Scores that the device may still be working on."""

    cosines: Tensor  # [N] float32, on the CPU once `ready` has happened
    ready: torch.cuda.Event | None

    def wait(self) -> list[float]:
        """The scores, each `(cosine + 1) / 2` in [0, 1], or NaN where the network gave no number."""
        if self.ready:
            self.ready.synchronize()
        return scores_of(self.cosines)


class LongCLIPScorer:
    """A LongCLIP on a device, that scores how well images and texts fit.

    `batch_size` is the number of images in one forward pass.

    >>> scorer = LongCLIPScorer.from_pretrained("demo", "cpu")
    >>> picture = Image.new("RGB", (64, 64), "white")
    >>> fits, fits_less = scorer.score([picture, picture], ["There is nothing.", "There is a large red circle."])
    >>> 0 <= fits_less <= 1 and 0 <= fits <= 1
    True
    >>> images, texts = scorer.encode_images([picture]), scorer.encode_texts(["There is nothing."])
    >>> images.shape, texts.shape
    (torch.Size([1, 64]), torch.Size([1, 64]))
    >>> bool(abs((images @ texts.T + 1) / 2 - fits) < 1e-6)
    True
    """

    def __init__(self, model: LongCLIP, device: torch.device, batch_size: int | None = None) -> None:
        self.model = model
        self.device = device
        self._encoder = Encoder(model, device, batch_size)

    @classmethod
    def from_pretrained(
        cls,
        model: str | PathLike[str],
        device: str | torch.device | None = None,
        precision: str = "auto",
        *,
        batch_size: int | None = None,
        revision: str | None = None,
    ) -> LongCLIPScorer:
        """The scorer for a checkpoint file, folder, Hub id, short name (`longclip-l`) or `demo`, the built-in model.

        `device` is a PyTorch device; `None` or `auto` is CUDA if there is one, else the CPU. `precision` is `auto`
        (fp16 on a GPU, fp32 on the CPU), `fp32`, `fp16` or `bf16`. `revision` is a branch, tag or commit on the Hub.
        Raises `CheckpointError`, `DeviceError`, and `UsageError` for a device or precision that does not exist.
        """
        on = select_device(str(device or "auto"))
        dtype = select_dtype(precision, on)
        return cls(load_model(os.fspath(model), on, dtype, revision), on, batch_size)

    @property
    def batch_size(self) -> int:
        """The number of images in one forward pass."""
        return self._encoder.batch_size

    @property
    def chunk_rows(self) -> int:
        """How many rows to submit at a time, at most."""
        return self.batch_size * BATCHES_IN_CHUNK

    @property
    def chunks_in_flight(self) -> int:
        """How many submitted chunks to leave to the device before waiting for the oldest."""
        return 1 if self.device.type == "cuda" else 0

    def score(self, images: Sequence[ImageSource], texts: Sequence[str]) -> list[float]:
        """How well each image fits the text in the same place: `(cosine + 1) / 2`, in [0, 1].

        An image is a path or a PIL image. Raises `RowError` for one that can't be read, `ValueError` where the two
        sequences are not of one length.
        """
        for values in (images, texts):
            check_several(values)
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts: each image needs one text")
        return scores_of((self.encode_images(images) * self.encode_texts(texts)).sum(dim=-1))

    def encode_images(self, images: Sequence[ImageSource]) -> Tensor:
        """The features of images (paths or PIL images), `[N, embed_dim]` float32 of length 1, on the CPU.

        The cosine of an image and a text is the product of their features. Raises `RowError`.
        """
        check_several(images)
        keys = [id(image) if isinstance(image, Image.Image) else os.fspath(image) for image in images]
        by_key = dict(zip(keys, images, strict=True))
        with ThreadPoolExecutor() as pool:
            return self._features(
                keys, lambda chunk: self._encoder.encode_images(pool.map(lambda key: self._load(by_key[key]), chunk))
            )

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The features of texts, `[N, embed_dim]` float32 of length 1, on the CPU.

        A text is cut at the network's context length, the end token kept.
        """
        check_several(texts)
        context_length = self.model.sizes.context_length
        return self._features(
            texts, lambda chunk: self._encoder.encode_texts(load_text(text, context_length) for text in chunk)
        )

    def _features(self, keys: Sequence[Item], encode: Callable[[Sequence[Item]], Tensor]) -> Tensor:
        """The features of what each key stands for, of which each distinct one is encoded once."""
        features: dict[Item, Tensor] = {}
        for chunk in chunks(list(dict.fromkeys(keys)), self.chunk_rows):
            features |= zip(chunk, encode(chunk).cpu(), strict=True)
        return torch.stack([features[key] for key in keys]) if keys else torch.empty(0, self.model.sizes.embed_dim)

    def _load(self, image: ImageSource) -> ImageInput:
        size = self.model.sizes.image_size
        if not isinstance(image, Image.Image):
            return ImageInput(load_image(Path(image), size))
        path = Path(getattr(image, "filename", "") or "a PIL image")
        max_pixels = Image.MAX_IMAGE_PIXELS or sys.maxsize
        check_pixels(path, image.size, size, max_pixels)
        with row_errors(path, max_pixels):
            return ImageInput(to_pixels(image, size))

    @torch.inference_mode()
    def submit(self, pairs: Sequence[Pair]) -> PendingScores:
        """Sets the device to work on some pairs; does not wait for it on CUDA."""
        if not pairs:
            return PendingScores(torch.empty(0), None)
        images = self._encoder.encode_images(pair.image for pair in pairs)
        cosines = (images * self._encoder.encode_texts(pair.text for pair in pairs)).sum(dim=-1)
        if self.device.type != "cuda":
            return PendingScores(cosines.cpu(), None)
        cosines = cosines.to("cpu", non_blocking=True)
        ready = torch.cuda.Event()
        ready.record(torch.cuda.current_stream(self.device))
        return PendingScores(cosines, ready)


def check_several(values: object) -> None:
    """Raises `TypeError` for one string or path where several belong: a string is a sequence, too."""
    if isinstance(values, str | PathLike):
        raise TypeError(f"one {type(values).__name__} where a list belongs: [{values!r}]")


def scores_of(cosines: Tensor) -> list[float]:
    """`(cosine + 1) / 2` of each, which rounding does not take out of [0, 1]."""
    return ((cosines + 1) / 2).clamp(0, 1).tolist()


def select_device(name: str) -> torch.device:
    """The device for an option's value; raises `UsageError` for no device's name, `DeviceError` if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise UsageError(f"no such device: {name} (auto, cpu, cuda, cuda:1 or mps)")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"no CUDA device for --device {name}: this PyTorch finds no NVIDIA GPU; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"no device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no MPS device: this PyTorch finds no Apple GPU; use --device cpu")
    return device


def select_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type to compute in: half precision on a GPU and single on the CPU, unless one is named."""
    if precision == "auto":
        precision = "fp32" if device.type == "cpu" else "fp16"
    if precision not in PRECISIONS:
        raise UsageError(f"no such precision: {precision} (there are auto, {', '.join(PRECISIONS)})")
    return PRECISIONS[precision]
