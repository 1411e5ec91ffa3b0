"""Pairs to scores: batches, the device, and the cosine."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from longclip_cli.checkpoint import load_model
from longclip_cli.errors import DeviceError, UsageError
from longclip_cli.loading import Pair
from longclip_cli.model import LongCLIP
from longclip_cli.tokenizer import END_TOKEN

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Positions (tokens or patches) in one forward pass, unless a batch size is given. A CPU is as fast with
# one photo as with many; small networks need a few to hide the cost of the calls.
CPU_POSITIONS = 512
GPU_POSITIONS = 64 * 577  # 64 images of ViT-L/14@336px
BATCHES_IN_CHUNK = 8


@dataclass(frozen=True)
class PendingScores:
    """Scores that the device may still be working on."""

    cosines: Tensor  # [N] float32, on the CPU once `ready` has happened
    ready: torch.cuda.Event | None

    def wait(self) -> list[float]:
        """The scores, each `(cosine + 1) / 2` in [0, 1], or NaN where the network gave no number."""
        if self.ready:
            self.ready.synchronize()
        return ((self.cosines + 1) / 2).clamp(0, 1).tolist()


class LongCLIPScorer:
    """A LongCLIP on a device, that scores how well images and texts fit.

    `batch_size` is the number of images in one forward pass; texts are batched to as many positions.
    """

    def __init__(self, model: LongCLIP, device: torch.device, batch_size: int | None = None) -> None:
        self.model = model
        self.device = device
        positions = CPU_POSITIONS if device.type == "cpu" else GPU_POSITIONS
        self.batch_size = batch_size or max(1, positions // model.sizes.image_positions)

    @classmethod
    def from_pretrained(
        cls, model: str, device: str = "auto", precision: str = "auto", batch_size: int | None = None
    ) -> LongCLIPScorer:
        """The scorer for a checkpoint file, folder, Hub id or `demo`, the built-in model.

        `device` is `auto` (CUDA if there is one, else the CPU) or a PyTorch device; `precision` is `auto`
        (fp16 on a GPU, fp32 on the CPU), `fp32`, `fp16` or `bf16`. Raises `CheckpointError`, `DeviceError`.
        """
        on = select_device(device)
        dtype = select_dtype(precision, on)
        if dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # single precision is to be that in the convolution, too
        return cls(load_model(model, on, dtype), on, batch_size)

    @property
    def positions(self) -> int:
        """How many positions, padding included, a batch of texts may hold: as many as a batch of images."""
        return self.batch_size * self.model.sizes.image_positions

    @property
    def chunk_rows(self) -> int:
        """How many rows to submit at a time."""
        return self.batch_size * BATCHES_IN_CHUNK

    @property
    def chunks_in_flight(self) -> int:
        """How many submitted chunks to leave to the device before waiting for the oldest."""
        return 1 if self.device.type == "cuda" else 0

    @torch.inference_mode()
    def submit(self, pairs: Sequence[Pair]) -> PendingScores:
        """Sets the device to work on some pairs; does not wait for it on CUDA."""
        if not pairs:
            return PendingScores(torch.empty(0), None)
        cosines = self._cosines(pairs)
        if self.device.type != "cuda":
            return PendingScores(cosines.cpu(), None)
        cosines = cosines.to("cpu", non_blocking=True)
        ready = torch.cuda.Event()
        ready.record(torch.cuda.current_stream(self.device))
        return PendingScores(cosines, ready)

    def _cosines(self, pairs: Sequence[Pair]) -> Tensor:
        """`[N]` float32, on the device. Out of its memory, the batches are halved for the rest of the run."""
        while True:
            try:
                images = torch.cat([self._encode_images(batch) for batch in batches(pairs, self.batch_size)])
                return F.cosine_similarity(images, self._encode_texts([pair.text.ids for pair in pairs]))
            except torch.OutOfMemoryError as error:
                if self.batch_size == 1:
                    raise DeviceError(f"out of memory on {self.device} with a single image: {error}") from error
            # Outside the handler, where nothing refers to the tensors of the failed batch any more.
            self.batch_size //= 2
            torch.cuda.empty_cache()
            log.warning("out of memory on %s: going on with --batch-size %d", self.device, self.batch_size)

    def _encode_images(self, pairs: Sequence[Pair]) -> Tensor:
        pixel_values = torch.stack([pair.pixel_values for pair in pairs])  # [B, 3, n, n]
        return self.model.encode_image(self._to_device(pixel_values)).float()

    def _encode_texts(self, texts: Sequence[list[int]]) -> Tensor:
        """`[N, E]` float32. Texts are encoded by length, so that little of a batch is padding."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        features = []
        for batch in length_batches([texts[i] for i in order], self.positions):
            lengths = torch.tensor([len(ids) for ids in batch])
            longest = len(batch[-1])
            token_ids = torch.tensor([ids + [END_TOKEN] * (longest - len(ids)) for ids in batch])  # [B, L]
            features.append(self.model.encode_text(self._to_device(token_ids), self._to_device(lengths)).float())
        back = torch.empty(len(texts), dtype=torch.long)
        back[order] = torch.arange(len(texts))
        return torch.cat(features)[self._to_device(back)]

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def batches(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    """The pairs in runs of `size`, the last one shorter."""
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


def length_batches(texts: Sequence[list[int]], positions: int) -> Iterator[list[list[int]]]:
    """Texts, sorted by length, in runs that padded to their longest hold at most `positions` tokens."""
    batch: list[list[int]] = []
    for ids in texts:
        if batch and len(ids) * (len(batch) + 1) > positions:
            yield batch
            batch = []
        batch.append(ids)
    yield batch


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
    return PRECISIONS[precision]
