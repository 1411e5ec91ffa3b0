"""The time, and where the time of a run goes."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from time import perf_counter


def now() -> str:
    """Return the local time in ISO 8601, to the second, with its offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


LOADING = "loading the model"  # the activity that rates leave out


class Stopwatch:
    """Adds up the seconds that one thread spends in each of a few activities."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def measure(self, activity: str) -> Measurement:
        """Return a context that counts the time spent in its `with` block for `activity`."""
        return Measurement(self.seconds, activity)


class Measurement:
    """Counts the time of a `with` block. A class, since a generator takes three times as long, twice a row."""

    __slots__ = ("_activity", "_seconds", "_start")

    def __init__(self, seconds: defaultdict[str, float], activity: str) -> None:
        self._seconds = seconds
        self._activity = activity

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._activity] += perf_counter() - self._start
