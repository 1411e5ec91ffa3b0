"""The time, and where the time of a run goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter


def now() -> str:
    """Return the local time in ISO 8601, to the second, with its offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


class Stopwatch:
    """Adds up the seconds that one thread spends in each of a few activities."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Count the time spent in the `with` block for `activity`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += perf_counter() - start
