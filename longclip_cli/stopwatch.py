"""Where the time of a run goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Stopwatch:
    """Adds up the seconds that one thread spends in each of a few named activities."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Counts the time spent in the `with` block for `activity`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += perf_counter() - start
