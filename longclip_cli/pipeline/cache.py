"""Images and texts that rows share, so that none that was met a short while ago is read or encoded again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from torch import Tensor

Shared = TypeVar("Shared")


@dataclass(eq=False, slots=True)
class ImageInput:
    """An image on its way through the network, shared by all rows that show it.

    `pixel_values` is `[3, n, n]` uint8 until the image is encoded; `features`, from then on, is `[E]` float32 of
    length 1, on the device.
    """

    pixel_values: Tensor | None
    features: Tensor | None = None


@dataclass(eq=False, slots=True)
class TextInput:
    """A text on its way through the network, shared by all rows that hold it.

    `token_ids` is there until the text is encoded; `features`, from then on, is `[E]` float32 of length 1, on the
    device. `is_cut` tells that the text was longer than the network reads.
    """

    token_ids: list[int] | None
    is_cut: bool
    features: Tensor | None = None


class Memory(Generic[Shared]):
    """What was used last, by key and at most `size` of it; safe to use from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._recent: dict[Hashable, Future[Shared]] = {}  # the one used last comes last
        self._lock = Lock()

    def recall(self, key: Hashable, make: Callable[[], Shared]) -> Future[Shared]:
        """What is remembered under a key. Only the first caller makes it; others may have to wait for the result.

        Failures are told to those who wait for them, and not remembered.
        """
        with self._lock:
            future = self._recent.pop(key, None)
            is_new = future is None
            self._recent[key] = future = future or Future()
            if len(self._recent) > self._size:
                del self._recent[next(iter(self._recent))]
        if is_new:
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
