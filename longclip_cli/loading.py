"""Worker threads that turn lines into Pairs, ahead of the model but boundedly so, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread

from torch import Tensor

from longclip_cli.errors import RowError
from longclip_cli.images import load_image
from longclip_cli.inputs import Line
from longclip_cli.records import Record, parse_line
from longclip_cli.stopwatch import Stopwatch
from longclip_cli.tokenizer import TokenizedText, tokenize

SECONDS_TO_NOTICE_STOP = 0.2


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and a text as the network takes them: `[3, n, n]` uint8, and token ids."""

    pixel_values: Tensor
    text: TokenizedText


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A record with what is to be scored, or with the error that says why it can't be."""

    record: Record
    pair: Pair | RowError


@dataclass(frozen=True)
class RowLoader:
    """Turns a line into a `LoadedRow`; safe to call from several threads."""

    image_key: str
    text_key: str
    image_root: Path
    image_size: int
    context_length: int

    def __call__(self, line: Line) -> LoadedRow:
        record = parse_line(line)
        try:
            path, text = record.image_path(self.image_key), record.text(self.text_key)
            pixel_values = load_image(self.image_root / path, self.image_size)
            return LoadedRow(record, Pair(pixel_values, tokenize(text, self.context_length)))
        except RowError as error:
            # A traceback would keep the image it was raised about in memory until the row is written.
            error.__cause__ = error.__context__ = None
            return LoadedRow(record, error.with_traceback(None))


class Prefetch:
    """Rows loaded by worker threads while the caller is busy with earlier ones.

    One thread reads `lines`, as many as `ahead` rows before the caller; `workers` threads load them. Once `stop`
    is set no more rows are given. Closing it stops the threads, except that a reader which waits for its input is
    left to wait.
    """

    def __init__(
        self,
        lines: Iterable[Line],
        load: Callable[[Line], LoadedRow],
        *,
        workers: int,
        ahead: int,
        is_live: bool,
        stopwatch: Stopwatch,
        stop: Event,
    ) -> None:
        self._lines = lines
        self._load = load
        self._is_live = is_live
        self._stopwatch = stopwatch
        self._stop = stop
        self._queue: Queue[Future[LoadedRow] | None] = Queue(ahead)  # None is the end
        self._is_closed = Event()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="load")
        # A daemon, since nothing can wake a thread that waits for a line that nobody writes.
        Thread(target=self._read, name="read", daemon=True).start()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_closed.set()
        with suppress(Empty):
            while True:  # makes room, so that a reader that waits for it sees the event
                self._queue.get_nowait()
        self._pool.shutdown(cancel_futures=True)

    def chunks(self, rows: int) -> Iterator[list[LoadedRow]]:
        """The rows in order, as many at a time as `rows` or as have arrived.

        An empty chunk says that no more have arrived: what the caller holds back, it should give out.
        An error in reading or loading is raised once the rows before it have been given.
        """
        chunk: list[LoadedRow] = []
        failure: Exception | None = None
        try:
            for future in self._arrivals():
                if future:
                    with self._stopwatch.measure("images"):
                        chunk.append(future.result())
                if chunk and (not future or len(chunk) == rows):
                    yield chunk
                    chunk = []
                if not future:
                    yield []
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
        yield []
        if failure:
            raise failure

    def _arrivals(self) -> Iterator[Future[LoadedRow] | None]:
        """The rows that are being loaded; `None` before a wait for a line that has yet to be written."""
        while True:
            if self._is_live and self._queue.empty():
                yield None
            with self._stopwatch.measure("input"):
                future = self._next()
            if not future:
                return
            yield future

    def _next(self) -> Future[LoadedRow] | None:
        while not self._stop.is_set():
            with suppress(Empty):
                return self._queue.get(timeout=SECONDS_TO_NOTICE_STOP)
        return None

    def _read(self) -> None:
        try:
            for line in self._lines:
                self._queue.put(self._pool.submit(self._load, line))
                if self._is_closed.is_set():
                    return
        except Exception as error:
            if self._is_closed.is_set():  # the pool takes no more
                return
            failed: Future[LoadedRow] = Future()
            failed.set_exception(error)
            self._queue.put(failed)
        self._queue.put(None)
