"""The public Python API: a model on a device that scores images and texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from os import PathLike
from typing import Literal, get_args, overload

import torch
from torch import Tensor

from longclip_cli.checkpoints.load import load_model
from longclip_cli.errors import Reason, RowError
from longclip_cli.models.clip import LongCLIP
from longclip_cli.models.device import select_device, select_dtype
from longclip_cli.models.tokenizer import byte_pair_encoder
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.encode import NOT_A_NUMBER, Encoder, PendingScores
from longclip_cli.python_inputs import (
    Errors,
    ImageSource,
    check_several,
    features_of,
    load_image_source,
    load_text_source,
)


class LongCLIPScorer:
    """A LongCLIP on a device, that scores how well images and texts fit.

    `batch_size` is the number of images in one forward pass. Images of more than `max_pixels` are errors; they are not
    decoded. Pillow's own limit, `Image.MAX_IMAGE_PIXELS`, is left as it is and applies as well.

    After a process has scored, scoring in a child that it forks hangs, since the threads of PyTorch are not copied.
    Use `multiprocessing.get_context("spawn")`, or create the scorer in the children only.

    >>> scorer = LongCLIPScorer.from_pretrained("demo", "cpu")
    >>> from PIL import Image
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

    def __init__(
        self,
        model: LongCLIP,
        device: torch.device,
        batch_size: int | None = None,
        *,
        max_pixels: int = ScoringOptions.max_pixels,
    ) -> None:
        self.model = model
        self.device = device
        self.max_pixels = max_pixels
        self.encoder = Encoder(model, device, batch_size)

    @classmethod
    def from_pretrained(
        cls,
        model: str | PathLike[str],
        device: str | torch.device | None = None,
        precision: str = "auto",
        *,
        batch_size: int | None = None,
        revision: str | None = None,
        max_pixels: int = ScoringOptions.max_pixels,
    ) -> LongCLIPScorer:
        """Return the scorer for a checkpoint file, folder, Hub id, short name (`longclip-l`) or the built-in `demo`.

        `device` is a PyTorch device; `None` or `auto` is CUDA if there is one, else the CPU. `precision` is `auto`
        (fp16 on a GPU, fp32 on the CPU), `fp32`, `fp16` or `bf16`. `revision` is a branch, tag or commit on the Hub.
        `batch_size` and `max_pixels` are as in the class.
        Raises `CheckpointError`, `DeviceError`, and `UsageError` for a device or precision that does not exist.
        """
        on = select_device(str(device or "auto"))
        dtype = select_dtype(precision, on)
        return cls(load_model(os.fspath(model), on, dtype, revision), on, batch_size, max_pixels=max_pixels)

    @property
    def batch_size(self) -> int:
        """The number of images in one forward pass."""
        return self.encoder.batch_size

    @overload
    def score(
        self, images: Sequence[ImageSource], texts: Sequence[str], *, errors: Literal["raise"] = "raise"
    ) -> list[float]: ...

    @overload
    def score(
        self, images: Sequence[ImageSource], texts: Sequence[str], *, errors: Literal["return"]
    ) -> list[float | RowError]: ...

    def score(
        self, images: Sequence[ImageSource], texts: Sequence[str], *, errors: Errors = "raise"
    ) -> list[float] | list[float | RowError]:
        """Return how well each image fits the text in the same place: `(cosine + 1) / 2`, in [0, 1].

        An image is a path, a PIL image, or a NumPy array of uint8, `[H, W, 3]` (RGB) or `[H, W]` (grey). Raises
        `RowError` for an image or a text that cannot be scored. With `errors="return"`, the list holds such a pair's
        error in place of its score. Raises `ValueError` where the two sequences are not of one length.
        """
        for values in (images, texts):
            check_several(values)
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts: each image needs one text")
        if errors not in get_args(Errors):
            raise ValueError(f"errors is {errors!r}; it can be 'raise' or 'return'")
        pairs = list(zip(self._image_features(images, errors), self._text_features(texts, errors), strict=True))
        failures = [next((part for part in pair if isinstance(part, RowError)), None) for pair in pairs]
        whole = [pair for pair, failure in zip(pairs, failures, strict=True) if not failure]
        cosines = (self._stacked(image for image, _ in whole) * self._stacked(text for _, text in whole)).sum(dim=-1)
        scores = iter(PendingScores(cosines, None).wait())
        results = [failure or next(scores) for failure in failures]
        if errors == "raise" and NOT_A_NUMBER in results:
            raise RowError(Reason.NOT_A_NUMBER)
        return results

    def encode_images(self, images: Sequence[ImageSource]) -> Tensor:
        """Return the features of images, `[N, embed_dim]` float32 of length 1, on the CPU.

        The cosine of an image and a text is the product of their features. Images are as in `score`. Raises
        `RowError`.
        """
        return self._stacked(self._image_features(images, "raise"))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the features of texts, `[N, embed_dim]` float32 of length 1, on the CPU.

        A text is cut at the network's context length, the end token kept. Raises `RowError`.
        """
        return self._stacked(self._text_features(texts, "raise"))

    def _image_features(self, images: Sequence[ImageSource], errors: Errors) -> list[Tensor | RowError]:
        size = self.model.sizes.image_size
        load = partial(load_image_source, image_size=size, max_pixels=self.max_pixels)
        return features_of(images, "images", load, self.encoder.encode_images, self.encoder.chunk_rows, errors)

    def _text_features(self, texts: Sequence[str], errors: Errors) -> list[Tensor | RowError]:
        byte_pair_encoder()  # or each thread would build its own
        load = partial(load_text_source, context_length=self.model.sizes.context_length)
        return features_of(texts, "texts", load, self.encoder.encode_texts, self.encoder.chunk_rows, errors)

    def _stacked(self, features: Iterable[Tensor | RowError]) -> Tensor:
        """Return the features in one tensor, `[N, E]`. There is no error among them."""
        tensors = [of_one for of_one in features if isinstance(of_one, Tensor)]
        return torch.stack(tensors) if tensors else torch.empty(0, self.model.sizes.embed_dim)
