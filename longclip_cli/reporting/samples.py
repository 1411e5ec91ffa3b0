"""Samples of a stream in constant memory: some of its items at random, and those with the highest keys."""

from __future__ import annotations

import heapq
from math import exp, log
from random import Random
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Reservoir(Generic[Item]):
    """Keeps `size` items of a stream, each with the same chance.

    Algorithm L (K.-H. Li, 1994) draws how many items to skip, so that an item that is not kept costs a comparison.
    """

    def __init__(self, size: int, random: Random) -> None:
        self.size = size
        self.items: list[Item] = []
        self.seen = 0
        self._random = random
        self._next = 1  # the number of the item that is kept next
        self._weight = 1.0

    def is_chosen(self) -> bool:
        """Count one more item of the stream, and return whether to `put` it."""
        self.seen += 1
        return self.seen >= self._next

    def put(self, item: Item) -> None:
        """Keep the item that was chosen."""
        if len(self.items) < self.size:
            self.items.append(item)
        else:
            self.items[self._random.randrange(self.size)] = item
        self._next = self.seen + 1
        if len(self.items) == self.size:
            self._weight *= exp(log(self._uniform()) / self.size)
            self._next += int(log(self._uniform()) / log(1 - self._weight)) if self._weight < 1 else 0

    def _uniform(self) -> float:
        return 1 - self._random.random()  # in (0, 1]: its logarithm exists


class Highest(Generic[Item]):
    """Keeps the `size` items of a stream with the highest keys; of equal keys, the first ones."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._heap: list[tuple[float, int, Item]] = []
        self._put = 0

    def is_chosen(self, key: float) -> bool:
        """Return whether to `put` an item with this key."""
        return len(self._heap) < self.size or key > self._heap[0][0]

    def put(self, key: float, item: Item) -> None:
        """Keep the item that was chosen."""
        self._put += 1
        change = heapq.heappush if len(self._heap) < self.size else heapq.heapreplace
        change(self._heap, (key, -self._put, item))

    @property
    def items(self) -> list[Item]:
        """The items that are kept, highest key first."""
        return [item for *_, item in sorted(self._heap, key=lambda kept: kept[:2], reverse=True)]
