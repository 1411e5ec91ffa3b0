"""Images and texts to features and scores on a device, and what to do when its memory is too small."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from longclip_cli.errors import Reason, RowError
from longclip_cli.models.clip import LongCLIP, scores_from_cosines
from longclip_cli.models.device import is_out_of_memory, out_of_memory
from longclip_cli.pipeline.batches import CPU_LIMITS, GPU_LIMITS, TextGroup, chunks, text_batches
from longclip_cli.pipeline.cache import EncoderInput, ImageInput, TextInput
from longclip_cli.pipeline.load import Pair
from longclip_cli.rows import Score

log = logging.getLogger(__name__)

BATCHES_IN_CHUNK = 3
NOT_A_NUMBER = RowError(Reason.NOT_A_NUMBER)

Content = TypeVar("Content")


@dataclass(frozen=True)
class PendingScores:
    """Scores that the device may still be working on."""

    cosines: Tensor  # [N] float32, on the CPU once `ready` has happened
    ready: torch.cuda.Event | None

    def wait(self) -> list[Score]:
        """Return the scores, each `(cosine + 1) / 2` in [0, 1], or an error where the network gave no number."""
        if self.ready:
            self.ready.synchronize()
        return [score if isfinite(score) else NOT_A_NUMBER for score in scores_from_cosines(self.cosines).tolist()]


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

    @property
    def chunk_rows(self) -> int:
        """How many rows to submit at a time, at most."""
        return self.batch_size * BATCHES_IN_CHUNK

    @property
    def chunks_in_flight(self) -> int:
        """How many submitted chunks to leave to the device before waiting for the oldest."""
        return 1 if self.device.type == "cuda" else 0

    @torch.inference_mode()
    def submit(self, pairs: Sequence[Pair]) -> PendingScores:
        """Start scoring some pairs, without waiting for it on CUDA. Raises `DeviceError`."""
        if not pairs:
            return PendingScores(torch.empty(0), None)
        images = self.encode_images(pair.image for pair in pairs)
        cosines = (images * self.encode_texts(pair.text for pair in pairs)).sum(dim=-1)
        if self.device.type != "cuda":
            return PendingScores(cosines.cpu(), None)
        cosines = cosines.to("cpu", non_blocking=True)
        ready = torch.cuda.Event()
        ready.record(torch.cuda.current_stream(self.device))
        return PendingScores(cosines, ready)

    @torch.inference_mode()
    def encode_images(self, images: Iterable[ImageInput]) -> Tensor:
        """Return the features of images, `[N, E]` float32 of length 1, on the device. Raises `DeviceError`."""
        images = list(images)

        def encode(batch_size: int) -> Tensor:
            for batch in chunks(waiting(images), batch_size):
                self._encode_image_batch(batch)
            return stacked(images)

        return self._in_memory(encode)

    @torch.inference_mode()
    def encode_texts(self, texts: Iterable[TextInput]) -> Tensor:
        """Return the features of texts, `[N, E]` float32 of length 1, on the device. Raises `DeviceError`."""
        texts = list(texts)

        def encode(batch_size: int) -> Tensor:
            positions = min(self._limits.text_positions, batch_size * self.model.sizes.image_positions)
            for batch in text_batches(waiting(texts), positions, self._limits.worth_a_group):
                self._encode_text_batch(batch)
            return stacked(texts)

        return self._in_memory(encode)

    def _encode_image_batch(self, images: Sequence[tuple[EncoderInput[Tensor], Tensor]]) -> None:
        pixel_values = self._host_tensor((len(images), *images[0][1].shape), torch.uint8)  # [B, 3, n, n]
        torch.stack([content for _, content in images], out=pixel_values)
        features = F.normalize(self.model.encode_image(self._to_device(pixel_values)).float(), dim=-1)
        for (image, _), of_image in zip(images, features, strict=True):
            image.settle(of_image)

    def _encode_text_batch(self, groups: Sequence[TextGroup]) -> None:
        texts = [text for group in groups for text in group]
        lengths = self._host_tensor((len(texts),), torch.long)
        lengths.copy_(torch.tensor([len(token_ids) for _, token_ids in texts]))
        padded = [self._to_device(self._padded(group)) for group in groups]
        features = F.normalize(self.model.encode_text(padded, self._to_device(lengths)).float(), dim=-1)
        for (text, _), of_text in zip(texts, features, strict=True):
            text.settle(of_text)

    def _padded(self, group: TextGroup) -> Tensor:
        """Return the token ids of texts, the last of which is the longest: `[B, L]`."""
        longest = len(group[-1][1])
        padded = self._host_tensor((len(group), longest), torch.long).fill_(self.model.padding_token)
        for row, (_, token_ids) in zip(padded, group, strict=True):
            row[: len(token_ids)] = torch.tensor(token_ids)
        return padded

    def _host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor on the host, from which the device can copy while both go on."""
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


def waiting(inputs: Iterable[EncoderInput[Content]]) -> list[tuple[EncoderInput[Content], Content]]:
    """Return those inputs that are not encoded yet, each once, with their content."""
    return [(item, item.content) for item in dict.fromkeys(inputs) if item.content is not None]


def stacked(inputs: Sequence[EncoderInput[Content]]) -> Tensor:
    """Return the features of inputs that are encoded, `[N, E]`."""
    return torch.stack([item.features for item in inputs if item.features is not None])
