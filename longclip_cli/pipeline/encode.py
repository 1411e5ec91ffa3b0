"""Images and texts to features: batches, the device, and what to do when its memory is too small."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from threading import Lock
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from longclip_cli.models.clip import LongCLIP
from longclip_cli.models.device import is_out_of_memory, out_of_memory
from longclip_cli.pipeline.cache import ImageInput, TextInput

log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class BatchLimits:
    """How much work to give a device at a time, counted in positions (tokens or patches).

    `image_positions` and `text_positions` are in one forward pass, at most. Within it, texts padded to one length are
    a group; a group costs as much time as `worth_a_group` positions, and no more padding is spent on saving one.
    """

    image_positions: int
    text_positions: int
    worth_a_group: int


# Matrix products with few rows are slow, most of all in bfloat16: a photo of 577 positions takes 6 % longer alone than
# beside another, more of them gain nothing. A group of texts costs one more attention in each block.
CPU_LIMITS = BatchLimits(image_positions=1400, text_positions=2048, worth_a_group=2)
GPU_LIMITS = BatchLimits(image_positions=64 * 577, text_positions=64 * 248, worth_a_group=2048)


class Encoder:
    """Runs a network on its device over images and texts, batch by batch, each once.

    `batch_size` is the number of images in one forward pass; it is halved when the device is out of memory. Threads
    may share an encoder, but no images or texts that are not encoded yet.
    """

    def __init__(self, model: LongCLIP, device: torch.device, batch_size: int | None = None) -> None:
        self.model = model
        self.device = device
        self._limits = CPU_LIMITS if device.type == "cpu" else GPU_LIMITS
        self.batch_size = batch_size or max(1, self._limits.image_positions // model.sizes.image_positions)
        self._lock = Lock()

    @torch.inference_mode()
    def encode_images(self, images: Iterable[ImageInput]) -> Tensor:
        """The features of images, `[N, E]` float32 of length 1, on the device. Raises `DeviceError`."""
        images = list(images)

        def encode(batch_size: int) -> Tensor:
            waiting = [image for image in dict.fromkeys(images) if image.features is None]
            for batch in chunks(waiting, batch_size):
                self._encode_image_batch(batch)
            return torch.stack(cast(list[Tensor], [image.features for image in images]))

        return self._in_memory(encode)

    @torch.inference_mode()
    def encode_texts(self, texts: Iterable[TextInput]) -> Tensor:
        """The features of texts, `[N, E]` float32 of length 1, on the device. Raises `DeviceError`."""
        texts = list(texts)

        def encode(batch_size: int) -> Tensor:
            waiting = [text for text in dict.fromkeys(texts) if text.features is None]
            positions = min(self._limits.text_positions, batch_size * self.model.sizes.image_positions)
            for batch in text_batches(waiting, positions, self._limits.worth_a_group):
                self._encode_text_batch(batch)
            return torch.stack(cast(list[Tensor], [text.features for text in texts]))

        return self._in_memory(encode)

    def _encode_image_batch(self, images: Sequence[ImageInput]) -> None:
        pixels = [cast(Tensor, image.pixel_values) for image in images]
        batch = self._host_tensor((len(pixels), *pixels[0].shape), torch.uint8)
        torch.stack(pixels, out=batch)  # [B, 3, n, n]
        features = F.normalize(self.model.encode_image(self._to_device(batch)).float(), dim=-1)
        for image, of_image in zip(images, features, strict=True):
            # A copy, or a single image that is remembered would keep its whole batch in memory.
            image.features, image.pixel_values = of_image.clone(), None

    def _encode_text_batch(self, groups: Sequence[Sequence[TextInput]]) -> None:
        texts = [text for group in groups for text in group]
        lengths = self._host_tensor((len(texts),), torch.long)
        lengths.copy_(torch.tensor([len(token_ids_of(text)) for text in texts]))
        token_ids = [self._to_device(self._padded(group)) for group in groups]
        features = F.normalize(self.model.encode_text(token_ids, self._to_device(lengths)).float(), dim=-1)
        for text, of_text in zip(texts, features, strict=True):
            text.features, text.token_ids = of_text.clone(), None

    def _padded(self, group: Sequence[TextInput]) -> Tensor:
        """The token ids of texts, the last of which is the longest: `[B, L]`."""
        padded = self._host_tensor((len(group), len(token_ids_of(group[-1]))), torch.long)
        padded.fill_(self.model.padding_token)
        for row, text in zip(padded, group, strict=True):
            row[: len(token_ids_of(text))] = torch.tensor(token_ids_of(text))
        return padded

    def _host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor on the host, from which the device can copy while both go on."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")

    def _in_memory(self, encode: Callable[[int], Tensor]) -> Tensor:
        """Return what `encode` gives with the current batch size, or with the largest one that fits into memory.

        What a failed attempt has encoded stays encoded. Raises `DeviceError`.
        """
        while True:
            batch_size = self.batch_size
            try:
                return encode(batch_size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if batch_size == 1:
                    raise out_of_memory(self.device, "a single image or text", error) from error
            self._halve(batch_size)  # only here, since the error keeps in memory what did not fit

    def _halve(self, failed: int) -> None:
        """Halve the batch size that failed, unless another thread that shares this encoder has done so."""
        with self._lock:
            if self.batch_size == failed:
                self.batch_size //= 2
                log.warning("out of memory on %s: going on with --batch-size %d", self.device, self.batch_size)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # PyTorch's own, which is of no use to cuBLAS


def text_batches(texts: Iterable[TextInput], positions: int, worth_a_group: int) -> Iterator[list[list[TextInput]]]:
    """Groups of texts, shortest first, in batches of at most `positions` tokens, padding included.

    A text of more than `positions` tokens is a batch of its own.
    """
    batch: list[list[TextInput]] = []
    room = positions
    for group in length_groups(texts, positions, worth_a_group):
        padded = len(group) * len(token_ids_of(group[-1]))
        if batch and padded > room:
            yield batch
            batch, room = [], positions
        batch.append(group)
        room -= padded
    if batch:
        yield batch


def length_groups(texts: Iterable[TextInput], positions: int, worth_a_group: int) -> Iterator[list[TextInput]]:
    """Texts by length, in groups that padded to their longest hold at most `positions` tokens.

    A group holds at most `worth_a_group` tokens of padding. A text of more than `positions` tokens is one of its own.
    """
    group: list[TextInput] = []
    tokens = 0
    for length, text in sorted(((len(token_ids_of(text)), text) for text in texts), key=itemgetter(0)):
        padded = length * (len(group) + 1)
        if group and (padded > positions or padded - tokens - length > worth_a_group):
            yield group
            group, tokens = [], 0
        group.append(text)
        tokens += length
    if group:
        yield group


def token_ids_of(text: TextInput) -> list[int]:
    """The token ids of a text that has not been encoded yet."""
    return cast(list[int], text.token_ids)


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
