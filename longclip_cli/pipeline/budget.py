"""The bytes that rows may hold while they are ahead of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition

MEMORY_BYTES = 512 * 2**20


class MemoryBudget:
    """Bounds in bytes what waits and what is being worked on; safe to use from several threads.

    Rows that wait (their lines and pixels) hold at most half of `limit`, so that work on the first of them can always
    go on. Work in progress (images being decoded) shares the rest and what rows leave free. A
    row or piece of work that is larger than its part starts once no other holds anything.
    """

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self.limit = limit
        self._changed = Condition()
        self._rows = 0  # bytes held by rows that wait
        self._work = 0  # bytes held by work in progress

    def hold(self, size: int, seconds: float = 0) -> bool:
        """Return whether `size` bytes are now held for a row, after a wait for as much as `seconds`.

        Only the thread that reads rows calls this.
        """
        with self._changed:
            if not self._has_room(size) and not self._changed.wait_for(lambda: self._has_room(size), timeout=seconds):
                return False
            self._rows += size
            return True

    def _has_room(self, size: int) -> bool:
        return not self._rows or self._rows + size <= self.limit // 2

    def release(self, size: int) -> None:
        """Give back the bytes of rows that are written."""
        with self._changed:
            self._rows -= size
            self._changed.notify_all()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Hold `size` bytes for the work of the `with` block; wait until they are free.

        Blocks must not be nested.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._work or self._rows + self._work + size <= self.limit)
            self._work += size
        try:
            yield
        finally:
            with self._changed:
                self._work -= size
                self._changed.notify_all()

    def alone(self) -> AbstractContextManager[None]:
        """Run the `with` block while no other work is in progress."""
        return self.reserve(self.limit)
