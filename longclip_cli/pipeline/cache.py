"""A bounded cache of images and texts, so that what several rows have is loaded and encoded once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from torch import Tensor

Shared = TypeVar("Shared")
Content = TypeVar("Content")


@dataclass(eq=False, slots=True)
class EncoderInput(Generic[Content]):
    """An image or a text on its way through the network, shared by all rows that have it.

    Loading threads create it with its `content`. From then on only the thread that encodes it writes to it, once, in
    `settle`: `features`, `[E]` float32 of length 1 on the device, then take the place of the content.
    """

    content: Content | None
    features: Tensor | None = None

    def settle(self, features: Tensor) -> None:
        """Keep a copy of the features and drop the content.

        A copy, since a view of one image that is remembered would keep its whole batch in memory.
        """
        self.features, self.content = features.clone(), None


@dataclass(eq=False, slots=True)
class ImageInput(EncoderInput[Tensor]):
    """An image, whose content is its pixel values, `[3, n, n]` uint8.

    `is_rotated` says that its EXIF orientation asks for a rotation that was not applied.
    """

    is_rotated: bool = False


@dataclass(eq=False, slots=True)
class TextInput(EncoderInput[list[int]]):
    """A text, whose content is its token ids; `is_cut` says that it was longer than the network reads."""

    is_cut: bool = False


class Memory(Generic[Shared]):
    """Keeps what was used last, by key and at most `size` of it; safe to use from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._recent: dict[Hashable, Future[Shared]] = {}  # the one used last comes last
        self._lock = Lock()

    def recall(self, key: Hashable, make: Callable[[], Shared]) -> Future[Shared]:
        """Return what is remembered under a key. Only the first caller makes it; others may have to wait.

        A failure is raised for those who wait for it, and not remembered.
        """
        with self._lock:
            remembered = self._recent.pop(key, None)
            future: Future[Shared] = Future() if remembered is None else remembered
            self._recent[key] = future
            if len(self._recent) > self._size:
                del self._recent[next(iter(self._recent))]
        if remembered is None:
            try:
                future.set_result(make())
            except BaseException as error:  # also what tokenizers' Rust raises: somebody may be waiting
                with self._lock:
                    if self._recent.get(key) is future:
                        del self._recent[key]
                # A traceback would keep what the error was raised about, such as a large image, in memory.
                error.__cause__ = error.__context__ = None
                future.set_exception(error.with_traceback(None))
        return future
