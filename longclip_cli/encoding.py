"""Images and texts to features: batches, the device, and what to do when its memory is too small."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from longclip_cli.errors import DeviceError
from longclip_cli.model import LongCLIP
from longclip_cli.remembering import ImageInput, TextInput
from longclip_cli.tokenizer import END_TOKEN

log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class BatchLimits:
    """How much work to give a device at a time, counted in positions (tokens or patches).

    `image_positions` and `text_positions` are in one forward pass, at most. Another batch of texts costs as much time
    as `worth_a_batch` positions: more padding than that is not spent on making two batches one.
    """

    image_positions: int
    text_positions: int
    worth_a_batch: int


# A CPU is nearly as fast with one photo as with many, small networks need some to hide the cost of the calls. Reading
# the weights from memory once takes as long as computing with them for some twenty positions.
CPU_LIMITS = BatchLimits(image_positions=1024, text_positions=512, worth_a_batch=24)
GPU_LIMITS = BatchLimits(image_positions=64 * 577, text_positions=64 * 248, worth_a_batch=2048)


class Encoder:
    """Runs a network on its device over images and texts, batch by batch, each once.

    `batch_size` is the number of images in one forward pass; it is halved when the device is out of memory.
    """

    def __init__(self, model: LongCLIP, device: torch.device, batch_size: int | None = None) -> None:
        self.model = model
        self.device = device
        self._limits = CPU_LIMITS if device.type == "cpu" else GPU_LIMITS
        self.batch_size = batch_size or max(1, self._limits.image_positions // model.sizes.image_positions)

    @torch.inference_mode()
    def encode_images(self, images: Iterable[ImageInput]) -> Tensor:
        """The features of images, `[N, E]` float32 of length 1, on the device. Raises `DeviceError`."""
        images = list(images)
        while waiting := [image for image in dict.fromkeys(images) if image.features is None]:
            with self._smaller_batches_if_out_of_memory():
                for batch in chunks(waiting, self.batch_size):
                    self._encode_image_batch(batch)
        return torch.stack(cast(list[Tensor], [image.features for image in images]))

    @torch.inference_mode()
    def encode_texts(self, texts: Iterable[TextInput]) -> Tensor:
        """The features of texts, `[N, E]` float32 of length 1, on the device. Raises `DeviceError`."""
        texts = list(texts)
        while waiting := [text for text in dict.fromkeys(texts) if text.features is None]:
            with self._smaller_batches_if_out_of_memory():
                positions = min(self._limits.text_positions, self.batch_size * self.model.sizes.image_positions)
                for batch in length_batches(waiting, positions, self._limits.worth_a_batch):
                    self._encode_text_batch(batch)
        return torch.stack(cast(list[Tensor], [text.features for text in texts]))

    def _encode_image_batch(self, images: Sequence[ImageInput]) -> None:
        pixels = [cast(Tensor, image.pixel_values) for image in images]
        batch = self._host_tensor((len(pixels), *pixels[0].shape), torch.uint8)
        torch.stack(pixels, out=batch)  # [B, 3, n, n]
        features = F.normalize(self.model.encode_image(self._to_device(batch)).float(), dim=-1)
        for image, of_image in zip(images, features, strict=True):
            # A copy, or a single image that is remembered would keep its whole batch in memory.
            image.features, image.pixel_values = of_image.clone(), None

    def _encode_text_batch(self, texts: Sequence[TextInput]) -> None:
        """Texts of one batch, the last of which is the longest."""
        ids = [cast(list[int], text.token_ids) for text in texts]
        batch = self._host_tensor((len(ids), len(ids[-1])), torch.long).fill_(END_TOKEN)  # [B, L]
        for row, token_ids in zip(batch, ids, strict=True):
            row[: len(token_ids)] = torch.tensor(token_ids)
        lengths = self._host_tensor((len(ids),), torch.long).copy_(torch.tensor([len(token_ids) for token_ids in ids]))
        features = self.model.encode_text(self._to_device(batch), self._to_device(lengths))
        for text, of_text in zip(texts, F.normalize(features.float(), dim=-1), strict=True):
            text.features, text.token_ids = of_text.clone(), None

    def _host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor on the host, from which the device can copy while both go on."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")

    @contextmanager
    def _smaller_batches_if_out_of_memory(self) -> Iterator[None]:
        """Lets the caller try again with batches of half the size; what has been encoded stays encoded."""
        try:
            yield
        except RuntimeError as error:
            # Apple's GPUs, and page-locked memory, have no exception of their own for it.
            if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):
                raise
            if self.batch_size == 1:
                raise DeviceError(f"out of memory on {self.device} with a single image: {error}") from error
            self.batch_size //= 2
            log.warning("out of memory on %s: going on with --batch-size %d", self.device, self.batch_size)


def length_batches(texts: Iterable[TextInput], positions: int, worth_a_batch: int) -> Iterator[list[TextInput]]:
    """Texts by length, in runs that padded to their longest hold at most `positions` tokens.

    A run holds at most `worth_a_batch` tokens of padding. A text of more than `positions` tokens is a run of its own.
    """
    batch: list[TextInput] = []
    tokens = 0
    for length, text in sorted(((len(text.token_ids or ()), text) for text in texts), key=itemgetter(0)):
        padded = length * (len(batch) + 1)
        if batch and (padded > positions or padded - tokens - length > worth_a_batch):
            yield batch
            batch, tokens = [], 0
        batch.append(text)
        tokens += length
    yield batch


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
