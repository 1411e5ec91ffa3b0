"""Worker threads that load rows ahead of the model, bounded in rows and bytes, in order."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from typing import Literal, TypeAlias

from longclip_cli.errors import InputError, RowError
from longclip_cli.pipeline.budget import MemoryBudget
from longclip_cli.pipeline.load import LoadedRow, LoadingRow
from longclip_cli.rows import Mark, Row, Rows
from longclip_cli.stopwatch import Stopwatch

SECONDS_TO_NOTICE_STOP = 0.2
TEXT_BYTES = 8 * 2**10  # of a text that is loaded: its token ids and features
LOADING_NICENESS = 5
Arrival: TypeAlias = Future[LoadingRow | LoadedRow]


def yield_to_the_model() -> None:
    """Give this thread a lower priority than the network's threads.

    The threads of a matrix product wait for the last of them, so none should have to share its core.
    """
    if sys.platform == "linux":  # elsewhere this would be the priority of the whole process
        thread = threading.get_native_id()
        with suppress(OSError):  # some sandboxes forbid it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + LOADING_NICENESS)


class Prefetch:
    """Rows loaded by worker threads while the caller is busy with earlier ones.

    One thread reads `rows`, as many as `ahead` rows before the caller and as `budget` has room for: a row holds its
    `size` and `pixel_bytes` for each image there, until the caller releases it. `workers` threads load the rows. Once
    `stop` is set no more rows are given. Closing it stops the threads, except that a reader which waits for its input
    is left to wait.
    """

    def __init__(
        self,
        rows: Rows,
        load: Callable[[Row], LoadingRow | LoadedRow],
        *,
        workers: int,
        ahead: int,
        is_live: bool,
        stopwatch: Stopwatch,
        stop: threading.Event,
        budget: MemoryBudget,
        pixel_bytes: int,
    ) -> None:
        self._budget = budget
        self._pixel_bytes = pixel_bytes
        self._rows = rows
        self._load = load
        self._is_live = is_live
        self._stopwatch = stopwatch
        self._stop = stop
        self._queue: Queue[Arrival | Mark] = Queue(ahead)
        self._is_closed = threading.Event()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="load", initializer=yield_to_the_model)
        # A daemon, since nothing can wake a thread that waits for a line that nobody writes.
        threading.Thread(target=self._read, name="read", daemon=True).start()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_closed.set()
        with suppress(Empty):
            while True:  # wakes a reader that waits for room; it puts nothing else once this is closed
                self._queue.get_nowait()
        self._pool.shutdown(cancel_futures=True)

    def chunks(self, first: int, most: int) -> Iterator[list[LoadedRow]]:
        """Yield the rows in order: `first` of them, then twice as many at a time up to `most`.

        If no more have arrived, those that have are a chunk, and an empty one follows: what the caller holds back, it
        should finish. An error in reading or loading is raised once the rows before it have been given.
        """
        chunk: list[LoadedRow] = []
        size = min(first, most)
        failure: Exception | None = None
        try:
            for arrival in self._arrivals():
                if arrival is not Mark.PAUSE:
                    with self._stopwatch.measure("images"):
                        row = arrival.result()
                        chunk.append(row.wait() if isinstance(row, LoadingRow) else row)
                if chunk and (arrival is Mark.PAUSE or len(chunk) == size):
                    yield chunk
                    chunk, size = [], min(2 * size, most)
                if arrival is Mark.PAUSE:
                    yield []
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
        yield []
        if failure:
            raise failure

    def release(self, rows: Iterable[LoadedRow]) -> None:
        """Give back the memory of rows that are written, so that others can be read."""
        self._budget.release(sum(self._size(loaded.row) for loaded in rows))

    def _size(self, row: Row) -> int:
        if isinstance(row.inputs, RowError):
            return row.size
        return row.size + self._pixel_bytes * len(row.inputs.images) + TEXT_BYTES * len(row.inputs.texts)

    def _arrivals(self) -> Iterator[Arrival | Literal[Mark.PAUSE]]:
        """Yield the rows that are being loaded, and `PAUSE` where the next may take long."""
        while True:
            if self._is_live and self._queue.empty():
                yield Mark.PAUSE
            with self._stopwatch.measure("input"):
                arrival = self._next()
            if arrival is Mark.END:
                return
            yield arrival

    def _next(self) -> Arrival | Mark:
        if self._stop.is_set():
            return Mark.END
        try:
            return self._queue.get(timeout=SECONDS_TO_NOTICE_STOP)
        except Empty:  # the reader may be busy with a million blank lines
            return Mark.PAUSE

    def _read(self) -> None:
        try:
            for row in self._rows:
                if row is not Mark.PAUSE:
                    self._hold(self._size(row))
                if self._is_closed.is_set():
                    return
                self._put(row if row is Mark.PAUSE else self._pool.submit(self._load, row))
        except BaseException as error:  # also what is no `Exception`, such as a panic of Rust: the caller waits
            failed: Arrival = Future()
            failed.set_exception(error if isinstance(error, Exception) else InputError(f"unreadable: {error!r}"))
            self._put(failed)
        self._put(Mark.END)

    def _hold(self, size: int) -> None:
        """Wait until the budget has room for a row, or no row is wanted any more."""
        if not self._budget.hold(size):
            self._put(Mark.PAUSE)  # or the caller could wait for more rows before it releases those it has
            while not self._is_closed.is_set() and not self._budget.hold(size, SECONDS_TO_NOTICE_STOP):
                pass

    def _put(self, item: Arrival | Mark) -> None:
        """Put an item into the queue once there is room, unless no row is wanted any more."""
        if not self._is_closed.is_set():
            self._queue.put(item)
